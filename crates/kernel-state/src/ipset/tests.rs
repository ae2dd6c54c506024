use super::*;

fn name(text: &str) -> SetName {
    SetName::new(text).expect("a short name")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn objects_read_as_ipset_saves_them() {
    let one = || name("ONE");
    let range = |text: &str| text.parse::<IpNet>().expect("a range");
    let member = |member| (Key::Member(one(), member), Value::Member);
    let set = |kind| (Key::Set(one()), Value::Set(kind));
    let rows = [
        (set(SetType::BitmapPort), "create ONE bitmap:port range 0-65535"),
        (
            set(SetType::Hash(HashOf::IpPort, Family::Inet6)),
            "create ONE hash:ip,port family inet6 hashsize 1024 maxelem 65536",
        ),
        (member(Member::Ip(ip("10.0.0.1"))), "add ONE 10.0.0.1"),
        (member(Member::Port(80)), "add ONE 80"),
        (member(Member::IpPort(ip("fd00::1"), Protocol::Udp, 53)), "add ONE fd00::1,udp:53"),
        (
            member(Member::IpPortIp(ip("10.0.0.1"), Protocol::Tcp, 80, ip("10.0.0.2"))),
            "add ONE 10.0.0.1,tcp:80,10.0.0.2",
        ),
        (
            member(Member::IpPortNet(ip("10.0.0.1"), Protocol::Sctp, 80, range("10.1.0.0/16"))),
            "add ONE 10.0.0.1,sctp:80,10.1.0.0/16",
        ),
        (
            member(Member::IpPortNet(ip("10.0.0.1"), Protocol::Sctp, 80, range("10.1.0.1/32"))),
            "add ONE 10.0.0.1,sctp:80,10.1.0.1",
        ),
    ];
    for ((key, value), expected) in rows {
        let mut text = String::new();
        Ipset::print(&key, &value, &mut text).expect("writing to a String cannot fail");
        assert_eq!(text.trim_end(), expected);
    }
}

#[test]
fn changes_read_as_ipset_restores_them() {
    let set = || Value::Set(SetType::BitmapPort);
    let changes: [Change<Ipset>; 4] = [
        Change::Put {
            key: Key::Set(name("A")),
            value: set(),
            replaced: Some(Value::Set(SetType::Other("list:set".into()))),
        },
        Change::Put { key: Key::Member(name("A"), Member::Port(1)), value: Value::Member, replaced: None },
        Change::Drop { key: Key::Member(name("A"), Member::Port(2)), value: Value::Member },
        Change::Drop { key: Key::Set(name("B")), value: set() },
    ];
    let mut text = String::new();
    Ipset::print_changes(&changes, &mut text).expect("writing to a String cannot fail");
    assert_eq!(text, "destroy A\ncreate A bitmap:port range 0-65535\nadd A 1\ndel A 2\ndestroy B\n");
}

#[test]
fn a_name_has_at_most_31_bytes() {
    assert!(SetName::new(&"x".repeat(31)).is_some());
    assert!(SetName::new(&"x".repeat(32)).is_none());
}

#[test]
fn a_key_is_small() {
    assert!(size_of::<Key>() <= 64);
}
