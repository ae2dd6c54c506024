//! Captured bytes with each field commented, laws over any bytes, and a few exchanges with the kernel.

use proptest::prelude::*;
use rustix::io::Errno;

use super::socket::refusal;
use super::{
    Attributes, BatchError, Malformed, Message, Messages, NetlinkError, Protocol, Refusal, Reply, Socket,
    flags,
};
use crate::netns::Netns;

/// What Linux 6.18 answers to `RTM_GETLINK` of a name that is not there, captured from a raw socket.
const NO_SUCH_LINK: [u8; 36] = [
    0x24, 0, 0, 0, // nlmsg_len: 36
    2, 0, // nlmsg_type: NLMSG_ERROR
    0, 1, // nlmsg_flags: NLM_F_CAPPED
    7, 0, 0, 0, // nlmsg_seq
    0x39, 0x30, 0, 0, // nlmsg_pid: our port
    0xed, 0xff, 0xff, 0xff, // error: -19, ENODEV
    0x2c, 0, 0, 0, // of the request: nlmsg_len 44
    18, 0, // RTM_GETLINK
    5, 0, // NLM_F_REQUEST | NLM_F_ACK
    7, 0, 0, 0, // nlmsg_seq
    0, 0, 0, 0, // nlmsg_pid
];

/// What it answers, captured likewise, to a route by way of a gateway that no route leads to.
const NO_GATEWAY: [u8; 68] = [
    0x44, 0, 0, 0, // nlmsg_len: 68
    2, 0, // nlmsg_type: NLMSG_ERROR
    0, 3, // nlmsg_flags: NLM_F_CAPPED | NLM_F_ACK_TLVS
    8, 0, 0, 0, // nlmsg_seq
    0x39, 0x30, 0, 0, // nlmsg_pid
    0x9b, 0xff, 0xff, 0xff, // error: -101, ENETUNREACH
    0x24, 0, 0, 0, // of the request: nlmsg_len 36
    24, 0, // RTM_NEWROUTE
    5, 6, // NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE
    8, 0, 0, 0, // nlmsg_seq
    0, 0, 0, 0, // nlmsg_pid
    32, 0, // nla_len: 32
    1, 0, // nla_type: NLMSGERR_ATTR_MSG
    b'N', b'e', b'x', b't', b'h', b'o', b'p', b' ', b'h', b'a', b's', b' ', b'i', b'n', b'v', b'a', b'l',
    b'i', b'd', b' ', b'g', b'a', b't', b'e', b'w', b'a', b'y', 0, // the text, 28 bytes with its NUL
];

fn only(bytes: &[u8]) -> Reply<'_> {
    let mut messages = Messages::new(bytes);
    let reply = messages.next().expect("a message").expect("well formed");
    assert_eq!(messages.next(), None);
    reply
}

#[test]
fn a_refusal_without_words_is_its_number() {
    let reply = only(&NO_SUCH_LINK);
    assert_eq!((reply.kind, reply.sequence, reply.port), (2, 7, 12345));
    let said = refusal(&reply).expect("well formed");
    assert_eq!(
        said,
        Some(Refusal { errno: Errno::NODEV, private: None, text: None, offset: None, missing: None })
    );
}

#[test]
fn a_refusal_carries_the_words_of_the_kernel() {
    let said = refusal(&only(&NO_GATEWAY)).expect("well formed").expect("a refusal");
    assert_eq!(said.to_string(), "Network is unreachable (os error 101): Nexthop has invalid gateway");
}

#[test]
fn the_words_are_found_behind_a_repeated_request() {
    let mut bytes = NO_GATEWAY.to_vec();
    bytes[7] = 2; // NLM_F_ACK_TLVS without NLM_F_CAPPED: all 36 bytes of the request are repeated
    bytes.splice(36..36, [0; 20]);
    bytes[0] += 20;
    let said = refusal(&only(&bytes)).expect("well formed").expect("a refusal");
    assert_eq!(said.text.as_deref(), Some("Nexthop has invalid gateway"));
}

#[test]
fn a_message_grows_with_padding_and_nested_attributes() {
    let mut message = Message::new(16, flags::CREATE);
    message.set_sequence(9).text(3, "lo").nested(18, |info| {
        info.u16(1, 0x0102).be32(2, 0x0304_0506);
    });
    let expected = [
        44, 0, 0, 0, // nlmsg_len
        16, 0, // nlmsg_type: RTM_NEWLINK
        1, 4, // nlmsg_flags: NLM_F_REQUEST | NLM_F_CREATE
        9, 0, 0, 0, // nlmsg_seq
        0, 0, 0, 0, // nlmsg_pid: the kernel fills it in
        7, 0, 3, 0, // nla_len 7, IFLA_IFNAME
        b'l', b'o', 0, 0, // the name, its NUL, one byte of padding
        20, 0, 18, 0x80, // nla_len 20, IFLA_LINKINFO | NLA_F_NESTED
        6, 0, 1, 0, 2, 1, 0, 0, // nla_len 6, in machine order, two bytes of padding
        8, 0, 2, 0, 3, 4, 5, 6, // nla_len 8, in network order
    ];
    assert_eq!(message.as_bytes(), expected);
}

#[test]
fn an_attribute_past_its_length_field_is_refused_before_it_is_sent() {
    let mut message = Message::new(16, 0);
    message.nested(5, |list| {
        list.attribute(1, &vec![0; 40_000]).attribute(2, &vec![0; 40_000]);
    });
    assert_eq!(message.too_long(), Some(5));
    let mut socket = Socket::open(Protocol::Route).expect("a socket");
    assert!(matches!(socket.request(&mut message), Err(NetlinkError::TooLong { kind: 5 })));
}

#[test]
fn an_error_number_that_the_kernel_does_not_have_is_malformed() {
    let mut bytes = NO_SUCH_LINK;
    bytes[17] = 0;
    assert!(matches!(refusal(&only(&bytes)), Err(Malformed::Errno { .. })));
}

#[test]
fn wrong_sizes_are_told() {
    let attributes = [5, 0, 1, 0, 0xff, 0, 0, 0];
    let attribute = Attributes::new(&attributes).find(1).expect("well formed").expect("there");
    assert_eq!(attribute.u8(), Ok(0xff));
    assert_eq!(attribute.u32(), Err(Malformed::Size { kind: 1, have: 1, want: 4 }));
    assert_eq!(attribute.text(), Err(Malformed::Text { kind: 1 }));
    let cut = Attributes::new(&attributes[..3]).next();
    assert_eq!(cut, Some(Err(Malformed::Short { have: 3, want: 4 })));
    let long = Messages::new(&NO_GATEWAY[..40]).next();
    assert_eq!(long, Some(Err(Malformed::Length { says: 68, have: 40 })));
}

fn open(netns: &Netns) -> Socket {
    netns.run(|| Socket::open(Protocol::Route)).expect("entered").expect("a socket")
}

/// A request for a veth pair, of which the other end gets a name from the kernel.
fn pair(name: &str) -> Message {
    let mut message = Message::new(16, flags::CREATE | flags::EXCL);
    message.header(&[0; 16]).text(3, name).nested(18, |info| {
        info.text(1, "veth");
    });
    message
}

#[test]
fn one_write_carries_many_requests_and_tells_which_failed() {
    let netns = Netns::new().expect("a namespace");
    let mut socket = open(&netns);
    let mut good = [pair("one"), pair("two")];
    good[1].add_flags(flags::ACK);
    socket.batch(&mut good).expect("both are made");
    let mut bad = [pair("three"), pair("two"), pair("four")];
    bad[2].add_flags(flags::ACK);
    let Err(BatchError::Refused { refusals }) = socket.batch(&mut bad) else { panic!("two is there twice") };
    let places: Vec<_> = refusals.iter().map(|(place, no)| (*place, no.errno)).collect();
    assert_eq!(places, [(1, Errno::EXIST)]);
}

#[test]
fn a_change_is_told_to_those_who_listen() {
    const GROUP_LINK: u16 = 1; // RTNLGRP_LINK
    let netns = Netns::new().expect("a namespace");
    let (mut socket, mut listener) = (open(&netns), open(&netns));
    listener.join(GROUP_LINK).expect("joined");
    socket.request(&mut pair("one")).expect("a pair");
    let mut kinds = Vec::new();
    let received = listener.receive(|reply| {
        kinds.push(reply.kind);
        Ok(())
    });
    received.expect("a notification");
    assert_eq!(kinds, [16]);
}

#[test]
fn a_long_list_is_read_whole_and_lost_notifications_are_told() {
    const GROUP_LINK: u16 = 1; // RTNLGRP_LINK
    let netns = Netns::new().expect("a namespace");
    let (mut socket, mut listener) = (open(&netns), open(&netns));
    listener.join(GROUP_LINK).expect("joined");
    for number in 0..100 {
        socket.request(&mut pair(&format!("pair{number}"))).expect("a pair");
    }
    let mut get = Message::new(18, 0);
    let links = socket.dump_all(get.header(&[0; 16]), |_| Ok(Some(()))).expect("a list");
    assert_eq!(links.len(), 201);
    assert!(matches!(listener.receive(|_| Ok(())), Err(NetlinkError::Overrun)));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        for reply in Messages::new(&bytes).flatten() {
            let _ = refusal(&reply);
            let _ = reply.split::<12>();
        }
        for attribute in Attributes::new(&bytes).flatten() {
            let _ = (attribute.u64(), attribute.text(), attribute.nested().count());
        }
    }

    #[test]
    fn a_corrupted_answer_is_read_without_a_panic(place in 0..NO_GATEWAY.len(), byte: u8, cut in 0..=NO_GATEWAY.len()) {
        let mut bytes = NO_GATEWAY;
        bytes[place] = byte;
        for reply in Messages::new(&bytes[..cut]).flatten() {
            let _ = refusal(&reply);
        }
    }

    #[test]
    fn what_is_built_is_read_back(parts in proptest::collection::vec((1..0x3fff_u16, proptest::collection::vec(any::<u8>(), 0..40)), 0..20)) {
        let mut message = Message::new(77, 0);
        message.nested(1, |all| {
            for (kind, payload) in &parts {
                all.attribute(*kind, payload);
            }
        });
        let reply = only(message.as_bytes());
        let (_, attributes) = reply.split::<0>().expect("well formed");
        let all = attributes.find(1).expect("well formed").expect("there");
        let read: Vec<_> = all.nested().map(|part| part.map(|part| (part.kind, part.payload.to_vec()))).collect::<Result<_, _>>().expect("well formed");
        prop_assert_eq!(read, parts);
    }
}
