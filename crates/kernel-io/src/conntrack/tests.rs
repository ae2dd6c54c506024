//! Captured bytes with each field commented, and real flows of a namespace.

use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::wire::{self, Entry};
use super::*;
use crate::netlink::{Messages, Reply};
use crate::netns::Netns;

/// A flow of Linux 6.18 that the node began and whose packets are sent elsewhere, captured from a raw socket.
const LISTED: [u8; 164] = [
    0xa4, 0, 0, 0, // nlmsg_len: 164
    0, 1, // nlmsg_type: IPCTNL_MSG_CT_NEW of NFNL_SUBSYS_CTNETLINK
    0x22, 0, // nlmsg_flags: NLM_F_MULTI | NLM_F_DUMP_FILTERED
    7, 0, 0, 0, // nlmsg_seq
    0x4c, 0x61, 0, 0, // nlmsg_pid: our port
    2, 0, 0, 0, // struct nfgenmsg: AF_INET
    52, 0, 1, 0x80, // CTA_TUPLE_ORIG
    20, 0, 1, 0x80, // CTA_TUPLE_IP
    8, 0, 1, 0, 127, 0, 0, 1, // CTA_IP_V4_SRC
    8, 0, 2, 0, 10, 0, 0, 1, // CTA_IP_V4_DST
    28, 0, 2, 0x80, // CTA_TUPLE_PROTO
    5, 0, 1, 0, 17, 0, 0, 0, // CTA_PROTO_NUM: UDP
    6, 0, 2, 0, 0x9c, 0x40, 0, 0, // CTA_PROTO_SRC_PORT: 40000
    6, 0, 3, 0, 0, 53, 0, 0, // CTA_PROTO_DST_PORT: 53
    52, 0, 2, 0x80, // CTA_TUPLE_REPLY
    20, 0, 1, 0x80, // CTA_TUPLE_IP
    8, 0, 1, 0, 10, 180, 0, 1, // CTA_IP_V4_SRC
    8, 0, 2, 0, 127, 0, 0, 1, // CTA_IP_V4_DST
    28, 0, 2, 0x80, // CTA_TUPLE_PROTO
    5, 0, 1, 0, 17, 0, 0, 0, // CTA_PROTO_NUM: UDP
    6, 0, 2, 0, 0x14, 0xe9, 0, 0, // CTA_PROTO_SRC_PORT: 5353
    6, 0, 3, 0, 0x9c, 0x40, 0, 0, // CTA_PROTO_DST_PORT: 40000
    8, 0, 3, 0, 0, 0, 1, 0xa8, // CTA_STATUS
    8, 0, 8, 0, 0, 0, 0, 0, // CTA_MARK
    8, 0, 12, 0, 0xae, 0x17, 0x54, 0xd5, // CTA_ID
    8, 0, 11, 0, 0, 0, 0, 1, // CTA_USE
    8, 0, 7, 0, 0, 0, 0, 29, // CTA_TIMEOUT: seconds
];

/// What ends it.
const FORGET: [u8; 80] = [
    80, 0, 0, 0, // nlmsg_len
    2, 1, // nlmsg_type: IPCTNL_MSG_CT_DELETE of NFNL_SUBSYS_CTNETLINK
    5, 0, // nlmsg_flags: NLM_F_REQUEST | NLM_F_ACK
    0, 0, 0, 0, 0, 0, 0, 0, // nlmsg_seq and nlmsg_pid, which the socket fills in
    2, 0, 0, 0, // struct nfgenmsg: AF_INET
    52, 0, 1, 0x80, // CTA_TUPLE_ORIG
    20, 0, 1, 0x80, // CTA_TUPLE_IP
    8, 0, 1, 0, 127, 0, 0, 1, // CTA_IP_V4_SRC
    8, 0, 2, 0, 10, 0, 0, 1, // CTA_IP_V4_DST
    28, 0, 2, 0x80, // CTA_TUPLE_PROTO
    5, 0, 1, 0, 17, 0, 0, 0, // CTA_PROTO_NUM: UDP
    6, 0, 2, 0, 0x9c, 0x40, 0, 0, // CTA_PROTO_SRC_PORT: 40000
    6, 0, 3, 0, 0, 53, 0, 0, // CTA_PROTO_DST_PORT: 53
    8, 0, 12, 0, 0xae, 0x17, 0x54, 0xd5, // CTA_ID
];

/// Where the protocol's number stands in each direction.
const PROTOCOLS: [usize; 2] = [52, 104];

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

fn only(bytes: &[u8]) -> Reply<'_> {
    Messages::new(bytes).next().expect("a message").expect("well formed")
}

fn listed() -> Entry {
    wire::entry(&only(&LISTED)).expect("well formed").expect("a UDP flow")
}

#[test]
fn a_flow_is_read_by_what_is_asked_and_who_answers() {
    let flow =
        Flow { client: at("127.0.0.1:40000"), asked: at("10.0.0.1:53"), answered_by: at("10.180.0.1:5353") };
    assert_eq!(listed().flow, flow);
}

#[test]
fn a_flow_is_forgotten_by_its_tuple_and_its_number() {
    assert_eq!(wire::forget(&listed()).as_bytes(), FORGET);
}

#[test]
fn a_flow_of_another_protocol_is_none_of_udp() {
    let mut bytes = LISTED;
    for place in PROTOCOLS {
        bytes[place] = 6;
    }
    assert_eq!(wire::entry(&only(&bytes)), Ok(None));
}

#[test]
fn a_flow_in_a_zone_is_forgotten_in_that_zone() {
    let mut bytes = LISTED.to_vec();
    bytes.extend([6, 0, 18, 0, 0, 7, 0, 0]); // CTA_ZONE: 7
    bytes[0] += 8;
    let entry = wire::entry(&only(&bytes)).expect("well formed").expect("a UDP flow");
    let forget = wire::forget(&entry);
    assert_eq!(forget.as_bytes()[80..], [6, 0, 18, 0, 0, 7, 0, 0]);
}

proptest! {
    #[test]
    fn any_entry_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let reply = Reply { kind: 0, flags: 0, sequence: 0, port: 0, payload: &bytes };
        let _ = wire::entry(&reply);
    }

    #[test]
    fn any_change_of_an_entry_is_read_without_a_panic(place in 20..LISTED.len(), byte: u8, cut in 20..=LISTED.len()) {
        let mut bytes = LISTED;
        bytes[place] = byte;
        let reply = Reply { kind: 0, flags: 0, sequence: 0, port: 0, payload: &bytes[16..cut] };
        let _ = wire::entry(&reply);
    }
}

/// A namespace whose tracker is awake, with a client that has asked these addresses.
fn asked(addresses: &[&str]) -> (Netns, Vec<UdpSocket>) {
    let netns = Netns::new().expect("a namespace");
    let clients = netns.run(|| {
        // Nothing is tracked where no rule asks for it.
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft starts");
        let rules = "table inet it {\n chain out {\n type filter hook output priority 0\n ct state new accept\n }\n}\n";
        nft.stdin.take().expect("a pipe").write_all(rules.as_bytes()).expect("rules");
        assert!(nft.wait().expect("nft ends").success());
        let ask = |address: &&str| {
            let to = at(address);
            let client = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).expect("a socket");
            client.send_to(b"hello", to).expect("it is sent");
            client
        };
        addresses.iter().map(ask).collect()
    });
    (netns, clients.expect("entered"))
}

fn conntrack(netns: &Netns) -> Conntrack {
    netns.run(Conntrack::open).expect("entered").expect("a connection tracker")
}

/// What the flows ask that are left.
fn left(conntrack: &mut Conntrack, narrowed: Narrowed) -> Vec<SocketAddr> {
    let mut left: Vec<_> = conntrack.flows(narrowed).expect("a list").iter().map(|flow| flow.asked).collect();
    left.sort();
    left
}

const V4: Narrowed = Narrowed::ToFamily(Family::Inet);
const V6: Narrowed = Narrowed::ToFamily(Family::Inet6);

#[test]
fn the_kernel_lists_what_it_is_asked_for() {
    let (netns, _clients) = asked(&["127.0.0.1:53", "127.0.0.1:54", "127.0.0.2:53", "[::1]:53", "[::1]:54"]);
    let mut conntrack = conntrack(&netns);
    assert_eq!(left(&mut conntrack, V4), [at("127.0.0.1:53"), at("127.0.0.1:54"), at("127.0.0.2:53")]);
    assert_eq!(left(&mut conntrack, V6), [at("[::1]:53"), at("[::1]:54")]);
    for address in ["127.0.0.1:53", "[::1]:53"] {
        assert_eq!(left(&mut conntrack, Narrowed::ToAsked(at(address))), [at(address)]);
    }
    assert_eq!(left(&mut conntrack, Narrowed::ToAsked(at("127.0.0.3:53"))), []);
    // Since 5.8 it narrows them itself.
    let mut listed = |narrowed| {
        conntrack
            .socket
            .dump_all(&mut wire::list(narrowed), |reply| Ok(Some(reply.kind)))
            .expect("a list")
            .len()
    };
    assert_eq!(listed(Narrowed::ToAsked(at("127.0.0.1:53"))), 1);
    assert_eq!(listed(Narrowed::ToAsked(at("[::1]:53"))), 1);
}

#[test]
fn what_is_meant_is_forgotten_and_nothing_else() {
    let (netns, _clients) = asked(&["127.0.0.1:53", "127.0.0.1:54", "127.0.0.1:53", "[::1]:53", "[::1]:54"]);
    let mut conntrack = conntrack(&netns);
    let forgotten = conntrack.forget(V4, |flow| flow.asked.port() == 53).expect("forgotten");
    assert_eq!(forgotten, 2);
    assert_eq!(left(&mut conntrack, V4), [at("127.0.0.1:54")]);
    let only = Narrowed::ToAsked(at("[::1]:53"));
    assert_eq!(conntrack.forget(only, |_| true).expect("forgotten"), 1);
    assert_eq!(conntrack.forget(only, |_| true).expect("nothing left"), 0);
    assert_eq!(left(&mut conntrack, V6), [at("[::1]:54")]);
}

#[test]
fn many_flows_are_forgotten_at_once_and_one_that_ended_meanwhile_is_no_failure() {
    let addresses: Vec<String> = (0..700).map(|number| format!("127.0.0.1:{}", 20_000 + number)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let (netns, _clients) = asked(&addresses);
    let mut conntrack = conntrack(&netns);
    let forgotten = conntrack.forget(V4, |flow| flow.asked.port() >= 20_100).expect("forgotten");
    assert_eq!(forgotten, 600);
    let entries =
        conntrack.socket.dump_all(&mut wire::list(V4), |reply| wire::entry(&reply)).expect("a list");
    let requests = |entries: &[Entry]| entries.iter().map(wire::forget).collect();
    assert_eq!(conntrack.forget_all(requests(&entries[..50])).expect("forgotten"), 50);
    assert_eq!(conntrack.forget_all(requests(&entries)).expect("half were gone"), 50);
}
