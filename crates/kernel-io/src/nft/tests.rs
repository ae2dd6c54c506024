use std::net::IpAddr;

use kernel_state::State;
use kernel_state::nft::{
    ChainKind, Data, DataType, Field, Hook, HookPoint, KeyType, NftState, Protocol as Transport, Rule, Sense,
    SetSpec, Statement, Tuple, Verdict,
};
use proptest::prelude::*;

use super::*;
use crate::netlink::{Attributes, Message};
use crate::netns::Netns;

mod faults;
mod fuzz;

const LAYOUT: Layout = Layout { comment: "layout of a test", sets: &SETS, comments: Ability::There };
const SETS: [OwnSet; 9] = [
    ("addresses", KeyType::Address, DataType::Nothing),
    ("pairs", KeyType::Pair, DataType::Nothing),
    ("ports", KeyType::Port, DataType::Nothing),
    ("port-slots", KeyType::PortSlot, DataType::Endpoint),
    ("sockets", KeyType::Socket, DataType::Nothing),
    ("socket-slots", KeyType::SocketSlot, DataType::Endpoint),
    ("ranges", KeyType::SocketRange, DataType::Nothing),
    ("by-port", KeyType::Port, DataType::Verdict),
    ("by-socket", KeyType::Socket, DataType::Verdict),
];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Two addresses, a range of whole bytes, and one of some bits more.
fn addresses(family: Family) -> [&'static str; 4] {
    match family {
        Family::Ip => ["10.0.0.1", "192.168.1.2", "10.244.0.0/16", "10.128.0.0/9"],
        Family::Ip6 => ["fd00::1", "fd00::2", "fd00:10:244::/48", "fd00:10:240::/45"],
    }
}

/// Every statement that there is, at least once.
fn rules(family: Family) -> Vec<Rule> {
    let [one, _, bytes, bits] = addresses(family);
    let range = |text: &str| text.parse().expect("a range");
    let within = |field, sense, text| Statement::Within(field, sense, range(text));
    let socket: Box<[Field]> = [Field::Destination, Field::Protocol, Field::Port].into();
    let slot = [&socket[..], &[Field::Slot(7)]].concat().into_boxed_slice();
    let admitted = [&socket[..], &[Field::Source]].concat().into_boxed_slice();
    let original = [Field::OriginalDestination, Field::Protocol, Field::OriginalPort].into();
    let end = |verdict| Statement::End(verdict);
    let alone = format!("{one}/{}", if family == Family::Ip { 32 } else { 128 });
    vec![
        Rule::new([within(Field::Source, Sense::Is, bytes), end(Verdict::Accept)]),
        Rule::new([within(Field::Source, Sense::Not, bits), end(Verdict::Return)]),
        Rule::new([within(Field::Destination, Sense::Is, &alone), end(Verdict::Drop)]),
        Rule::new([
            Statement::Protocol(Transport::UDP),
            within(Field::OriginalDestination, Sense::Not, bytes),
        ]),
        Rule::new([Statement::InInterface(Sense::Is, "cbr0".into()), end(Verdict::Jump("last".into()))]),
        Rule::new([Statement::InInterface(Sense::Not, "veth*".into()), end(Verdict::Goto("last".into()))]),
        Rule::new([Statement::New, Statement::SourceIsLocal]).commented("a comment"),
        Rule::new([Statement::Translated, Statement::DestinationIsLocal]),
        Rule::new([Statement::In([Field::Source].into(), Sense::Is, "addresses".into())]),
        Rule::new([Statement::In(admitted, Sense::Not, "ranges".into()), end(Verdict::Drop)]),
        Rule::new([
            Statement::Protocol(Transport::TCP),
            Statement::In(original, Sense::Is, "sockets".into()),
        ]),
        Rule::new([Statement::Vmap(socket, "by-socket".into())]),
        Rule::new([Statement::DnatByMap(slot, "socket-slots".into())]),
        Rule::new([
            Statement::OnceIn(3),
            Statement::Remember("clients".into()),
            Statement::Protocol(Transport::SCTP),
            Statement::Dnat(ip(one), 80),
        ]),
    ]
}

/// A table with every kind of object.
fn state(family: Family) -> NftState {
    let [one, other, bytes, bits] = addresses(family);
    let (one, other) = (ip(one), ip(other));
    let [tcp, udp] = [Transport::TCP, Transport::UDP];
    let mut state = State::new();
    state.put(Key::table(family), Value::Table(LAYOUT.comment.into()));
    for (name, key, data) in SETS {
        state.put(Key::set(family, name), Value::Set(SetSpec::Written(key, data)));
    }
    state.put(Key::set(family, "clients"), Value::Set(SetSpec::Remembered { timeout: 10_800 }));
    let range = |text: &str| text.parse().expect("a range");
    let elements = [
        ("addresses", Tuple::Address(one), Data::Nothing),
        ("pairs", Tuple::Pair(one, other), Data::Nothing),
        ("ports", Tuple::Port(tcp, 80), Data::Nothing),
        ("port-slots", Tuple::PortSlot(udp, 53, 1), Data::Endpoint(one, 5353)),
        ("sockets", Tuple::Socket(one, Transport::SCTP, 9), Data::Nothing),
        ("socket-slots", Tuple::SocketSlot(one, tcp, 80, 70_000), Data::Endpoint(other, 65_535)),
        ("ranges", Tuple::SocketRange(one, tcp, 80, range(bytes)), Data::Nothing),
        ("ranges", Tuple::SocketRange(one, udp, 80, range(bits)), Data::Nothing),
        ("ranges", Tuple::SocketRange(one, tcp, 80, other.into()), Data::Nothing),
        ("by-port", Tuple::Port(tcp, 1), Data::Verdict(Verdict::Drop)),
        ("by-socket", Tuple::Socket(other, tcp, 443), Data::Verdict(Verdict::Goto("last".into()))),
    ];
    for (set, tuple, data) in elements {
        state.put(Key::element(family, set, tuple), Value::Element(data));
    }
    let hook = |kind, at, priority| Hook { kind, at, priority };
    let prerouting = hook(ChainKind::Nat, HookPoint::Prerouting, -100);
    state.put(Key::chain(family, "nat-prerouting"), Value::base_chain(prerouting, rules(family)));
    let postrouting = hook(ChainKind::Nat, HookPoint::Postrouting, 100);
    let masquerade = Rule::new([Statement::Masquerade]);
    state.put(Key::chain(family, "nat-postrouting"), Value::base_chain(postrouting, [masquerade]));
    let forward = hook(ChainKind::Filter, HookPoint::Forward, 0);
    let reject = Rule::new([Statement::Reject]);
    state.put(Key::chain(family, "forward"), Value::base_chain(forward, [reject]));
    state.put(Key::chain(family, "last"), Value::chain([]));
    state
}

fn puts(state: &NftState) -> Vec<Change<nft::Nft>> {
    let put =
        |(key, value): (&Key, &Value)| Change::Put { key: key.clone(), value: value.clone(), replaced: None };
    let mut changes: Vec<_> = state.iter().map(put).collect();
    changes.sort_by_key(|change| <nft::Nft as Objects>::rank(change.key()));
    changes
}

fn drops(state: &NftState) -> Vec<Change<nft::Nft>> {
    let drop = |(key, value): (&Key, &Value)| Change::Drop { key: key.clone(), value: value.clone() };
    let mut changes: Vec<_> = state.iter().map(drop).collect();
    changes.sort_by_key(|change| u8::MAX - <nft::Nft as Objects>::rank(change.key()));
    changes
}

fn read(target: &mut Nft) -> NftState {
    let mut state = State::new();
    target.read(&mut |key, value| state.put(key, value)).expect("the table can be read");
    state
}

/// Runs a test in a network of its own, with a target of each family.
fn in_netns(test: impl Fn(Family, Nft) + Sync) {
    let netns = Netns::new().expect("a network namespace");
    let work = || {
        for family in [Family::Ip, Family::Ip6] {
            test(family, Nft::open(family, LAYOUT).expect("the kernel has nf_tables"));
        }
    };
    netns.run(work).expect("the namespace can be entered");
}

#[test]
fn what_was_written_is_read_back_exactly() {
    in_netns(|family, mut target| {
        assert_eq!(read(&mut target), State::new());
        let wanted = state(family);
        target.write(&puts(&wanted)).expect("the kernel takes it");
        let found = read(&mut target);
        assert_eq!(found.to_string(), wanted.to_string());
        assert_eq!(found, wanted);
        target.write(&drops(&wanted)).expect("the kernel lets it go");
        assert_eq!(read(&mut target), State::new());
    });
}

#[test]
fn all_but_the_table_can_be_removed_piece_by_piece() {
    in_netns(|family, mut target| {
        let wanted = state(family);
        target.write(&puts(&wanted)).expect("the kernel takes it");
        let mut rest = drops(&wanted);
        rest.retain(|change| change.key().object != Object::Table);
        target.write(&rest).expect("the kernel lets it go");
        let found = read(&mut target);
        assert_eq!(found.len(), 1, "{found}");
    });
}

#[test]
fn a_replaced_object_has_its_new_content() {
    in_netns(|family, mut target| {
        let mut wanted = state(family);
        target.write(&puts(&wanted)).expect("the kernel takes it");
        let key = Key::element(family, "by-port", Tuple::Port(Transport::TCP, 1));
        let chain = Key::chain(family, "nat-prerouting");
        let Some(Value::Chain(before)) = wanted.get(&chain).cloned() else { panic!("it has a chain") };
        let hook = before.hook.expect("a base chain");
        let news = [
            (key, Value::verdict(Verdict::Goto("last".into()))),
            (chain.clone(), Value::base_chain(hook, [Rule::new([Statement::drop()])])),
            (Key::chain(family, "forward"), Value::base_chain(Hook { priority: 5, ..hook }, [])),
        ];
        let changes = news.map(|(key, value)| {
            let replaced = wanted.get(&key).cloned();
            wanted.put(key.clone(), value.clone());
            Change::Put { key, value, replaced }
        });
        target.write(&changes).expect("the kernel takes it");
        assert_eq!(read(&mut target).to_string(), wanted.to_string());
    });
}

#[test]
fn a_table_of_another_layout_is_replaced_whole() {
    in_netns(|family, mut target| {
        let other = Layout { comment: "another layout", ..LAYOUT };
        let mut stranger = Nft::open(family, other).expect("the kernel has nf_tables");
        let mut old = state(family);
        old.put(Key::table(family), Value::Table(other.comment.into()));
        stranger.write(&puts(&old)).expect("the kernel takes it");
        let found = read(&mut target);
        assert_eq!(found.len(), 1, "nothing but the table is told of it");
        let wanted = state(family);
        let mut changes = puts(&wanted);
        if let Some(Change::Put { replaced, .. }) = changes.first_mut() {
            *replaced = found.get(&Key::table(family)).cloned();
        }
        target.write(&changes).expect("the kernel takes it");
        assert_eq!(read(&mut target).to_string(), wanted.to_string());
    });
}

#[test]
fn where_the_kernel_keeps_no_comments_a_table_without_one_follows_our_layout() {
    in_netns(|family, mut target| {
        let wanted = state(family);
        let mut changes = puts(&wanted);
        if let Some(Change::Put { value, .. }) = changes.first_mut() {
            *value = Value::Table("".into());
        }
        target.write(&changes).expect("the kernel takes it");
        assert_eq!(read(&mut target).len(), 1, "this kernel keeps them, so it is of another layout");
        let layout = Layout { comments: Ability::Missing, ..LAYOUT };
        let mut forgetful = Nft::open(family, layout).expect("the kernel has nf_tables");
        assert_eq!(read(&mut forgetful).to_string(), wanted.to_string());
    });
}

#[test]
fn the_change_that_was_refused_is_told_and_nothing_is_written() {
    in_netns(|family, mut target| {
        let mut wanted = state(family);
        let nowhere = Tuple::Port(Transport::UDP, 7);
        let key = Key::element(family, "by-port", nowhere);
        wanted.put(key.clone(), Value::verdict(Verdict::Goto("no-such-chain".into())));
        let changes = puts(&wanted);
        let error = target.write(&changes).expect_err("there is no such chain");
        assert_eq!(error.applied, Applied::Nothing);
        let refused = error.refused.expect("the kernel tells which");
        assert_eq!(changes[refused.index].key(), &key);
        assert!(refused.text.ends_with("by-port { udp . 7 : goto no-such-chain }"), "{}", refused.text);
        assert_eq!(read(&mut target), State::new());
    });
}

#[test]
fn an_element_that_is_gone_already_is_told_among_many() {
    in_netns(|family, mut target| {
        let mut wanted = state(family);
        for port in 1..=5000 {
            wanted.put(Key::element(family, "ports", Tuple::Port(Transport::SCTP, port)), Value::member());
        }
        target.write(&puts(&wanted)).expect("the kernel takes it");
        let missing = Key::element(family, "ports", Tuple::Port(Transport::SCTP, 4000));
        let drop = |key: &Key| Change::Drop { key: key.clone(), value: Value::member() };
        target.write(&[drop(&missing)]).expect("it is there");
        let of_ports = |key: &&Key| matches!(key.object, Object::Element("ports", _));
        let changes: Vec<_> = wanted.iter().map(|(key, _)| key).filter(of_ports).map(drop).collect();
        let refused =
            target.write(&changes).expect_err("one is gone").refused.expect("the kernel tells which");
        assert_eq!(changes[refused.index].key(), &missing);
    });
}

#[test]
fn parts_are_written_in_their_order_until_one_is_refused() {
    in_netns(|family, mut target| {
        let put = |set: &'static str, port| {
            let key = Key::element(family, set, Tuple::Port(Transport::SCTP, port));
            Change::Put { key, value: Value::member(), replaced: None }
        };
        let many = |first| (first..first + 2000).map(|port| put("ports", port)).collect::<Vec<_>>();
        let parts = [puts(&state(family)), many(1000), many(5000), vec![put("no-such-set", 1)], many(9000)];
        let mut written = Vec::new();
        let mut count = |changes: &[Change<nft::Nft>]| written.push(changes.len());
        let unwritten = target.write_parts(&mut parts.clone().into_iter(), &mut count);
        let Unwritten { changes, error } = unwritten.expect_err("there is no such set");
        assert_eq!((changes, error.applied), (parts[3].clone(), Applied::Nothing));
        assert_eq!(error.refused.expect("the kernel tells which").index, 0);
        assert_eq!(written, parts[..3].iter().map(Vec::len).collect::<Vec<_>>());
        assert_eq!(read(&mut target).len(), state(family).len() + 4000);
        assert!(matches!(target.drift(), Drift::None), "it was ourselves");
    });
}

/// Two targets of one family: what the other one does is what a stranger does.
fn with_stranger(test: impl Fn(Family, &NftState, Nft, Nft) + Sync) {
    in_netns(|family, mut target| {
        let mut stranger = Nft::open(family, LAYOUT).expect("the kernel has nf_tables");
        let wanted = state(family);
        assert!(matches!(target.drift(), Drift::None), "nothing was read yet");
        read(&mut target);
        target.write(&puts(&wanted)).expect("the kernel takes it");
        assert!(matches!(target.drift(), Drift::None), "it was ourselves");
        read(&mut stranger);
        test(family, &wanted, target, stranger);
    });
}

fn touched(target: &mut Nft) -> Vec<(Key, Option<Value>)> {
    match target.drift() {
        Drift::Objects(objects) => objects,
        Drift::None => panic!("nothing was told"),
        Drift::Possible => panic!("not told which"),
    }
}

#[test]
fn a_strangers_elements_are_told_one_by_one() {
    with_stranger(|family, wanted, mut target, mut stranger| {
        let key = Key::element(family, "ports", Tuple::Port(Transport::TCP, 80));
        let new = Key::element(family, "by-port", Tuple::Port(Transport::UDP, 99));
        let drop = Value::verdict(Verdict::Drop);
        let gone = Change::Drop { key: key.clone(), value: Value::member() };
        let put = Change::Put { key: new.clone(), value: drop.clone(), replaced: None };
        stranger.write(&[put, gone]).expect("the kernel takes it");
        let mut told = touched(&mut target);
        told.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(told, [(new.clone(), Some(drop.clone())), (key.clone(), None)]);
        assert!(matches!(target.drift(), Drift::None), "it was told already");
        let back = Change::Put { key, value: Value::member(), replaced: None };
        target.write(&[back, Change::Drop { key: new, value: drop }]).expect("the kernel takes it");
        assert!(matches!(target.drift(), Drift::None), "it was ourselves");
        assert_eq!(read(&mut target).to_string(), wanted.to_string());
    });
}

#[test]
fn a_chain_that_a_stranger_touched_is_told_as_it_is_now() {
    with_stranger(|family, wanted, mut target, mut stranger| {
        let key = Key::chain(family, "forward");
        let Some(Value::Chain(before)) = wanted.get(&key).cloned() else { panic!("it has a chain") };
        let value = Value::base_chain(before.hook.expect("a base chain"), []);
        let change =
            Change::Put { key: key.clone(), value: value.clone(), replaced: wanted.get(&key).cloned() };
        stranger.write(&[change]).expect("the kernel takes it");
        assert_eq!(touched(&mut target), [(key.clone(), Some(value.clone()))]);
        stranger.write(&[Change::Drop { key: key.clone(), value }]).expect("the kernel lets it go");
        assert_eq!(touched(&mut target), [(key, None)]);
    });
}

#[test]
fn when_the_table_is_gone_anything_may_be() {
    with_stranger(|family, wanted, mut target, mut stranger| {
        stranger.write(&drops(wanted)).expect("the kernel lets it go");
        assert!(matches!(target.drift(), Drift::Possible));
        assert_eq!(read(&mut target), State::new());
        assert!(matches!(target.drift(), Drift::None));
        target.write(&puts(wanted)).expect("the kernel takes it");
        assert_eq!(read(&mut target).to_string(), state(family).to_string());
    });
}

#[test]
fn what_happens_in_other_tables_is_nobodys_business() {
    in_netns(|family, mut target| {
        let other = if family == Family::Ip { Family::Ip6 } else { Family::Ip };
        let mut neighbour = Nft::open(other, LAYOUT).expect("the kernel has nf_tables");
        let wanted = state(other);
        read(&mut target);
        neighbour.write(&puts(&wanted)).expect("the kernel takes it");
        assert!(matches!(target.drift(), Drift::None));
        neighbour.write(&drops(&wanted)).expect("the kernel lets it go");
        assert!(matches!(target.drift(), Drift::None));
    });
}

#[test]
fn after_a_large_write_of_ours_strangers_are_heard_again() {
    with_stranger(|family, _, mut target, mut stranger| {
        let put = |port| {
            let key = Key::element(family, "ports", Tuple::Port(Transport::SCTP, port));
            Change::Put { key, value: Value::member(), replaced: None }
        };
        target.write(&(1..=5000).map(put).collect::<Vec<_>>()).expect("the kernel takes it");
        assert!(matches!(target.drift(), Drift::None), "it was ourselves");
        stranger.write(&[put(5001)]).expect("the kernel takes it");
        assert_eq!(touched(&mut target).len(), 1);
    });
}

#[test]
fn a_large_write_of_one_family_is_no_drift_of_the_other() {
    in_netns(|family, mut target| {
        let other = if family == Family::Ip { Family::Ip6 } else { Family::Ip };
        let mut neighbour = target.open_beside(other).expect("the kernel has nf_tables");
        read(&mut neighbour);
        neighbour.write(&puts(&state(other))).expect("the kernel takes it");
        read(&mut target);
        let mut many = state(family);
        for port in 1..=5000 {
            many.put(Key::element(family, "ports", Tuple::Port(Transport::SCTP, port)), Value::member());
        }
        target.write(&puts(&many)).expect("the kernel takes it");
        assert!(matches!(neighbour.drift(), Drift::None));
        assert!(matches!(target.drift(), Drift::None));
        let mut stranger = Nft::open(other, LAYOUT).expect("the kernel has nf_tables");
        stranger.write(&drops(&state(other))).expect("the kernel lets it go");
        assert!(matches!(neighbour.drift(), Drift::Possible), "it still listens");
        assert!(matches!(target.drift(), Drift::None));
    });
}

#[test]
fn another_proxys_table_is_removed_if_it_is_there() {
    in_netns(|family, mut target| {
        target.write(&puts(&state(family))).expect("the kernel takes it");
        target.remove_table("kube-proxy").expect("nothing to do is no error");
        target.remove_table(nft::TABLE).expect("it is there");
        assert_eq!(read(&mut target), State::new());
    });
}

#[test]
fn every_rule_is_read_as_it_is_written() {
    for family in [Family::Ip, Family::Ip6] {
        for rule in rules(family) {
            let mut message = Message::new(0, 0);
            rule::write(&mut message, family, &rule);
            let attributes = Attributes::new(&message.as_bytes()[16..]);
            assert_eq!(rule::read(family, &attributes).expect("well formed"), rule);
        }
    }
}

/// `map endpoints { typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport }` as nft
/// 1.0.6 writes its user data (`nft --debug=mnl`): type, length, value.
#[test]
fn the_type_of_a_map_is_told_as_nft_tells_it() {
    let captured = [
        "0004 00000000",                                           // byte order of the key: mixed
        "0104 00000000",                                           // byte order of the data: mixed
        "0360",                                                    // type of the key
        "  0004 0d000000 0158",                                    // a concatenation
        "    0014 0004 07000000 010c 0004 0c000000 0104 0c000000", // payload: ip, daddr
        "    010e 0004 09000000 0106 0004 10000000",               // meta: l4proto
        "    0214 0004 07000000 010c 0004 0b000000 0104 02000000", // payload: th, dport
        "    031a 0004 17000000 0112 0004 01000000 0104 02000000 0204 00000000", // numgen: random, mod 2, from 0
        "0434",                                                                  // type of the data
        "  0004 0d000000 012c",                                                  // a concatenation
        "    0014 0004 07000000 010c 0004 0c000000 0104 0c000000",               // payload: ip, daddr
        "    0114 0004 07000000 010c 0004 0b000000 0104 02000000",               // payload: th, dport
        "0604 00000000",                                                         // the data is no interval
    ];
    assert_eq!(userdata::of_set(Family::Ip, KeyType::SocketSlot, DataType::Endpoint), bytes_of(&captured));
    let plain = ["0004 00000000", "0104 00000000", "0308 0004 0d000000 0100", "0604 00000000"];
    assert_eq!(userdata::of_set(Family::Ip, KeyType::Socket, DataType::Verdict), bytes_of(&plain));
    // network byte order
    assert_eq!(
        userdata::of_set(Family::Ip6, KeyType::Address, DataType::Nothing),
        bytes_of(&["0004 02000000"])
    );
}

/// `ip6 saddr fd00:10:180::/48 drop` as nft 1.0.6 writes it.
#[test]
fn a_rule_is_written_as_nft_writes_it() {
    let range = "fd00:10:180::/48".parse().expect("a range");
    let rule = Rule::new([Statement::Within(Field::Source, Sense::Is, range), Statement::drop()]);
    let mut message = Message::new(0, 0);
    rule::write(&mut message, Family::Ip6, &rule);
    let captured = [
        "9800 0480",                                           // expressions
        "  3400 0180 0c00 0100 7061796c6f616400",              // payload
        "    2400 0280 0800 0100 00000001 0800 0200 00000001", // to register 1, of the network header
        "      0800 0300 00000008 0800 0400 00000006",         // at 8, 6 bytes
        "  3000 0180 0800 0100 636d7000",                      // cmp
        "    2400 0280 0800 0100 00000001 0800 0200 00000000", // register 1, equal
        "      1000 0380 0a00 0100 fd0000100180 0000",         // to these six bytes
        "  3000 0180 0e00 0100 696d6d656469617465 00 0000",    // immediate
        "    1c00 0280 0800 0100 00000000",                    // to the verdict
        "      1000 0280 0c00 0280 0800 0100 00000000",        // drop
    ];
    assert_eq!(&message.as_bytes()[16..], bytes_of(&captured));
}

fn bytes_of(lines: &[&str]) -> Vec<u8> {
    let digits: String = lines.concat().split_whitespace().collect();
    let byte = |place: usize| u8::from_str_radix(&digits[place..place + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// Reads bytes as everything that there is to read.
fn read_all(bytes: &[u8]) {
    let attributes = Attributes::new(bytes);
    for family in [Family::Ip, Family::Ip6] {
        // Whatever comes of it, it must come.
        let _spec = set::read(family, &attributes);
        let _rule = rule::read(family, &attributes);
        let _hook = chain::read(&attributes);
        for key in [KeyType::Address, KeyType::SocketSlot, KeyType::SocketRange] {
            for data in [DataType::Nothing, DataType::Verdict, DataType::Endpoint] {
                let _element = set::read_element(family, (key, data), &attributes);
            }
        }
    }
    let _comment = userdata::read_comment(bytes);
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn nor_do_those_that_are_nearly_right(place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0usize..8) {
        for family in [Family::Ip, Family::Ip6] {
            for rule in rules(family) {
                let mut message = Message::new(0, 0);
                rule::write(&mut message, family, &rule);
                let mut bytes = message.as_bytes()[16..].to_vec();
                let at = place.index(bytes.len());
                bytes[at] = byte;
                bytes.truncate(bytes.len() - cut);
                read_all(&bytes);
            }
        }
    }
}
