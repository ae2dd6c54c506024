use super::*;

#[test]
fn changes_read_as_ip_takes_them() {
    let name = || Arc::<str>::from("kube-ipvs0");
    let address = |text: &str| Key::Address(name(), text.parse().expect("an address"));
    let dummy = || Value::Link(DUMMY.into());
    let put = |key, value| Change::<Links>::Put { key, value, replaced: None };
    let changes = [
        put(Key::Link(name()), dummy()),
        put(address("10.0.0.1"), Value::Address),
        Change::Drop { key: address("fd00::1"), value: Value::Address },
        Change::Drop { key: Key::Link(name()), value: dummy() },
    ];
    let mut text = String::new();
    Links::print_changes(&changes, &mut text).expect("writing to a String cannot fail");
    let expected = "\
link add kube-ipvs0 type dummy
address add 10.0.0.1/32 dev kube-ipvs0
address delete fd00::1/128 dev kube-ipvs0
link delete kube-ipvs0
";
    assert_eq!(text, expected);
}
