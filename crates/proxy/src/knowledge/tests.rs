use std::net::Ipv4Addr;

use service_plan::{Protocol, SliceName};

use crate::samples::{endpoints, service, settings};

use super::*;

fn knowledge() -> Knowledge {
    Knowledge::new(settings(), "node-1".into(), Ipv4Addr::UNSPECIFIED.into())
}

fn batch(events: Vec<Event>) -> Batch {
    Batch { events, ..Batch::default() }
}

/// A fact as the source tells it.
fn told(change: FactChange) -> Event {
    match change {
        FactChange::Service(name, service) => Event::Service(name, service),
        FactChange::EndpointSlice(name, slice) => Event::EndpointSlice(name, slice),
        FactChange::ServiceRanges(ranges) => Event::ServiceRanges(ranges),
        FactChange::Node(_) | FactChange::Settings(_) => unreachable!("no source tells that"),
    }
}

fn web(number: u8) -> Event {
    told(service(&format!("web-{number}"), &format!("10.0.0.{number}")))
}

fn slice_of_web(number: u8) -> Event {
    told(endpoints(&format!("web-{number}"), Protocol::Tcp, 80, &[&format!("10.1.0.{number}")]))
}

fn ranges() -> Event {
    Event::ServiceRanges(vec!["10.96.0.0/12".parse().expect("a range")])
}

fn webs(numbers: &[u8]) -> Touched {
    let name = |number| ServiceName::new("ns", &format!("web-{number}"));
    Touched::services(numbers.iter().map(name).collect())
}

#[test]
fn before_the_first_lists_are_whole_only_services_whose_endpoints_came_are_planned() {
    let mut knowledge = knowledge();
    assert_eq!(knowledge.take(batch(vec![ranges(), web(1), web(2)])), Touched::nothing());
    assert_eq!(knowledge.take(batch(vec![slice_of_web(1), slice_of_web(3)])), webs(&[1]));
    assert_eq!(knowledge.take(batch(vec![web(3)])), Touched::nothing());
    assert_eq!(knowledge.listed(), Listed::NotYet);
    let rest = knowledge.take(batch(vec![Event::Listed]));
    assert_eq!((knowledge.listed(), rest), (Listed::Yes, webs(&[2, 3]).and(Touched::node())));
    let gone = Event::EndpointSlice(SliceName::new("ns", "web-1"), None);
    assert_eq!(knowledge.take(batch(vec![gone])), webs(&[1]));
    assert_eq!(knowledge.plan(&Touched::nothing(), Family::V4).node.service_ranges.len(), 1);
}

#[test]
fn what_was_planned_before_it_was_touched_again_is_planned_again() {
    let mut knowledge = knowledge();
    knowledge.take(batch(vec![web(1), web(2), slice_of_web(1), slice_of_web(2)]));
    knowledge.take(batch(vec![ranges(), slice_of_web(2), told(service("web-2", "10.0.0.9"))]));
    assert_eq!(knowledge.take(batch(vec![Event::Listed])), webs(&[1, 2]).and(Touched::node()));
}

#[test]
fn with_no_service_at_all_there_is_the_node() {
    assert_eq!(knowledge().take(batch(vec![Event::Listed])), Touched::node());
}

/// Whatever comes in which order and batches: the last plan of each Service is that of all facts together.
#[test]
fn in_any_order_the_last_plans_are_those_of_everything() {
    let all = [ranges(), web(1), web(2), slice_of_web(1), slice_of_web(2), slice_of_web(3), web(3)];
    for turn in 0..all.len() {
        for size in 1..=all.len() {
            let mut events = all.to_vec();
            events.rotate_left(turn);
            events.push(Event::Listed);
            let (mut knowledge, mut last) = (knowledge(), BTreeMap::new());
            for some in events.chunks(size) {
                let touched = knowledge.take(batch(some.to_vec()));
                last.extend(knowledge.plan(&touched, Family::V4).services);
            }
            let whole: BTreeMap<_, _> =
                knowledge.plan(&Touched::everything(), Family::V4).services.into_iter().collect();
            assert_eq!(last, whole, "{turn} {size}");
            assert_eq!(whole.len(), 3);
        }
    }
}

#[test]
fn the_address_that_the_operator_knows_comes_before_the_others() {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    for (ips, bind_address, expected) in [
        (&["10.0.0.1", "fd00::1"][..], "0.0.0.0", &["10.0.0.1", "fd00::1"][..]),
        (&["10.0.0.1", "fd00::1"], "::", &["10.0.0.1", "fd00::1"]),
        (&["10.0.0.1", "fd00::1"], "10.0.0.9", &["10.0.0.9", "fd00::1"]),
        (&["10.0.0.1", "fd00::1"], "fd00::9", &["fd00::9", "10.0.0.1"]),
        (&[], "10.0.0.9", &["10.0.0.9"]),
    ] {
        let ips: Vec<IpAddr> = ips.iter().map(|text| ip(text)).collect();
        let expected: Vec<IpAddr> = expected.iter().map(|text| ip(text)).collect();
        assert_eq!(with_bind_address(&ips, ip(bind_address)), expected, "{bind_address}");
    }
}
