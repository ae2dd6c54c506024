use std::time::Duration;

use super::{Gate, Kind};
use crate::api::NodeNeeds;
use crate::{Eligibility, NodeObject};

const PATIENCE: Duration = Duration::from_secs(3);

fn node(ips: &[&str], pod_ranges: &[&str]) -> NodeObject {
    NodeObject {
        zone: "".into(),
        ips: ips.iter().map(|ip| ip.parse().expect("an address")).collect(),
        pod_ranges: pod_ranges.iter().map(|range| range.parse().expect("a range")).collect(),
        eligibility: Eligibility::Eligible,
    }
}

/// Lists all kinds but the last one, which opens nothing.
fn nearly_listed(gate: &mut Gate) -> Kind {
    let [first, others @ ..] = Kind::ALL;
    assert!(others.into_iter().all(|kind| !gate.listed(kind)));
    first
}

#[test]
fn the_last_list_opens_it_once() {
    let mut gate = Gate::new(NodeNeeds::Addresses);
    let last = nearly_listed(&mut gate);
    assert!(!gate.node(&node(&["10.0.0.1"], &[])));
    assert!(gate.listed(last));
    assert!(!gate.listed(last));
    assert!(!gate.node(&node(&["10.0.0.2"], &[])));
    assert!(!gate.second_passed(PATIENCE));
}

#[test]
fn a_node_without_an_address_is_waited_for_but_not_for_ever() {
    let mut gate = Gate::new(NodeNeeds::Addresses);
    let last = nearly_listed(&mut gate);
    assert!(!gate.node(&node(&[], &["10.244.0.0/24"])));
    for _ in 0..10 {
        assert!(!gate.second_passed(PATIENCE), "the lists are not in yet");
    }
    assert!(!gate.listed(last));
    assert_eq!([(); 4].map(|()| gate.second_passed(PATIENCE)), [false, false, false, true]);
}

#[test]
fn an_address_ends_the_wait() {
    let mut gate = Gate::new(NodeNeeds::Addresses);
    let last = nearly_listed(&mut gate);
    assert!(!gate.listed(last));
    assert!(gate.node(&node(&["10.0.0.1"], &[])));
}

#[test]
fn pod_ranges_are_waited_for_however_long() {
    let mut gate = Gate::new(NodeNeeds::PodRanges);
    let last = nearly_listed(&mut gate);
    assert!(!gate.listed(last));
    assert!(!gate.node(&node(&["10.0.0.1"], &[])));
    assert!((0..100).all(|_| !gate.second_passed(PATIENCE)));
    assert!(gate.node(&node(&["10.0.0.1"], &["10.244.0.0/24"])));
}
