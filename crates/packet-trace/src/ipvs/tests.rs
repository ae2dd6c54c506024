use std::collections::BTreeSet;
use std::net::IpAddr;

use kernel_state::ipset::{self, HashOf, Member, SetName, SetType};
use kernel_state::ipvs::{Destination, Forwarding, Scheduler, SchedulerFlags, Service};
use kernel_state::xtables::{
    ChainName, Direction, Key as RuleKey, Match, Part, Protocol, Rule, SourcePorts, Target,
};

use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn host() -> Host {
    Host {
        addresses: BTreeSet::from([ip("192.168.0.10")]),
        pod_interface: "cni0".to_owned(),
        outside_interface: "eth0".to_owned(),
    }
}

fn set() -> SetName {
    SetName::new("WEB").expect("a short name")
}

/// A virtual server with an endpoint in the node's network, one elsewhere and one that drains.
fn servers(persistence: Option<u32>, destinations: &[(&str, u32)]) -> IpvsState {
    let server = Server { protocol: Protocol::Tcp, at: at("172.30.0.1:80") };
    let scheduler = Scheduler::new("rr").expect("a short name");
    let mut state = IpvsState::new();
    let service = Service { scheduler, persistence, flags: SchedulerFlags::default() };
    state.put(Key::Server(server), Value::Server(service));
    for (to, weight) in destinations {
        let destination = Destination { weight: *weight, forwarding: Forwarding::Masquerade };
        state.put(Key::Destination(server, at(to)), Value::Destination(destination));
    }
    state
}

/// Whoever is bound for the set loses its source behind the virtual server, or is dropped before it.
fn rules(before: Option<Target>) -> XtablesState {
    let in_set = || Match::Set(set(), [Direction::Destination, Direction::Destination].into());
    let marked = Match::Mark(kernel_state::xtables::Sense::Is, 1, 1);
    let masquerade = Target::Masquerade(SourcePorts::Kept);
    let run = |table, chain, rule| (RuleKey::run(table, ChainName::of(chain), Part::Head), rule);
    let mut state = XtablesState::new();
    let all = [
        run(Table::Nat, "PREROUTING", Rule::new([in_set()], Target::OrMark(1))),
        run(Table::Nat, "OUTPUT", Rule::new([in_set()], Target::OrMark(1))),
        run(Table::Nat, "POSTROUTING", Rule::new([marked], masquerade)),
        run(Table::Filter, "INPUT", Rule::new([in_set()], before)),
    ];
    for (key, rule) in all {
        state.put(key, [rule].into());
    }
    state
}

fn read(servers: IpvsState, rules: XtablesState, from: Sender, to: &str) -> String {
    let mut sets = State::new();
    let kind = SetType::Hash(HashOf::IpPort, ipset::Family::Inet);
    sets.put(ipset::Key::Set(set()), ipset::Value::Set(kind));
    let member = Member::IpPort(ip("172.30.0.1"), Protocol::Tcp, 80);
    sets.put(ipset::Key::Member(set(), member), ipset::Value::Member);
    let mut addresses = State::new();
    addresses.put(links::Key::Address("dummy0".into(), ip("172.30.0.1")), links::Value::Address);
    let state = State::of(sets, State::of(servers, State::of(rules, addresses)));
    let packet = Packet { from, protocol: service_plan::Protocol::Tcp, to: at(to) };
    match ServerReader::new(&state, &host()).outcome(&packet) {
        Ok(outcome) => outcome.to_string(),
        Err(puzzle) => puzzle.to_string(),
    }
}

const SERVER: &str = "172.30.0.1:80";

#[test]
fn a_virtual_server_forwards_to_those_with_a_weight() {
    let three = [("10.0.0.1:80", 1), ("10.0.0.2:80", 0), ("10.0.0.3:80", 7)];
    let (pod, node) = (Sender::Pod(ip("10.0.0.9")), Sender::Node(ip("192.168.0.10")));
    for from in [pod, node] {
        let outcome = read(servers(None, &three), rules(None), from, SERVER);
        assert_eq!(outcome, "one of 10.0.0.1:80 10.0.0.3:80, masqueraded");
    }
    let kept = read(servers(Some(60), &three[..1]), XtablesState::new(), pod, SERVER);
    assert_eq!(kept, "one of 10.0.0.1:80, kept");
}

#[test]
fn an_endpoint_in_the_nodes_own_network_sees_the_client() {
    let here = [("192.168.0.10:80", 1)];
    let outside = read(servers(None, &here), rules(None), Sender::Outside(ip("203.0.113.9")), SERVER);
    assert_eq!(outside, "one of 192.168.0.10:80");
    let node = read(servers(None, &here), rules(None), Sender::Node(ip("192.168.0.10")), SERVER);
    assert_eq!(node, "one of 192.168.0.10:80, masqueraded");
}

#[test]
fn without_a_real_server_it_rejects() {
    for destinations in [&[][..], &[("10.0.0.1:80", 0)]] {
        let outcome = read(servers(None, destinations), rules(None), Sender::Pod(ip("10.0.0.9")), SERVER);
        assert_eq!(outcome, "rejected");
    }
}

#[test]
fn who_is_turned_away_before_never_reaches_it() {
    let dropped = rules(Some(Target::Drop));
    let outcome = read(servers(None, &[("10.0.0.1:80", 1)]), dropped, Sender::Pod(ip("10.0.0.9")), SERVER);
    assert_eq!(outcome, "dropped");
}

#[test]
fn what_no_server_takes_stays_as_it_is() {
    for (from, to) in [
        (Sender::Pod(ip("10.0.0.9")), "172.30.0.1:81"),
        (Sender::Node(ip("192.168.0.10")), "172.30.0.1:81"),
        (Sender::Pod(ip("10.0.0.9")), "10.0.0.1:80"),
    ] {
        let outcome = read(servers(None, &[("10.0.0.1:80", 1)]), rules(None), from, to);
        assert_eq!(outcome, "untouched");
    }
}
