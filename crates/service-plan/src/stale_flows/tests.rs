//! Rows: what a service port was, what it is, and which flows that leaves stale.

use std::sync::Arc;

use super::*;
use crate::samples::{endpoint, node, node_port, service, service_name, service_port, settings};
use crate::{EndpointSlice, FactChange, Facts, NodePortSetting, SliceName, SlicePort, Touched, plan};

const CLUSTER_IP: &str = "10.0.0.1:53";

/// What is known of Service dns: its node port, its endpoints, and whether it is there at all.
#[derive(Clone, Copy)]
enum Dns<'a> {
    Absent,
    Present(u16, &'a [&'a str]),
}

fn facts_of(dns: Dns<'_>) -> Facts {
    let mut facts = Facts::new(settings(), node());
    let Dns::Present(number, endpoints) = dns else { return facts };
    let mut dns = service(1, "10.0.0.1");
    dns.ports = vec![service_port("dns", Protocol::Udp, 53), service_port("dns-tcp", Protocol::Tcp, 53)];
    dns.ports[0].node_port = Some(node_port(number));
    dns.external_ips = vec!["1.2.3.4".parse().expect("an address")];
    facts.apply(FactChange::Service(service_name("dns"), Some(Arc::new(dns))));
    let port = |name: &str, protocol| SlicePort {
        name: name.into(),
        protocol,
        port: crate::Port::new(5353).expect("a port"),
    };
    let slice = EndpointSlice {
        service: service_name("dns"),
        family: Family::V4,
        ports: vec![port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)],
        endpoints: endpoints.iter().copied().map(endpoint).collect(),
    };
    facts.apply(FactChange::EndpointSlice(SliceName::new("ns", "dns-1"), Some(Arc::new(slice))));
    facts
}

fn stale(before: Option<Dns<'_>>, after: Dns<'_>, sent_on: SentOn) -> StaleFlows {
    let planned = |dns| plan(&facts_of(dns), &Touched::everything(), Family::V4).0;
    let flows = |dns| {
        let plan = planned(dns);
        Flows::of(plan.services.iter().flat_map(|(_, ports)| ports), sent_on)
    };
    let before = before.map(flows).unwrap_or_default();
    stale_flows(&before, &flows(after), &planned(after).node)
}

/// Of these flows, written `asked answered-by`, those that are stale.
fn among<'a>(stale: &StaleFlows, flows: &[&'a str]) -> Vec<&'a str> {
    let is_stale = |flow: &&&str| {
        let (asked, answered_by) = flow.split_once(' ').expect("two addresses");
        let at = |text: &str| -> SocketAddr { text.parse().expect("an address and port") };
        stale.contains(at(asked), at(answered_by))
    };
    flows.iter().filter(is_stale).copied().collect()
}

/// One to each endpoint by each address, one that was never sent on, and some that are nobody's business.
const TO_FIRST: &str = "10.0.0.1:53 10.180.0.1:5353";
const TO_SECOND: &str = "10.0.0.1:53 10.180.0.2:5353";
const BY_EXTERNAL_IP: &str = "1.2.3.4:53 10.180.0.1:5353";
const BY_NODE_PORT: &str = "192.168.0.1:30053 10.180.0.1:5353";
const BY_LOCALHOST: &str = "127.0.0.1:30053 10.180.0.1:5353";
const ASTRAY: &str = "10.0.0.1:53 10.0.0.1:53";
const ASTRAY_OUTSIDE: &str = "1.2.3.4:53 1.2.3.4:53";
const THROUGH_THE_NODE: &str = "8.8.8.8:30053 8.8.8.8:30053";
const OTHER_PORT: &str = "10.0.0.1:54 10.180.0.1:5353";
const ALL: [&str; 9] = [
    TO_FIRST,
    TO_SECOND,
    BY_EXTERNAL_IP,
    BY_NODE_PORT,
    BY_LOCALHOST,
    ASTRAY,
    ASTRAY_OUTSIDE,
    THROUGH_THE_NODE,
    OTHER_PORT,
];

const BOTH: Dns<'_> = Dns::Present(30053, &["10.180.0.1", "10.180.0.2"]);
const SECOND: Dns<'_> = Dns::Present(30053, &["10.180.0.2"]);
const NONE: Dns<'_> = Dns::Present(30053, &[]);

#[test]
fn flows_to_an_endpoint_that_serves_no_more_are_stale_by_every_address() {
    let gone = [TO_FIRST, BY_EXTERNAL_IP, BY_NODE_PORT, BY_LOCALHOST, ASTRAY, ASTRAY_OUTSIDE];
    assert_eq!(among(&stale(Some(BOTH), SECOND, SentOn::ByKernel), &ALL), gone);
    let unready = Dns::Present(30053, &["10.180.0.1 unready", "10.180.0.2"]);
    assert_eq!(among(&stale(Some(BOTH), unready, SentOn::ByKernel), &ALL), gone);
}

#[test]
fn one_that_terminates_and_still_serves_keeps_its_flows() {
    let terminating = Dns::Present(30053, &["10.180.0.1 terminating", "10.180.0.2"]);
    assert!(stale(Some(BOTH), terminating, SentOn::ByKernel).is_empty());
}

#[test]
fn more_endpoints_and_other_policies_leave_nothing_stale() {
    assert!(stale(Some(SECOND), BOTH, SentOn::ByKernel).is_empty());
    assert!(stale(Some(BOTH), BOTH, SentOn::ByKernel).is_empty());
}

#[test]
fn without_endpoints_every_flow_is_stale() {
    let all_of_it = [TO_FIRST, TO_SECOND, BY_EXTERNAL_IP, BY_NODE_PORT, BY_LOCALHOST, ASTRAY, ASTRAY_OUTSIDE];
    assert_eq!(among(&stale(Some(BOTH), NONE, SentOn::ByKernel), &ALL), all_of_it);
}

#[test]
fn what_went_astray_before_there_were_endpoints_is_stale() {
    let stale = stale(Some(NONE), BOTH, SentOn::ByKernel);
    assert_eq!(among(&stale, &ALL), [ASTRAY, ASTRAY_OUTSIDE]);
}

#[test]
fn a_service_that_is_gone_leaves_what_was_sent_on_stale() {
    let sent_on = [TO_FIRST, TO_SECOND, BY_EXTERNAL_IP, BY_NODE_PORT, BY_LOCALHOST];
    for by in [SentOn::ByKernel, SentOn::ByRelay] {
        assert_eq!(among(&stale(Some(BOTH), Dns::Absent, by), &ALL), sent_on);
    }
}

#[test]
fn another_node_port_leaves_the_flows_of_the_old_one_stale() {
    let moved = Dns::Present(30054, &["10.180.0.1", "10.180.0.2"]);
    let stale = stale(Some(BOTH), moved, SentOn::ByKernel);
    assert_eq!(among(&stale, &ALL), [BY_NODE_PORT, BY_LOCALHOST]);
    assert_eq!(among(&stale, &["192.168.0.1:30054 192.168.0.1:30054"]).len(), 1, "it went astray");
}

#[test]
fn at_the_start_only_what_cannot_be_right_is_stale() {
    assert_eq!(among(&stale(None, BOTH, SentOn::ByKernel), &ALL), [ASTRAY, ASTRAY_OUTSIDE]);
}

#[test]
fn a_relay_starts_with_no_flow_and_keeps_those_that_it_has() {
    let all_of_it = [TO_FIRST, TO_SECOND, BY_EXTERNAL_IP, BY_NODE_PORT, BY_LOCALHOST, ASTRAY, ASTRAY_OUTSIDE];
    assert_eq!(among(&stale(None, BOTH, SentOn::ByRelay), &ALL), all_of_it);
    assert!(stale(Some(BOTH), SECOND, SentOn::ByRelay).is_empty());
}

#[test]
fn the_kernel_can_be_asked_for_one_address_alone() {
    let flows = |text: &str| {
        Flows(BTreeMap::from([(Asked::At(text.parse().expect("an address")), Served::By(BTreeSet::new()))]))
    };
    let node = plan(&facts_of(Dns::Absent), &Touched::everything(), Family::V4).0.node;
    let one = stale_flows(&flows(CLUSTER_IP), &Flows::default(), &node);
    assert_eq!(one.only_address(), CLUSTER_IP.parse().ok());
    assert_eq!(stale(Some(BOTH), SECOND, SentOn::ByKernel).only_address(), None);
}

#[test]
fn a_node_port_is_one_where_node_ports_are_served() {
    let mut facts = facts_of(BOTH);
    facts.settings.node_ports = NodePortSetting::Primary(Vec::new());
    let (plan, _) = plan(&facts, &Touched::everything(), Family::V4);
    let flows = Flows::of(plan.services.iter().flat_map(|(_, ports)| ports), SentOn::ByKernel);
    let stale = stale_flows(&flows, &Flows::default(), &plan.node);
    let elsewhere = "172.16.0.1:30053 10.180.0.1:5353";
    assert_eq!(among(&stale, &[BY_NODE_PORT, elsewhere]), [BY_NODE_PORT]);
}
