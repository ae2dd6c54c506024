//! Endpoints that come and go for ever: what `Facts` keeps of those that are gone.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bench::figure::{Figure, Figures, Goal};
use service_plan::{
    ClientHeader, EndpointSlice, FactChange, Facts, Family, Health, LocalPodsSetting, LocalhostNodePorts,
    Mark, MasqueradeAll, Node, NodePortSetting, Policy, Port, Protocol, Service, ServiceKind, ServiceName,
    ServicePort, Settings, SliceEndpoint, SliceName, SlicePort, plan,
};

const SERVICES: u32 = 1000;
const ENDPOINTS: u32 = 10;
const FLIPS: u32 = 1_000_000;

/// By then all has been allocated that is ever needed.
const SETTLED: u32 = 100_000;

const GROWTH: Goal = Goal::AtMost(1.0);

/// One endpoint is replaced by one of an address that was never there, and its Service is planned again.
pub(crate) fn measure() -> Result<()> {
    let mut figures = Figures::default();
    let mut facts = Facts::new(settings(), node());
    let web: Arc<str> = "web".into();
    for number in 0..SERVICES {
        facts.apply(FactChange::Service(name(number), Some(Arc::new(service(number, &web)?))));
        facts.apply(FactChange::EndpointSlice(slice_name(number), Some(slice(number, 0, &web)?)));
    }
    let mut settled = 0.0;
    for flip in 1..=FLIPS {
        let number = flip % SERVICES;
        let slice = slice(number, flip / SERVICES, &web)?;
        let touched = facts.apply(FactChange::EndpointSlice(slice_name(number), Some(slice)));
        let (plan, problems) = plan(&facts, &touched, Family::V4);
        ensure!(problems.is_empty(), "a flip is planned without problems: {problems:?}");
        std::hint::black_box(plan);
        if flip == SETTLED {
            settled = resident()?;
        }
    }
    let of = format!("{FLIPS} flips, {SERVICES} x {ENDPOINTS}");
    let growth = Figure::new(format!("RSS growth from flip {SETTLED} on, {of}"), "MB", resident()? - settled);
    figures.add(growth.goal(GROWTH))?;
    figures.print_table().map(drop)
}

fn settings() -> Settings {
    Settings {
        masquerade_all: MasqueradeAll::No,
        mark: Mark(1 << 14),
        local_pods: LocalPodsSetting::NodeRanges,
        node_ports: NodePortSetting::Ranges(Vec::new()),
        localhost_node_ports: LocalhostNodePorts::Ignore,
    }
}

fn node() -> Node {
    Node {
        name: "node-1".into(),
        zone: "".into(),
        ips: vec![IpAddr::from([192, 0, 2, 1])],
        interface_addresses: Vec::new(),
        pod_ranges: Vec::new(),
    }
}

fn name(number: u32) -> ServiceName {
    ServiceName::new("default", &format!("service-{number}"))
}

fn slice_name(number: u32) -> SliceName {
    SliceName::new("default", &format!("service-{number}-a"))
}

fn service(number: u32, web: &Arc<str>) -> Result<Service> {
    let port = Port::new(80).context("a port")?;
    Ok(Service {
        created: None,
        kind: ServiceKind::ClusterIp,
        cluster_ips: vec![IpAddr::from(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 10)) + number))],
        ports: vec![ServicePort { name: Arc::clone(web), protocol: Protocol::Tcp, port, node_port: None }],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        affinity: None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
        health_check_node_port: None,
        weights: std::collections::BTreeMap::new(),
        scheduler: None,
        header: ClientHeader::None,
    })
}

/// As it is after so many flips: its endpoints are so many addresses further.
fn slice(number: u32, flips: u32, web: &Arc<str>) -> Result<Arc<EndpointSlice>> {
    let port = Port::new(8080).context("a port")?;
    let endpoint = |place: u32| SliceEndpoint {
        address: IpAddr::from(Ipv4Addr::from((10 << 24) + number * 16_384 + flips + place)),
        health: Health::Ready,
        node: Some("node-2".into()),
        zone: None,
        weight: None,
        hints: None,
    };
    Ok(Arc::new(EndpointSlice {
        service: name(number),
        family: Family::V4,
        ports: vec![SlicePort { name: Arc::clone(web), protocol: Protocol::Tcp, port }],
        endpoints: (0..ENDPOINTS).map(endpoint).collect(),
    }))
}

/// MB of this process.
fn resident() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has a size")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
