//! Small facts to test with.

use std::collections::BTreeMap;
use std::sync::Arc;

use service_plan::{
    EndpointSlice, FactChange, Facts, Family, Health, LocalPodsSetting, LocalhostNodePorts, Mark,
    MasqueradeAll, Node, NodePortSetting, Policy, Port, Protocol, Service, ServiceKind, ServiceName,
    ServicePort, Settings, SliceEndpoint, SliceName, SlicePort,
};

/// What an operator may decide.
pub(crate) fn settings() -> Settings {
    Settings {
        masquerade_all: MasqueradeAll::No,
        mark: Mark(0x4000),
        local_pods: LocalPodsSetting::NodeRanges,
        node_ports: NodePortSetting::Primary(Vec::new()),
        localhost_node_ports: LocalhostNodePorts::Ignore,
    }
}

/// A node, and nothing on it.
pub(crate) fn facts() -> Facts {
    let node = Node {
        name: "n1".into(),
        zone: "".into(),
        ips: Vec::new(),
        interface_addresses: Vec::new(),
        pod_ranges: Vec::new(),
    };
    Facts::new(settings(), node)
}

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).expect("a port")
}

/// A Service with port 80.
pub(crate) fn service(name: &str, cluster_ip: &str) -> FactChange {
    let ports =
        vec![ServicePort { name: "".into(), protocol: Protocol::Tcp, port: port(80), node_port: None }];
    let service = Service {
        created: None,
        kind: ServiceKind::ClusterIp,
        cluster_ips: vec![cluster_ip.parse().expect("an address")],
        ports,
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        affinity: None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
        health_check_node_port: None,
        weights: BTreeMap::new(),
        scheduler: None,
        header: service_plan::ClientHeader::None,
    };
    FactChange::Service(ServiceName::new("ns", name), Some(Arc::new(service)))
}

/// The one slice of a Service, with one port and ready endpoints.
pub(crate) fn endpoints(service: &str, protocol: Protocol, number: u16, addresses: &[&str]) -> FactChange {
    let endpoint = |address: &&str| SliceEndpoint {
        address: address.parse().expect("an address"),
        health: Health::Ready,
        node: None,
        zone: None,
        weight: None,
        hints: None,
    };
    let slice = EndpointSlice {
        service: ServiceName::new("ns", service),
        family: Family::V4,
        ports: vec![SlicePort { name: "".into(), protocol, port: port(number) }],
        endpoints: addresses.iter().map(endpoint).collect(),
    };
    FactChange::EndpointSlice(SliceName::new("ns", service), Some(Arc::new(slice)))
}
