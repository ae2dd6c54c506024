//! A rule that names a listener is the same rule again after it was written and read.

use std::net::SocketAddr;

use super::super::{ConnectionStates, Match, Protocol, Rule, Rules, Sense, Target, parse::parse_rule};
use super::{Key, Transport, with_names, with_numbers};

const AT: &str = "192.168.0.10:40001";

fn web() -> Key {
    Key::new("default/web@cluster", Transport::Tcp)
}

fn at(key: &Key) -> Option<SocketAddr> {
    (*key == web()).then(|| AT.parse().unwrap())
}

fn of(transport: Transport, at: SocketAddr) -> Option<Key> {
    (transport == Transport::Tcp && at == AT.parse().unwrap()).then(web)
}

fn rules() -> Rules {
    let portal = [
        Match::Destination(Sense::Is, "172.30.0.41/32".parse().unwrap()),
        Match::Protocol(Protocol::Tcp),
        Match::comment("default/web"),
        Match::Transport(Protocol::Tcp, Some(80)),
    ];
    let direct = [
        Match::Protocol(Protocol::Tcp),
        Match::comment("default/web"),
        Match::Listener(web()),
        Match::ConnectionState(Sense::Is, ConnectionStates::DNAT),
    ];
    [Rule::new(portal, Target::Listener(web())), Rule::new(direct, Target::Accept)].into()
}

#[test]
fn a_rule_is_written_with_numbers_and_read_with_names() {
    let numbered = with_numbers(&rules(), &at).unwrap();
    let text: Vec<String> = numbered.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            " -d 172.30.0.41/32 -p tcp -m comment --comment \"default/web\" -m tcp --dport 80 -j DNAT --to-destination 192.168.0.10:40001",
            " -d 192.168.0.10/32 -p tcp -m comment --comment \"default/web\" -m tcp --dport 40001 -m conntrack --ctstate DNAT -j ACCEPT",
        ]
    );
    let read: Rules = text.iter().map(|line| parse_rule(line.trim())).collect();
    assert_eq!(with_names(&read, &of), rules());
}

#[test]
fn numbers_of_nobody_stay_numbers() {
    let numbered = with_numbers(&rules(), &at).unwrap();
    assert_eq!(with_names(&numbered, &|_, _| None), numbered);
}

#[test]
fn a_listener_that_is_not_open_is_named() {
    assert_eq!(with_numbers(&rules(), &|_| None), Err(web()));
}
