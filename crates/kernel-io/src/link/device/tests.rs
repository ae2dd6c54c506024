use super::*;
use crate::netns::Netns;

#[test]
fn an_address_stands_for_itself_alone() {
    #[rustfmt::skip]
    let expected = [
        40, 0, 0, 0,            // length
        20, 0, 1, 6,            // RTM_NEWADDR; NLM_F_REQUEST, NLM_F_CREATE, NLM_F_EXCL
        0, 0, 0, 0, 0, 0, 0, 0, // sequence, port
        2, 32, 0, 0, 7, 0, 0, 0,        // AF_INET, /32, no flags, everywhere; link 7
        8, 0, 2, 0, 10, 0, 0, 1,        // IFA_LOCAL
        8, 0, 1, 0, 10, 0, 0, 1,        // IFA_ADDRESS
    ];
    assert_eq!(address(wire::RTM_NEWADDR, 7, [10, 0, 0, 1].into()).as_bytes(), expected);
}

/// Needs root, and runs whether or not this kernel has dummy links.
#[test]
fn a_device_is_there_from_its_first_address_to_its_last() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    Netns::new().expect("a namespace").run(comes_and_goes).expect("a thread in it");
}

fn comes_and_goes() {
    let open = |family| Device::open("dummy7", family).expect("netlink is there");
    let (mut four, mut six) = (open(Family::Inet), open(Family::Inet6));
    let name = || Arc::<str>::from("dummy7");
    let put = |key, value| Change::Put { key, value, replaced: None };
    let link = || put(Key::Link(name()), Value::Link(DUMMY.into()));
    let address = |ip: &str| put(Key::Address(name(), ip.parse().expect("an address")), Value::Address);
    if let Err(error) = four.write(&[link()]) {
        assert!(error.to_string().starts_with("cannot write link add dummy7 type dummy"), "{error}");
        return;
    }
    four.write(&[link(), address("10.0.0.1"), address("10.0.0.1")]).expect("twice is no error");
    six.write(&[link(), address("fd00::1")]).expect("made by the other family");
    let drop = |change: Change<Vocabulary>| match change {
        Change::Put { key, value, .. } | Change::Drop { key, value } => Change::Drop { key, value },
    };
    four.write(&[drop(address("10.0.0.1")), drop(link())]).expect("left to the other family");
    let mut found = Vec::new();
    six.read(&mut |key, _| found.push(key)).expect("read");
    assert_eq!(found.len(), 2);
    six.write(&[drop(address("fd00::1")), drop(address("fd00::1")), drop(link())]).expect("gone");
    six.read(&mut |key, _| panic!("{key:?} is left")).expect("read");
}
