//! Small facts to test with, written as short texts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{
    ClientHeader, EndpointSlice, Family, Health, Hints, LocalPodsSetting, LocalhostNodePorts, Mark,
    MasqueradeAll, Node, NodePort, NodePortSetting, Policy, Port, Protocol, Service, ServiceKind,
    ServiceName, ServicePort, ServicePortName, Settings, SliceEndpoint, SlicePort,
};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(ip).collect()
}

pub(crate) fn ranges(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|range| range.parse().expect("a range")).collect()
}

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).expect("a port")
}

pub(crate) fn node_port(number: u16) -> NodePort {
    NodePort::new(number).expect("a port")
}

/// Pods of this node are told by 10.180.0.0/16 and `fd00:180::/32`, node ports are served everywhere.
pub(crate) fn settings() -> Settings {
    Settings {
        masquerade_all: MasqueradeAll::No,
        mark: Mark(0x4000),
        local_pods: LocalPodsSetting::Ranges(ranges("10.180.0.0/16 fd00:180::/32")),
        node_ports: NodePortSetting::Ranges(Vec::new()),
        localhost_node_ports: LocalhostNodePorts::Serve,
    }
}

/// Node n1 in zone z1, with an interface in each of two networks.
pub(crate) fn node() -> Node {
    Node {
        name: "n1".into(),
        zone: "z1".into(),
        ips: ips("192.168.0.1 fd00::1"),
        interface_addresses: ips("127.0.0.1 ::1 192.168.0.1 172.16.0.1 fd00::1"),
        pod_ranges: Vec::new(),
    }
}

/// A `ClusterIP` Service with port 80/TCP named http; `age` is the second in which it was made.
pub(crate) fn service(age: i64, cluster_ips: &str) -> Service {
    Service {
        created: Some(age),
        kind: ServiceKind::ClusterIp,
        cluster_ips: ips(cluster_ips),
        ports: vec![service_port("http", Protocol::Tcp, 80)],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        affinity: None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
        health_check_node_port: None,
        weights: BTreeMap::new(),
        scheduler: None,
        header: ClientHeader::None,
    }
}

pub(crate) fn service_port(name: &str, protocol: Protocol, number: u16) -> ServicePort {
    ServicePort { name: name.into(), protocol, port: port(number), node_port: None }
}

pub(crate) fn service_name(name: &str) -> ServiceName {
    ServiceName::new("ns", name)
}

pub(crate) fn http_of(name: &str) -> ServicePortName {
    ServicePortName { service: service_name(name), port: "http".into(), protocol: Protocol::Tcp }
}

/// A slice of a Service with port 8080/TCP named http, its family that of its first endpoint.
pub(crate) fn slice(owner: &str, endpoints: &[&str]) -> EndpointSlice {
    let endpoints: Vec<_> = endpoints.iter().copied().map(endpoint).collect();
    EndpointSlice {
        service: service_name(owner),
        family: endpoints.first().map_or(Family::V4, |endpoint| Family::of(endpoint.address)),
        ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: port(8080) }],
        endpoints,
    }
}

/// An endpoint: its address, `terminating` or `unready` if it is not ready, the node that it is on as `on:n1`,
/// and hints as `zone:z1`, `node:n1`, each as often as needed.
pub(crate) fn endpoint(text: &str) -> SliceEndpoint {
    let mut words = text.split_whitespace();
    let address = ip(words.next().expect("an address comes first"));
    let mut endpoint =
        SliceEndpoint { address, health: Health::Ready, node: None, zone: None, weight: None, hints: None };
    let mut hints = Hints::default();
    for word in words {
        match word.split_once(':') {
            None if word == "terminating" => endpoint.health = Health::Terminating,
            None if word == "unready" => endpoint.health = Health::Unready,
            Some(("on", name)) => endpoint.node = Some(name.into()),
            Some(("zone", name)) => hints.zones.push(name.into()),
            Some(("node", name)) => hints.nodes.push(Arc::from(name)),
            None | Some(_) => panic!("{word:?} says nothing about an endpoint"),
        }
    }
    endpoint.hints = (hints != Hints::default()).then(|| Box::new(hints));
    endpoint
}
