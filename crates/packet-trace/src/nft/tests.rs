//! A table that was written down by hand.

use kernel_state::nft::{ChainKind, DataType, Family, Field, Hook, Key, KeyType, NftState, Rule, Sense};

use super::*;

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

fn chain(state: &mut NftState, name: &str, rules: impl IntoIterator<Item = Rule>) {
    state.put(Key::chain(Family::Ip, name), Value::chain(rules));
}

fn base(
    state: &mut NftState,
    name: &str,
    kind: ChainKind,
    at: HookPoint,
    rules: impl IntoIterator<Item = Rule>,
) {
    let hook = Hook { kind, at, priority: 0 };
    state.put(Key::chain(Family::Ip, name), Value::base_chain(hook, rules));
}

fn element(state: &mut NftState, set: &'static str, tuple: Tuple, data: Data) {
    state.put(Key::element(Family::Ip, set, tuple), Value::Element(data));
}

const SOCKET: [Field; 3] = [Field::Destination, Field::Protocol, Field::Port];

/// Two endpoints, one of them on this node; a service that is remembered; a port that is refused.
fn table() -> NftState {
    let mut state = NftState::new();
    let tcp = Protocol::TCP;
    let web = Tuple::Socket(ip("172.30.0.1"), tcp, 80);
    let sticky = Tuple::Socket(ip("172.30.0.2"), tcp, 80);
    element(&mut state, "services", web, Data::Verdict(Verdict::Goto("two".into())));
    element(&mut state, "services", sticky, Data::Verdict(Verdict::Goto("sticky".into())));
    for (slot, to) in [(0, "10.180.0.1"), (1, "10.180.1.7")] {
        let tuple = Tuple::SocketSlot(ip("172.30.0.1"), tcp, 80, slot);
        element(&mut state, "endpoints", tuple, Data::Endpoint(ip(to), 8080));
    }
    element(&mut state, "hairpins", Tuple::Pair(ip("10.180.0.1"), ip("10.180.0.1")), Data::Nothing);
    element(&mut state, "refused", Tuple::Socket(ip("172.30.0.3"), tcp, 80), Data::Nothing);
    state.put(Key::set(Family::Ip, "clients"), Value::Set(SetSpec::Remembered { timeout: 60 }));
    state.put(
        Key::set(Family::Ip, "services"),
        Value::Set(SetSpec::Written(KeyType::Socket, DataType::Verdict)),
    );
    let dispatch = || Rule::new([Statement::Vmap(SOCKET.into(), "services".into())]);
    base(&mut state, "prerouting", ChainKind::Nat, HookPoint::Prerouting, [dispatch()]);
    base(&mut state, "output", ChainKind::Nat, HookPoint::Output, [dispatch()]);
    let to_itself = Statement::In([Field::Source, Field::Destination].into(), Sense::Is, "hairpins".into());
    let masquerade = Rule::new([Statement::Translated, to_itself, Statement::Masquerade]);
    base(&mut state, "postrouting", ChainKind::Nat, HookPoint::Postrouting, [masquerade]);
    let refused = Statement::In(SOCKET.into(), Sense::Is, "refused".into());
    base(
        &mut state,
        "forward",
        ChainKind::Filter,
        HookPoint::Forward,
        [Rule::new([refused, Statement::Reject])],
    );
    let slot = [&SOCKET[..], &[Field::Slot(2)]].concat().into();
    chain(&mut state, "two", [Rule::new([Statement::DnatByMap(slot, "endpoints".into())])]);
    let known = Statement::In([Field::Source].into(), Sense::Is, "clients".into());
    let to = || [Statement::Remember("clients".into()), Statement::Dnat(ip("10.180.0.1"), 8080)];
    chain(&mut state, "sticky", [Rule::new([known].into_iter().chain(to())), Rule::new(to())]);
    state
}

fn packet(from: Sender, to: &str) -> Packet {
    Packet { from, protocol: service_plan::Protocol::Tcp, to: to.parse().expect("a socket") }
}

fn told(from: Sender, to: &str) -> String {
    let (table, host) = (table(), host());
    let told = TableReader::new(&table, &host).outcome(&packet(from, to));
    told.map_or_else(|puzzle| puzzle.to_string(), |outcome| outcome.to_string())
}

#[test]
fn a_table_is_followed_as_the_kernel_follows_it() {
    let pod = Sender::Pod(ip("10.180.0.9"));
    let itself = Sender::Pod(ip("10.180.0.1"));
    let node = Sender::Node(ip("192.168.0.10"));
    let rows = [
        (pod, "172.30.0.1:80", "one of 10.180.0.1:8080 10.180.1.7:8080"),
        (node, "172.30.0.1:80", "one of 10.180.0.1:8080 10.180.1.7:8080"),
        (itself, "172.30.0.1:80", "one of 10.180.0.1:8080(masqueraded) 10.180.1.7:8080"),
        (pod, "172.30.0.2:80", "one of 10.180.0.1:8080, kept"),
        (pod, "172.30.0.3:80", "rejected"),
        (node, "172.30.0.3:80", "untouched"),
        (pod, "172.30.0.1:81", "untouched"),
    ];
    for (from, to, expected) in rows {
        assert_eq!(told(from, to), expected, "{from} {to}");
    }
}

#[test]
fn each_number_has_the_same_share() {
    let (table, host) = (table(), host());
    let reader = TableReader::new(&table, &host);
    let shares =
        reader.shares(&packet(Sender::Outside(ip("203.0.113.9")), "172.30.0.1:80")).expect("no puzzle");
    assert_eq!(shares.into_values().collect::<Vec<_>>(), [0.5, 0.5]);
}

#[test]
fn what_leads_nowhere_is_told() {
    let mut table = table();
    table.remove(&Key::chain(Family::Ip, "two"));
    let host = host();
    let told =
        TableReader::new(&table, &host).outcome(&packet(Sender::Pod(ip("10.180.0.9")), "172.30.0.1:80"));
    assert_eq!(told, Err(Puzzle::NoSuchChain { table: "fairlead", chain: "two".to_owned() }));
}

#[test]
fn an_endpoint_that_is_missing_makes_it_a_matter_of_chance() {
    let mut table = table();
    let first = Tuple::SocketSlot(ip("172.30.0.1"), Protocol::TCP, 80, 0);
    table.remove(&Key::element(Family::Ip, "endpoints", first));
    let host = host();
    let told =
        TableReader::new(&table, &host).outcome(&packet(Sender::Pod(ip("10.180.0.9")), "172.30.0.1:80"));
    assert!(matches!(told, Err(Puzzle::Mixed(_))), "{told:?}");
}
