//! Plans that were written down by hand.

use std::collections::BTreeSet;

use ipnet::IpNet;
use service_plan::{
    Endpoint, EndpointComments, Family, Locality, Mark, MasqueradeAll, NodePort, PoolName, Port, Protocol,
    Seconds, ServiceName, ServicePortName,
};

use super::*;
use crate::Sender;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn range(text: &str) -> IpNet {
    text.parse().expect("a range")
}

fn port(number: u16) -> Port {
    Port::new(number).expect("a port")
}

fn host() -> Host {
    Host {
        addresses: BTreeSet::from([ip("192.168.0.10"), ip("192.168.0.11")]),
        pod_interface: "cali0".to_owned(),
        outside_interface: "eth0".to_owned(),
    }
}

fn node() -> NodePlan {
    NodePlan {
        family: Family::V4,
        local_pods: Some(LocalPods::Range(range("10.180.0.0/24"))),
        masquerade_all: MasqueradeAll::No,
        mark: Mark(0x4000),
        addresses: Vec::new(),
        node_ports: NodePortAddresses::All,
        localhost_node_ports: LocalhostNodePorts::Ignore,
        endpoint_comments: EndpointComments::Yes,
        service_ranges: Vec::new(),
    }
}

fn forward(pool: PoolName, masquerade: Masquerade) -> Verdict {
    Verdict::Forward { pool, masquerade }
}

fn service(entrances: Vec<Entrance>) -> ServicePlan {
    let endpoint = |text: &str, locality| Endpoint {
        at: text.parse().expect("an address"),
        locality,
        weight: service_plan::Weight::ONE,
    };
    let local = endpoint("10.180.0.1:80", Locality::Local);
    ServicePlan {
        name: ServicePortName {
            service: ServiceName::new("ns", "web"),
            port: "".into(),
            protocol: Protocol::Tcp,
        },
        cluster: vec![local, endpoint("10.180.1.7:80", Locality::Remote)],
        local: vec![local],
        affinity: None,
        scheduler: None,
        header: service_plan::ClientHeader::None,
        entrances,
        named_on_node: Vec::new(),
        serving: Vec::new(),
        health_check: None,
    }
}

fn read(node: &NodePlan, service: ServicePlan, from: Sender, to: &str) -> String {
    let packet = Packet { from, protocol: Protocol::Tcp, to: to.parse().expect("an address and port") };
    match (PlanReader { node, services: &[service], host: &host() }).outcome(&packet) {
        Ok(outcome) => outcome.to_string(),
        Err(puzzle) => format!("? {puzzle}"),
    }
}

#[test]
fn the_first_source_that_fits_decides() {
    let verdicts = vec![
        (Source::Outside(vec![range("10.0.0.0/8"), range("192.168.0.10/32")]), Verdict::Drop),
        (Source::Pod, forward(PoolName::Cluster, Masquerade::No)),
        (Source::Node, forward(PoolName::Cluster, Masquerade::Yes)),
        (Source::Anyone, forward(PoolName::Local, Masquerade::No)),
    ];
    let at = Address::LoadBalancerIp(ip("1.2.3.4"), port(80));
    let rows = [
        (Sender::Outside(ip("203.0.113.9")), "dropped"),
        (Sender::Pod(ip("10.180.0.9")), "one of 10.180.0.1:80 10.180.1.7:80"),
        (Sender::Pod(ip("10.180.0.1")), "one of 10.180.0.1:80(masqueraded) 10.180.1.7:80"),
        (Sender::Node(ip("192.168.0.10")), "one of 10.180.0.1:80 10.180.1.7:80, masqueraded"),
        (Sender::Node(ip("192.168.0.11")), "dropped"),
        (Sender::Outside(ip("10.1.1.1")), "one of 10.180.0.1:80"),
    ];
    for (from, expected) in rows {
        let service = service(vec![Entrance { at, verdicts: verdicts.clone() }]);
        assert_eq!(read(&node(), service, from, "1.2.3.4:80"), expected, "{from}");
    }
}

#[test]
fn an_address_that_is_named_wins_over_a_node_port() {
    let entrance = |at, verdict| Entrance { at, verdicts: vec![(Source::Anyone, verdict)] };
    let number = NodePort::new(30001).expect("a node port");
    let service = service(vec![
        entrance(Address::NodePort(number), Verdict::Reject),
        entrance(Address::ExternalIp(ip("192.168.0.10"), port(30001)), Verdict::Drop),
    ]);
    let from = Sender::Outside(ip("203.0.113.9"));
    assert_eq!(read(&node(), service.clone(), from, "192.168.0.10:30001"), "dropped");
    assert_eq!(read(&node(), service, from, "192.168.0.11:30001"), "rejected");
}

#[test]
fn node_ports_are_served_where_the_node_says() {
    let all = NodePortAddresses::All;
    let some = NodePortAddresses::Only(vec![ip("192.168.0.11")]);
    let rows = [
        (&all, LocalhostNodePorts::Ignore, "192.168.0.10:30001", "rejected"),
        (&all, LocalhostNodePorts::Ignore, "192.168.0.12:30001", "untouched"),
        (&all, LocalhostNodePorts::Ignore, "127.0.0.1:30001", "untouched"),
        (&all, LocalhostNodePorts::Serve, "127.0.0.9:30001", "rejected"),
        (&some, LocalhostNodePorts::Ignore, "192.168.0.10:30001", "untouched"),
        (&some, LocalhostNodePorts::Ignore, "192.168.0.11:30001", "rejected"),
        (&some, LocalhostNodePorts::Serve, "127.0.0.1:30001", "rejected"),
        (&some, LocalhostNodePorts::Serve, "127.0.0.9:30001", "untouched"),
    ];
    for (node_ports, localhost_node_ports, to, expected) in rows {
        let node = NodePlan { node_ports: node_ports.clone(), localhost_node_ports, ..node() };
        let at = Address::NodePort(NodePort::new(30001).expect("a node port"));
        let service = service(vec![Entrance { at, verdicts: vec![(Source::Anyone, Verdict::Reject)] }]);
        assert_eq!(read(&node, service, Sender::Node(ip("192.168.0.10")), to), expected, "{to}");
    }
}

#[test]
fn pods_are_told_by_range_or_by_interface() {
    let by_name = LocalPods::Interface("cali0".into());
    let by_other_name = LocalPods::Interface("cali".into());
    let by_prefix = LocalPods::InterfacePrefix("cali".into());
    let by_range = LocalPods::Range(range("10.180.0.0/24"));
    let pod = Sender::Pod(ip("10.180.9.9"));
    let outside = Sender::Outside(ip("203.0.113.9"));
    let node_in_range = Sender::Node(ip("10.180.0.254"));
    let rows = [
        (Some(&by_name), pod, "rejected"),
        (Some(&by_other_name), pod, "dropped"),
        (Some(&by_prefix), pod, "rejected"),
        (Some(&by_prefix), outside, "dropped"),
        (Some(&by_prefix), node_in_range, "dropped"),
        (Some(&by_range), pod, "dropped"),
        (Some(&by_range), node_in_range, "rejected"),
        (None, pod, "dropped"),
    ];
    for (local_pods, from, expected) in rows {
        let node = NodePlan { local_pods: local_pods.cloned(), ..node() };
        let verdicts = vec![(Source::Pod, Verdict::Reject), (Source::Anyone, Verdict::Drop)];
        let service =
            service(vec![Entrance { at: Address::ClusterIp(ip("172.30.0.41"), port(80)), verdicts }]);
        assert_eq!(read(&node, service, from, "172.30.0.41:80"), expected, "{local_pods:?} {from}");
    }
}

#[test]
fn affinity_keeps_a_client() {
    let verdicts = vec![(Source::Anyone, forward(PoolName::Local, Masquerade::No))];
    let entrances = vec![Entrance { at: Address::ClusterIp(ip("172.30.0.41"), port(80)), verdicts }];
    let service = ServicePlan { affinity: Some(Seconds(10800)), ..service(entrances) };
    let from = Sender::Pod(ip("10.180.0.9"));
    assert_eq!(read(&node(), service, from, "172.30.0.41:80"), "one of 10.180.0.1:80, kept");
}

#[test]
fn a_plan_without_a_verdict_for_the_sender_is_a_puzzle() {
    let at = Address::ClusterIp(ip("172.30.0.41"), port(80));
    let service = service(vec![Entrance { at, verdicts: vec![(Source::Node, Verdict::Drop)] }]);
    let from = Sender::Pod(ip("10.180.0.9"));
    let expected = "? the plan has no verdict for this sender at 172.30.0.41:80";
    assert_eq!(read(&node(), service, from, "172.30.0.41:80"), expected);
}
