use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn put(key: Key, value: Value, replaced: Option<Value>) -> Change<Nft> {
    Change::Put { key, value, replaced }
}

fn printed(changes: &[Change<Nft>]) -> Vec<String> {
    let mut text = String::new();
    Nft::print_changes(changes, &mut text).expect("a String takes all");
    text.lines().map(str::to_owned).collect()
}

fn goto(chain: &str) -> Value {
    Value::chain([Rule::new([Statement::goto(chain)])])
}

#[test]
fn what_others_refer_to_is_made_before_them_and_removed_after_them() {
    let family = Family::Ip;
    let element = Key::element(family, "by-port", Tuple::Port(Protocol::TCP, 80));
    let to_b = Value::verdict(Verdict::Goto("b".into()));
    let map = Value::Set(SetSpec::Written(KeyType::Port, DataType::Verdict));
    let made = [
        put(Key::table(family), Value::Table("of a test".into()), None),
        put(Key::set(family, "by-port"), map.clone(), None),
        put(Key::chain(family, "a"), goto("b"), None),
        put(Key::chain(family, "b"), Value::chain([]), None),
        put(element.clone(), to_b.clone(), None),
    ];
    let expected = [
        "add table ip fairlead { comment \"of a test\"; }",
        "add map ip fairlead by-port { type inet_proto . inet_service : verdict; }",
        "add chain ip fairlead a",
        "add chain ip fairlead b",
        "add rule ip fairlead a goto b",
        "add element ip fairlead by-port { tcp . 80 : goto b }",
    ];
    assert_eq!(printed(&made), expected);
    let removed = [
        Change::Drop { key: element, value: to_b },
        Change::Drop { key: Key::chain(family, "a"), value: goto("b") },
        Change::Drop { key: Key::chain(family, "b"), value: Value::chain([]) },
        Change::Drop { key: Key::set(family, "by-port"), value: map },
    ];
    let expected = [
        "delete element ip fairlead by-port { tcp . 80 }",
        "flush chain ip fairlead a",
        "flush chain ip fairlead b",
        "delete chain ip fairlead a",
        "delete chain ip fairlead b",
        "delete set ip fairlead by-port",
    ];
    assert_eq!(printed(&removed), expected);
}

#[test]
fn with_the_table_all_else_goes() {
    let family = Family::Ip6;
    let drops = [
        Change::Drop { key: Key::chain(family, "a"), value: goto("b") },
        Change::Drop { key: Key::table(family), value: Value::Table("of a test".into()) },
    ];
    assert_eq!(printed(&drops), ["delete table ip6 fairlead"]);
    let before = Value::Table("another layout".into());
    let replaced = [put(Key::table(family), Value::Table("of a test".into()), Some(before))];
    let expected = ["delete table ip6 fairlead", "add table ip6 fairlead { comment \"of a test\"; }"];
    assert_eq!(printed(&replaced), expected);
}

#[test]
fn an_element_is_taken_out_before_another_takes_its_place() {
    let family = Family::Ip6;
    let slot =
        |slot| Key::element(family, "slots", Tuple::SocketSlot(ip("fd00::1"), Protocol::UDP, 53, slot));
    let to = |text: &str| Value::Element(Data::Endpoint(ip(text), 5353));
    let changes = [
        put(slot(0), to("fd00::a"), Some(to("fd00::b"))),
        put(slot(1), to("fd00::b"), None),
        Change::Drop { key: slot(2), value: to("fd00::c") },
    ];
    let expected = [
        "delete element ip6 fairlead slots { fd00::1 . udp . 53 . 0 }",
        "delete element ip6 fairlead slots { fd00::1 . udp . 53 . 2 }",
        "add element ip6 fairlead slots { fd00::1 . udp . 53 . 0 : fd00::a . 5353 }",
        "add element ip6 fairlead slots { fd00::1 . udp . 53 . 1 : fd00::b . 5353 }",
    ];
    assert_eq!(printed(&changes), expected);
}

#[test]
fn a_chain_is_filled_again_or_made_again_if_its_hook_is_another() {
    let family = Family::Ip;
    let hook = |priority| Hook { kind: ChainKind::Nat, at: HookPoint::Output, priority };
    let chain =
        |priority, chain: &str| Value::base_chain(hook(priority), [Rule::new([Statement::jump(chain)])]);
    let key = Key::chain(family, "output");
    let filled = [put(key.clone(), chain(-100, "a"), Some(chain(-100, "b")))];
    assert_eq!(printed(&filled), ["flush chain ip fairlead output", "add rule ip fairlead output jump a"]);
    let expected = [
        "flush chain ip fairlead output",
        "delete chain ip fairlead output",
        "add chain ip fairlead output { type nat hook output priority -100; policy accept; }",
        "add rule ip fairlead output jump a",
    ];
    assert_eq!(printed(&[put(key, chain(-100, "a"), Some(chain(-90, "a")))]), expected);
}

#[test]
fn statements_read_as_nft_prints_them() {
    let range = |text: &str| text.parse().expect("a range");
    let socket: Concatenation = [Field::Destination, Field::Protocol, Field::Port].into();
    let slot: Concatenation = [Field::Protocol, Field::Port, Field::Slot(3)].into();
    let original: Concatenation = [Field::OriginalDestination, Field::Protocol, Field::OriginalPort].into();
    let rows = [
        (Statement::Within(Field::Source, Sense::Not, range("fd00::/48")), "ip6 saddr != fd00::/48"),
        (Statement::Within(Field::Destination, Sense::Is, range("::1/128")), "ip6 daddr ::1"),
        (Statement::InInterface(Sense::Not, "veth*".into()), "iifname != \"veth*\""),
        (Statement::In(socket.clone(), Sense::Is, "s".into()), "ip6 daddr . meta l4proto . th dport @s"),
        (
            Statement::In(original, Sense::Not, "s".into()),
            "ct original ip6 daddr . meta l4proto . ct original proto-dst != @s",
        ),
        (Statement::Vmap(socket, "m".into()), "ip6 daddr . meta l4proto . th dport vmap @m"),
        (
            Statement::DnatByMap(slot, "m".into()),
            "dnat ip6 to meta l4proto . th dport . numgen random mod 3 map @m",
        ),
        (Statement::Dnat(ip("fd00::1"), 80), "dnat to [fd00::1]:80"),
        (Statement::Remember("s".into()), "update @s { ip6 saddr }"),
        (Statement::OnceIn(2), "numgen random mod 2 0"),
    ];
    for (statement, expected) in rows {
        let changes = [put(Key::chain(Family::Ip6, "c"), Value::chain([Rule::new([statement])]), None)];
        assert_eq!(printed(&changes)[1], format!("add rule ip6 fairlead c {expected}"));
    }
}

#[test]
fn keys_and_values_are_small() {
    assert!(size_of::<Key>() <= 64, "{}", size_of::<Key>());
    assert!(size_of::<Value>() <= 64, "{}", size_of::<Value>());
}
