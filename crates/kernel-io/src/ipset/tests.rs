use kernel_state::ipset::{Family, HashOf};
use kernel_state::xtables::Protocol::{Sctp, Tcp, Udp};
use proptest::prelude::*;

use super::*;
use crate::netlink::{Messages, Reply};
use crate::netns::Netns;

fn name(text: &str) -> SetName {
    SetName::new(text).expect("a short name")
}

fn only(bytes: &[u8]) -> Reply<'_> {
    Messages::new(bytes).next().expect("a message").expect("a whole one")
}

#[test]
fn a_member_is_added_as_ipset_adds_it() {
    #[rustfmt::skip]
    let expected = [
        0x50, 0, 0, 0,              // length
        9, 6,                       // IPSET_CMD_ADD, NFNL_SUBSYS_IPSET
        1, 0,                       // NLM_F_REQUEST: to add it twice is no error
        0, 0, 0, 0, 0, 0, 0, 0,     // sequence, port
        2, 0, 0, 0,                 // AF_INET, version 0, no resource
        5, 0, 1, 0, 6, 0, 0, 0,     // IPSET_ATTR_PROTOCOL: 6
        8, 0, 2, 0, b'W', b'E', b'B', 0,    // IPSET_ATTR_SETNAME
        0x2c, 0, 7, 0x80,           // IPSET_ATTR_DATA, nested
        0x0c, 0, 1, 0x80,           //   IPSET_ATTR_IP, nested
        8, 0, 1, 0x40, 10, 0, 0, 1, //     IPSET_ATTR_IPADDR_IPV4, in network order
        6, 0, 4, 0x40, 0, 80, 0, 0, //   IPSET_ATTR_PORT, in network order
        5, 0, 7, 0, 6, 0, 0, 0,     //   IPSET_ATTR_PROTO: tcp
        0x0c, 0, 20, 0x80,          //   IPSET_ATTR_IP2, nested
        8, 0, 1, 0x40, 10, 0, 0, 2, //     IPSET_ATTR_IPADDR_IPV4
    ];
    let member = Member::IpPortIp([10, 0, 0, 1].into(), Tcp, 80, [10, 0, 0, 2].into());
    assert_eq!(wire::add(&name("WEB"), &member).as_bytes(), expected);
}

/// `ipset create WEB hash:ip,port,net family inet; ipset add WEB 10.0.0.1,udp:53,10.1.0.0/16`, as 6.1 lists it.
#[rustfmt::skip]
const LISTED: [u8; 124] = [
    124, 0, 0, 0,                   // length
    7, 6, 2, 0,                     // IPSET_CMD_LIST, NFNL_SUBSYS_IPSET; NLM_F_MULTI
    1, 0, 0, 0, 0, 0, 0, 0,         // sequence, port
    2, 0, 0, 0,                     // AF_INET
    5, 0, 1, 0, 6, 0, 0, 0,         // IPSET_ATTR_PROTOCOL
    8, 0, 2, 0, b'W', b'E', b'B', 0,        // IPSET_ATTR_SETNAME
    21, 0, 3, 0, b'h', b'a', b's', b'h', b':', b'i', b'p', b',',    // IPSET_ATTR_TYPENAME
    b'p', b'o', b'r', b't', b',', b'n', b'e', b't', 0, 0, 0, 0,
    5, 0, 5, 0, 2, 0, 0, 0,         // IPSET_ATTR_FAMILY: AF_INET
    56, 0, 8, 0x80,                 // IPSET_ATTR_ADT, nested
    52, 0, 7, 0x80,                 //   IPSET_ATTR_DATA, nested
    12, 0, 1, 0x80,                 //     IPSET_ATTR_IP
    8, 0, 1, 0x40, 10, 0, 0, 1,     //       IPSET_ATTR_IPADDR_IPV4
    12, 0, 20, 0x80,                //     IPSET_ATTR_IP2
    8, 0, 1, 0x40, 10, 1, 0, 0,     //       IPSET_ATTR_IPADDR_IPV4
    6, 0, 4, 0x40, 0, 53, 0, 0,     //     IPSET_ATTR_PORT
    5, 0, 21, 0, 16, 0, 0, 0,       //     IPSET_ATTR_CIDR2
    5, 0, 7, 0, 17, 0, 0, 0,        //     IPSET_ATTR_PROTO: udp
];

#[test]
fn a_listed_set_is_read_with_its_members() {
    let reply = only(&LISTED);
    let kind = wire::kind(&reply).expect("well formed").expect("the first part");
    assert_eq!(kind, SetType::Hash(HashOf::IpPortNet, Family::Inet));
    let mut members = Vec::new();
    wire::members(&reply, &kind, &mut members).expect("well formed");
    let range = "10.1.0.0/16".parse().expect("a range");
    assert_eq!(members, [Member::IpPortNet([10, 0, 0, 1].into(), Udp, 53, range)]);
}

proptest! {
    #[test]
    fn any_answer_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let reply = Reply { kind: 0, flags: 0, sequence: 0, port: 0, payload: &bytes };
        let _ = wire::revision(&reply);
        let _ = wire::kind(&reply);
        for of in [HashOf::Ip, HashOf::IpPort, HashOf::IpPortIp, HashOf::IpPortNet] {
            let _ = wire::members(&reply, &SetType::Hash(of, Family::Inet6), &mut Vec::new());
        }
    }

    #[test]
    fn any_change_of_a_list_is_read_without_a_panic(place in 20_usize..124, byte: u8) {
        let mut bytes = LISTED;
        bytes[place] = byte;
        let reply = only(&bytes);
        let _ = wire::kind(&reply);
        let _ = wire::members(&reply, &SetType::Hash(HashOf::IpPortNet, Family::Inet), &mut Vec::new());
    }
}

/// Every type with a member, in a namespace of its own; needs root.
#[test]
fn what_is_written_is_read_again() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (one, two) = ("fd00::1".parse().expect("an address"), "fd00::2".parse().expect("an address"));
    let range = "fd00:1::/32".parse().expect("a range");
    let hash = |of| SetType::Hash(of, Family::Inet6);
    let rows = [
        ("A", SetType::BitmapPort, vec![Member::Port(0), Member::Port(65_535)]),
        ("B", hash(HashOf::Ip), vec![Member::Ip(one), Member::Ip(two)]),
        ("C", hash(HashOf::IpPort), vec![Member::IpPort(one, Tcp, 80), Member::IpPort(one, Udp, 80)]),
        ("D", hash(HashOf::IpPortIp), vec![Member::IpPortIp(one, Sctp, 80, two)]),
        ("E", hash(HashOf::IpPortNet), vec![Member::IpPortNet(one, Tcp, 80, range)]),
    ];
    let work = || {
        let mut target =
            Ipsets::open(rows.iter().map(|(set, ..)| name(set)).collect()).expect("ipset is there");
        target.require(&rows.clone().map(|(_, kind, _)| kind)).expect("its types are there");
        let mut changes = Vec::new();
        for (set, kind, members) in rows.clone() {
            let put = |key, value| Change::Put { key, value, replaced: None };
            changes.push(put(Key::Set(name(set)), Value::Set(kind)));
            changes
                .extend(members.into_iter().map(|member| put(Key::Member(name(set), member), Value::Member)));
        }
        target.write(&changes).expect("written");
        let mut found = Vec::new();
        target.read(&mut |key, value| found.push((key, value))).expect("read");
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut wanted: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Put { key, value, .. } => Some((key.clone(), value.clone())),
                Change::Drop { .. } => None,
            })
            .collect();
        wanted.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(found, wanted);
        let drops: Vec<_> =
            wanted.into_iter().rev().map(|(key, value)| Change::Drop { key, value }).collect();
        target.write(&drops).expect("dropped");
        target.read(&mut |key, _| panic!("{key:?} is left")).expect("read");
    };
    Netns::new().expect("a namespace").run(work).expect("a thread in it");
}

#[test]
fn a_refusal_names_the_change_and_the_reason() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let work = || {
        let mut target = Ipsets::open(vec![name("A")]).expect("ipset is there");
        let member = Key::Member(name("A"), Member::Port(80));
        let change = Change::Put { key: member, value: Value::Member, replaced: None };
        let error = target.write(&[change]).expect_err("there is no set A");
        assert_eq!(error.to_string(), "cannot write add A 80: No such file or directory (os error 2)");
    };
    Netns::new().expect("a namespace").run(work).expect("a thread in it");
}
