//! What makes the kernel refuse a batch: each time one clear error and nothing half-written, and when the cause is gone
//! the same changes are taken. And what makes it tell half of what it has.

use super::*;
use crate::netlink::Protocol;

/// More than a small buffer holds.
fn large_state(family: Family) -> NftState {
    let mut state = state(family);
    for port in 1..=5000 {
        state.put(Key::element(family, "ports", Tuple::Port(Transport::SCTP, port)), Value::member());
    }
    state
}

fn refused(target: &mut Nft, changes: &[Change<nft::Nft>], words: &str) -> WriteError {
    let error = target.write(changes).expect_err("there is a fault");
    assert_eq!(error.applied, Applied::Nothing);
    assert!(error.to_string().contains(words), "{error}");
    error
}

#[test]
fn a_buffer_that_is_too_small_writes_nothing_and_a_larger_one_all() {
    in_netns(|family, mut target| {
        target.socket.set_send_buffer(4096).expect("a small buffer");
        let wanted = large_state(family);
        let error = refused(&mut target, &puts(&wanted), "Message too long");
        assert_eq!(error.refused, None, "no object is to blame");
        assert_eq!(read(&mut target), State::new());
        target.socket.set_send_buffer(SEND_BUFFER).expect("a large buffer");
        target.write(&puts(&wanted)).expect("the kernel takes it");
        assert_eq!(read(&mut target), wanted);
    });
}

/// Makes a table that goes with the socket, and that nobody else may write to.
fn locked_table(family: Family) -> Socket {
    const OWNED: u32 = 2; // NFT_TABLE_F_OWNER
    let mut socket = Socket::open(Protocol::Netfilter).expect("a socket");
    let mut table = batch::new(kind::NEW_TABLE, crate::netlink::flags::CREATE | flags::ACK, family);
    table.text(wire::table::NAME, nft::TABLE).be32(wire::table::FLAGS, OWNED);
    socket.batch(&mut [batch::begin(), table, batch::end()]).expect("the kernel has such tables since 5.12");
    socket
}

#[test]
fn a_table_that_another_program_holds_is_one_error_until_it_lets_go() {
    in_netns(|family, mut target| {
        let owner = locked_table(family);
        let found = read(&mut target);
        assert_eq!(found.len(), 1, "{found}");
        let wanted = large_state(family);
        let words = format!("another program holds the table {} fairlead", family.name());
        let error = refused(&mut target, &puts(&wanted), &words);
        assert_eq!(error.refused, None, "no object is to blame");
        drop(owner);
        assert!(matches!(target.drift(), Drift::Possible), "the kernel tells that it is gone");
        assert_eq!(read(&mut target), State::new());
        target.write(&puts(&wanted)).expect("the kernel takes it");
        assert_eq!(read(&mut target), wanted);
    });
}

/// A table of our layout in which a set of ports holds two at most.
fn cramped_table(family: Family) {
    let mut socket = Socket::open(Protocol::Netfilter).expect("a socket");
    let create = crate::netlink::flags::CREATE;
    let mut table = batch::new(kind::NEW_TABLE, create, family);
    table.text(wire::table::NAME, nft::TABLE).be32(wire::table::FLAGS, 0);
    table.attribute(wire::table::USERDATA, &userdata::comment(LAYOUT.comment));
    let mut ports = batch::new(kind::NEW_SET, create | flags::ACK, family);
    ports.text(wire::set::TABLE, nft::TABLE).text(wire::set::NAME, "ports");
    set::write(&mut ports, family, &SetSpec::Written(KeyType::Port, DataType::Nothing), 1);
    ports.nested(wire::set::DESCRIPTION, |out| {
        out.be32(wire::set::SIZE, 2);
    });
    socket.batch(&mut [batch::begin(), table, ports, batch::end()]).expect("the kernel takes it");
}

#[test]
fn a_set_that_is_full_names_what_it_did_not_take_and_its_table_is_replaced_by_a_larger_one() {
    in_netns(|family, mut target| {
        cramped_table(family);
        let key = |port| Key::element(family, "ports", Tuple::Port(Transport::TCP, port));
        let put = |port| Change::Put { key: key(port), value: Value::member(), replaced: None };
        let three = [1, 2, 3].map(put);
        let error = refused(&mut target, &three, "ports { tcp . 3 }");
        assert_eq!(error.refused.map(|refused| refused.index), Some(2));
        target.write(&three[..2]).expect("two fit");

        let found = read(&mut target);
        let table = Key::table(family);
        assert_eq!(found.len(), 1, "it is not laid out as ours: {found}");
        assert_eq!(found.get(&table), Some(&Value::Table("its set ports is of another kind".into())));
        let wanted = large_state(family);
        let mut changes = puts(&wanted);
        for change in &mut changes {
            if let Change::Put { key, replaced, .. } = change {
                *replaced = found.get(key).cloned();
            }
        }
        target.write(&changes).expect("the kernel takes it, all at once");
        assert_eq!(read(&mut target), wanted);
    });
}

#[test]
fn what_nft_makes_of_a_number_in_a_key_is_read_as_the_same() {
    // nft's numbers of types: an address, a protocol, a port.
    let keys: [(&[u32], KeyType); 2] = [(&[7, 12, 13], KeyType::SocketSlot), (&[12, 13], KeyType::PortSlot)];
    let concatenated =
        |fields: &[u32], last| fields.iter().chain(&[last]).fold(0, |all, field| all * 64 + field);
    for (fields, key) in keys {
        let (integer, mark) = (concatenated(fields, 4), concatenated(fields, 19));
        let spec = SetSpec::Written(key, DataType::Endpoint);
        let mut message = Message::new(0, 0);
        set::write(&mut message, Family::Ip, &spec, 1);
        let ours = message.as_bytes()[16..].to_vec();
        let place =
            ours.windows(4).position(|bytes| bytes == u32::to_be_bytes(mark)).expect("it says a mark");
        let mut theirs = ours.clone();
        theirs[place..place + 4].copy_from_slice(&u32::to_be_bytes(integer));
        for bytes in [ours, theirs] {
            assert_eq!(set::read(Family::Ip, &Attributes::new(&bytes)).expect("well formed"), spec);
        }
    }
}

#[test]
fn a_set_that_the_kernel_spreads_over_a_larger_table_is_read_whole() {
    in_netns(|family, mut target| {
        let wanted = large_state(family);
        for _ in 0..10 {
            target.write(&puts(&wanted)).expect("the kernel takes it");
            assert_eq!(read(&mut target).len(), wanted.len());
            target.write(&drops(&wanted)).expect("the kernel takes it");
        }
    });
}
