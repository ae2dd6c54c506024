//! `--proxy-mode auto`: the best mode that this kernel can do, found out by doing it where nobody sees it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use kernel_io::netns::{Loopback, Netns};
use kernel_io::sysctl;
use service_plan::{
    EndpointSlice, FactChange, Facts, Family, Health, LocalPodsSetting, LocalhostNodePorts, Mark,
    MasqueradeAll, Node, NodePort, NodePortSetting, Plan, Policy, Port, Protocol, Seconds, Service,
    ServiceKind, ServiceName, ServicePort, Settings, SliceEndpoint, SliceName, SlicePort, Touched, plan,
};
use tracing::info;

use crate::modes::{self, ProxyMode};

/// From this kernel on upstream's nftables mode works; it decides where nothing can be tried.
const KERNEL_OF_NFTABLES: (u32, u32) = (5, 13);

/// nftables, whose work does not grow with the cluster; iptables where this kernel cannot do it. Logs why.
pub fn best_mode() -> ProxyMode {
    match tried() {
        Ok(why) => {
            info!(mode = "nftables", why, "auto chose the mode");
            ProxyMode::Nftables
        }
        Err(why) => {
            info!(mode = "iptables", why, "auto chose the mode, since nftables cannot be used");
            ProxyMode::Iptables
        }
    }
}

/// Writes a Service with all that a Service may have into a new network namespace, which nothing passes through.
fn tried() -> Result<&'static str, String> {
    let opened = modes::nftables_here().map_err(|error| error.to_string())?;
    drop(opened);
    let Ok(netns) = Netns::create(Loopback::Down) else {
        return guessed(&sysctl::read("kernel.osrelease").unwrap_or_default());
    };
    netns.run(write_sample).map_err(|error| error.to_string())??;
    Ok("this kernel took all of its rules, in a network namespace of their own")
}

/// What the kernel's version says; without the privilege to make a namespace nothing can be tried.
fn guessed(release: &str) -> Result<&'static str, String> {
    match crate::ipvs::kernel_version(release) {
        Some(version) if version < KERNEL_OF_NFTABLES => {
            Err(format!("kernel {release} is older than {}.{}", KERNEL_OF_NFTABLES.0, KERNEL_OF_NFTABLES.1))
        }
        Some(_) | None => Ok("this kernel is young enough; without CAP_SYS_ADMIN it was not tried"),
    }
}

fn write_sample() -> Result<(), String> {
    for (family, mut reconciler) in modes::nftables_here().map_err(|error| error.to_string())? {
        reconciler.want(&sample(family));
        let pass = reconciler.write();
        if let Some(refusal) = pass.refused.first() {
            return Err(format!("{family}: {}", refusal.error));
        }
        if let Some(failure) = pass.failure {
            return Err(format!("{family}: {failure}"));
        }
    }
    Ok(())
}

/// A node port with a Local policy, source ranges, affinity, and two endpoints.
fn sample(family: Family) -> Plan {
    let (ours, theirs, range) = match family {
        Family::V4 => ("192.0.2.1", ["192.0.2.2", "192.0.2.3"], "192.0.2.0/24"),
        Family::V6 => ("2001:db8::1", ["2001:db8::2", "2001:db8::3"], "2001:db8::/32"),
    };
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address of documentation");
    let range = range.parse().expect("a range of documentation");
    let settings = Settings {
        masquerade_all: MasqueradeAll::No,
        mark: Mark(1),
        local_pods: LocalPodsSetting::Ranges(vec![range]),
        node_ports: NodePortSetting::Primary(Vec::new()),
        localhost_node_ports: LocalhostNodePorts::Ignore,
    };
    let node = Node {
        name: "sample".into(),
        zone: "".into(),
        ips: vec![ip(ours)],
        interface_addresses: vec![ip(ours)],
        pod_ranges: Vec::new(),
    };
    let mut facts = Facts::new(settings, node);
    let name = ServiceName::new("sample", "sample");
    let port = Port::new(80).expect("it is not 0");
    let (protocol, node_port) = (Protocol::Tcp, NodePort::new(30000));
    let service_port = ServicePort { name: "".into(), protocol, port, node_port };
    let service = Service {
        created: None,
        kind: ServiceKind::LoadBalancer,
        cluster_ips: vec![ip(ours)],
        ports: vec![service_port],
        external_ips: vec![ip(theirs[0])],
        load_balancer_ips: vec![ip(theirs[1])],
        source_ranges: vec![range],
        affinity: Some(Seconds(10)),
        external_policy: Policy::Local,
        internal_policy: Policy::Cluster,
        health_check_node_port: None,
        weights: BTreeMap::new(),
        scheduler: None,
        header: service_plan::ClientHeader::None,
    };
    let endpoint = |address: &str, node: &str| SliceEndpoint {
        address: ip(address),
        health: Health::Ready,
        node: Some(node.into()),
        zone: None,
        weight: None,
        hints: None,
    };
    let slice = EndpointSlice {
        service: name.clone(),
        family,
        ports: vec![SlicePort { name: "".into(), protocol, port }],
        endpoints: vec![endpoint(theirs[0], "sample"), endpoint(theirs[1], "other")],
    };
    facts.apply(FactChange::Service(name, Some(Arc::new(service))));
    facts.apply(FactChange::EndpointSlice(SliceName::new("sample", "sample"), Some(Arc::new(slice))));
    plan(&facts, &Touched::everything(), family).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_a_service_with_all_it_may_have() {
        for family in Family::BOTH {
            let plan = sample(family);
            let ports: Vec<_> = plan.services.iter().flat_map(|(_, ports)| ports).collect();
            let [port] = &ports[..] else { panic!("{ports:?}") };
            assert_eq!((port.cluster.len(), port.local.len()), (2, 1));
            assert_eq!((port.entrances.len(), port.affinity), (4, Some(Seconds(10))));
        }
    }

    #[test]
    fn an_old_kernel_is_known_by_its_version() {
        assert!(guessed("5.13.0-1").is_ok() && guessed("6.1.0").is_ok() && guessed("").is_ok());
        assert_eq!(guessed("5.4.0-26"), Err("kernel 5.4.0-26 is older than 5.13".to_owned()));
    }
}
