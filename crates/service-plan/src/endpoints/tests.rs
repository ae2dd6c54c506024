//! Which endpoints a service port uses on node n1 in zone z1.

use super::*;
use crate::facts::SlicePort;
use crate::names::Protocol;
use crate::samples::{http_of, node, port, slice};

fn selected_on(node: &Node, slices: &[EndpointSlice], uses: Uses) -> String {
    let candidates = candidates(slices.iter(), &http_of("web"), Family::V4, node, &BTreeMap::new());
    let selection = select(&candidates, uses, node);
    let pool = |pool: &Pool| match pool.as_slice() {
        [] => "none".to_owned(),
        pool => pool.iter().map(|endpoint| endpoint.at.to_string()).collect::<Vec<_>>().join(" "),
    };
    let anywhere = match selection.anywhere {
        Anywhere::Some => "",
        Anywhere::None => ", none anywhere",
    };
    format!("cluster: {}, local: {}{anywhere}", pool(&selection.cluster), pool(&selection.local))
}

/// The pools of a service port with both policies.
fn selected(endpoints: &[&str]) -> String {
    selected_on(&node(), &[slice("web", endpoints)], Uses::Both).replace(":8080", "")
}

#[test]
fn without_endpoints_nothing_is_selected() {
    assert_eq!(selected(&[]), "cluster: none, local: none, none anywhere");
}

#[test]
fn endpoints_stand_in_the_order_of_their_text() {
    let endpoints = ["10.0.0.2", "10.0.0.10", "10.0.0.1"];
    assert_eq!(selected(&endpoints), "cluster: 10.0.0.10 10.0.0.1 10.0.0.2, local: none");
}

#[test]
fn the_local_ones_are_those_that_name_this_node() {
    let endpoints = ["10.0.0.1 on:n1", "10.0.0.2 on:n2", "10.0.0.3 on:N1", "10.0.0.4"];
    assert_eq!(selected(&endpoints), "cluster: 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4, local: 10.0.0.1");
}

#[test]
fn a_node_without_a_name_has_no_local_endpoints() {
    let nameless = Node { name: "".into(), ..node() };
    let mut slice = slice("web", &["10.0.0.1"]);
    slice.endpoints[0].node = Some("".into());
    assert_eq!(selected_on(&nameless, &[slice], Uses::Both), "cluster: 10.0.0.1:8080, local: none");
}

#[test]
fn unready_endpoints_are_never_used() {
    assert_eq!(selected(&["10.0.0.1 unready", "10.0.0.2"]), "cluster: 10.0.0.2, local: none");
    assert_eq!(
        selected(&["10.0.0.1 on:n1 unready", "10.0.0.2 unready"]),
        "cluster: none, local: none, none anywhere"
    );
}

#[test]
fn terminating_endpoints_serve_only_while_none_is_ready() {
    assert_eq!(selected(&["10.0.0.1 terminating", "10.0.0.2"]), "cluster: 10.0.0.2, local: none");
    assert_eq!(
        selected(&["10.0.0.1 terminating", "10.0.0.2 terminating", "10.0.0.3 unready"]),
        "cluster: 10.0.0.1 10.0.0.2, local: none"
    );
}

#[test]
fn each_pool_has_its_own_last_resort() {
    assert_eq!(
        selected(&["10.0.0.1 on:n1 terminating", "10.0.0.2 on:n2"]),
        "cluster: 10.0.0.2, local: 10.0.0.1"
    );
    assert_eq!(
        selected(&["10.0.0.1 on:n1 terminating", "10.0.0.2 on:n2 terminating"]),
        "cluster: 10.0.0.1 10.0.0.2, local: 10.0.0.1"
    );
    assert_eq!(
        selected(&["10.0.0.1 on:n1", "10.0.0.2 on:n1 terminating", "10.0.0.3 on:n2"]),
        "cluster: 10.0.0.1 10.0.0.3, local: 10.0.0.1"
    );
}

#[test]
fn zone_hints_narrow_the_cluster_pool() {
    assert_eq!(
        selected(&["10.0.0.1 zone:z1", "10.0.0.2 zone:z2", "10.0.0.3 zone:z2 zone:z1"]),
        "cluster: 10.0.0.1 10.0.0.3, local: none"
    );
}

#[test]
fn one_ready_endpoint_without_a_hint_switches_hints_off() {
    assert_eq!(
        selected(&["10.0.0.1 zone:z1", "10.0.0.2 zone:z2", "10.0.0.3"]),
        "cluster: 10.0.0.1 10.0.0.2 10.0.0.3, local: none"
    );
    assert_eq!(
        selected(&["10.0.0.1 node:n1", "10.0.0.2 node:n2", "10.0.0.3"]),
        "cluster: 10.0.0.1 10.0.0.2 10.0.0.3, local: none"
    );
}

#[test]
fn hints_are_judged_by_ready_endpoints_alone() {
    assert_eq!(
        selected(&["10.0.0.1 zone:z1", "10.0.0.2 zone:z2", "10.0.0.3 terminating", "10.0.0.4 unready"]),
        "cluster: 10.0.0.1, local: none"
    );
    assert_eq!(
        selected(&["10.0.0.1 zone:z2", "10.0.0.2 zone:z1 terminating"]),
        "cluster: 10.0.0.1, local: none"
    );
}

#[test]
fn hints_for_other_zones_only_count_for_nothing() {
    assert_eq!(
        selected(&["10.0.0.1 zone:z2", "10.0.0.2 zone:z3"]),
        "cluster: 10.0.0.1 10.0.0.2, local: none"
    );
}

#[test]
fn a_node_without_a_zone_follows_no_zone_hints() {
    let zoneless = Node { zone: "".into(), ..node() };
    let slices = [slice("web", &["10.0.0.1 zone:z1", "10.0.0.2 zone:z2"])];
    assert_eq!(
        selected_on(&zoneless, &slices, Uses::Cluster),
        "cluster: 10.0.0.1:8080 10.0.0.2:8080, local: none"
    );
}

#[test]
fn node_hints_come_before_zone_hints() {
    assert_eq!(
        selected(&["10.0.0.1 node:n1 zone:z2", "10.0.0.2 node:n2 zone:z1"]),
        "cluster: 10.0.0.1, local: none"
    );
}

#[test]
fn node_hints_for_other_nodes_fall_through_to_zone_hints_and_then_to_everything() {
    assert_eq!(
        selected(&["10.0.0.1 node:n2 zone:z1", "10.0.0.2 node:n3 zone:z2"]),
        "cluster: 10.0.0.1, local: none"
    );
    assert_eq!(
        selected(&["10.0.0.1 node:n2 zone:z2", "10.0.0.2 node:n3 zone:z2"]),
        "cluster: 10.0.0.1 10.0.0.2, local: none"
    );
    assert_eq!(selected(&["10.0.0.1 node:n1 zone:z1", "10.0.0.2 zone:z2"]), "cluster: 10.0.0.1, local: none");
}

#[test]
fn hints_never_narrow_the_last_resort() {
    assert_eq!(
        selected(&["10.0.0.1 zone:z1 terminating", "10.0.0.2 zone:z2 terminating"]),
        "cluster: 10.0.0.1 10.0.0.2, local: none"
    );
}

#[test]
fn hints_never_narrow_the_local_pool() {
    assert_eq!(
        selected(&["10.0.0.1 on:n1 zone:z2", "10.0.0.2 on:n2 zone:z1"]),
        "cluster: 10.0.0.2, local: 10.0.0.1"
    );
}

#[test]
fn a_pool_that_nobody_asks_for_is_empty() {
    let slices = [slice("web", &["10.0.0.1 on:n1", "10.0.0.2 on:n2"])];
    let selected = |uses| selected_on(&node(), &slices, uses).replace(":8080", "");
    assert_eq!(selected(Uses::Cluster), "cluster: 10.0.0.1 10.0.0.2, local: none");
    assert_eq!(selected(Uses::Local), "cluster: none, local: 10.0.0.1");
    assert_eq!(selected(Uses::Both), "cluster: 10.0.0.1 10.0.0.2, local: 10.0.0.1");
}

#[test]
fn endpoints_elsewhere_count_for_a_local_policy_too() {
    let anywhere = |endpoint| selected_on(&node(), &[slice("web", &[endpoint])], Uses::Local);
    assert_eq!(anywhere("10.0.0.1 on:n2"), "cluster: none, local: none");
    assert_eq!(anywhere("10.0.0.1 on:n2 terminating"), "cluster: none, local: none");
    assert_eq!(anywhere("10.0.0.1 on:n2 unready"), "cluster: none, local: none, none anywhere");
}

#[test]
fn the_slices_of_a_service_are_one_set() {
    let slices = [slice("web", &["10.0.0.2", "10.0.0.1"]), slice("web", &["10.0.0.3", "10.0.0.1"])];
    assert_eq!(
        selected_on(&node(), &slices, Uses::Cluster),
        "cluster: 10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080, local: none"
    );
}

#[test]
fn of_two_entries_for_one_address_the_healthier_counts() {
    for [worse, better, expected] in [
        ["10.0.0.1 terminating", "10.0.0.1", "cluster: 10.0.0.1:8080, local: none"],
        ["10.0.0.1 unready", "10.0.0.1", "cluster: 10.0.0.1:8080, local: none"],
        [
            "10.0.0.1 unready on:n1",
            "10.0.0.1 terminating on:n1",
            "cluster: 10.0.0.1:8080, local: 10.0.0.1:8080",
        ],
        ["10.0.0.1 terminating on:n1", "10.0.0.1 on:n2", "cluster: 10.0.0.1:8080, local: none"],
    ] {
        for order in [[worse, better], [better, worse]] {
            let slices = order.map(|endpoint| slice("web", &[endpoint]));
            assert_eq!(selected_on(&node(), &slices, Uses::Both), expected, "{order:?}");
        }
    }
}

#[test]
fn of_two_equal_entries_for_one_address_that_of_the_first_slice_counts() {
    let slices = ["10.0.0.1 on:n1", "10.0.0.1 on:n2"].map(|endpoint| slice("web", &[endpoint]));
    assert_eq!(selected_on(&node(), &slices, Uses::Both), "cluster: 10.0.0.1:8080, local: 10.0.0.1:8080");
}

#[test]
fn slices_may_give_one_port_name_different_numbers() {
    let mut other = slice("web", &["10.0.0.1"]);
    other.ports[0].port = port(9090);
    let slices = [slice("web", &["10.0.0.1"]), other];
    assert_eq!(
        selected_on(&node(), &slices, Uses::Cluster),
        "cluster: 10.0.0.1:8080 10.0.0.1:9090, local: none"
    );
}

#[test]
fn other_ports_protocols_and_families_are_others_business() {
    let with_port = |name: &str, protocol| {
        let ports = vec![SlicePort { name: name.into(), protocol, port: port(8080) }];
        EndpointSlice { ports, ..slice("web", &["10.0.0.1"]) }
    };
    let slices = [
        with_port("", Protocol::Tcp),
        with_port("https", Protocol::Tcp),
        with_port("http", Protocol::Udp),
        slice("web", &["fd00:180::1"]),
    ];
    assert_eq!(selected_on(&node(), &slices, Uses::Both), "cluster: none, local: none, none anywhere");
}

#[test]
fn ipv6_endpoints_stand_in_brackets_when_they_are_sorted() {
    let slices = [slice("web", &["fd00::2", "fd00::10"])];
    let candidates = candidates(slices.iter(), &http_of("web"), Family::V6, &node(), &BTreeMap::new());
    let order: Vec<_> = candidates.iter().map(|candidate| candidate.at.to_string()).collect();
    assert_eq!(order, ["[fd00::10]:8080", "[fd00::2]:8080"]);
}
