//! Real datagrams over loopback.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use super::Batch;
use crate::socket_options;

fn relayed(here: &str) {
    let [relay, client] = [here, here].map(|at| UdpSocket::bind(at).unwrap());
    relay.set_nonblocking(true).unwrap();
    let longest = vec![7; if here.starts_with('[') { 65_000 } else { 65_507 }];
    for datagram in [&b"one"[..], &b""[..], &longest] {
        client.send_to(datagram, relay.local_addr().unwrap()).unwrap();
    }
    let mut batch = Batch::new();
    assert_eq!(batch.receive(relay.as_fd()).unwrap(), 3);
    assert_eq!(batch.sender(2), Some(client.local_addr().unwrap()));
    assert_eq!(batch.send(0..3, relay.as_fd(), batch.sender(0)).unwrap(), 3);
    let mut back = vec![0; 1 << 16];
    for expected in [&b"one"[..], &b""[..], &longest] {
        let (length, from) = client.recv_from(&mut back).unwrap();
        assert_eq!((&back[..length], from), (expected, relay.local_addr().unwrap()));
    }
    assert_eq!(batch.receive(relay.as_fd()).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn what_is_received_can_be_sent_on() {
    relayed("127.0.0.1:0");
    relayed("[::1]:0");
}

#[test]
fn datagrams_of_one_length_stay_datagrams() {
    let [relay, client] = ["127.0.0.1:0"; 2].map(|at| UdpSocket::bind(at).unwrap());
    let rows: [&[usize]; 5] =
        [&[64, 64, 64], &[64, 64, 7], &[64, 64, 65], &[1200, 1200, 0], &[1400, 1400, 1400]];
    for lengths in rows {
        for (byte, length) in (1..).zip(lengths) {
            client.send_to(&vec![byte; *length], relay.local_addr().unwrap()).unwrap();
        }
        let mut batch = Batch::new();
        assert_eq!(batch.receive(relay.as_fd()).unwrap(), 3);
        assert_eq!(batch.send(0..3, relay.as_fd(), batch.sender(0)).unwrap(), 3);
        for (byte, length) in (1..).zip(lengths) {
            let mut back = [0; 2000];
            let count = client.recv(&mut back).unwrap();
            assert_eq!(back[..count], vec![byte; *length], "{lengths:?}");
        }
    }
}

#[test]
fn a_connected_socket_needs_no_address() {
    let [one, other] = ["127.0.0.1:0"; 2].map(|at| UdpSocket::bind(at).unwrap());
    one.send_to(b"?", other.local_addr().unwrap()).unwrap();
    let mut batch = Batch::new();
    assert_eq!(batch.receive(other.as_fd()).unwrap(), 1);
    other.connect(one.local_addr().unwrap()).unwrap();
    assert_eq!(batch.send(0..1, other.as_fd(), None).unwrap(), 1);
    assert_eq!(one.recv(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn what_comes_as_a_train_goes_on_as_datagrams() {
    let [relay, client] = ["127.0.0.1:0"; 2].map(|at| UdpSocket::bind(at).unwrap());
    socket_options::set_trains(&relay).expect("a kernel since 5.0");
    // Longer ones than every path carries are sent one by one.
    for (length, count) in [(64, 60), (1000, 20), (1400, 40)] {
        socket_options::set_segments(&client, length).expect("a kernel since 4.18");
        let length = usize::from(length);
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(length * count + 7).collect();
        client.send_to(&sent, relay.local_addr().unwrap()).unwrap();
        client.send_to(b"alone", relay.local_addr().unwrap()).unwrap();
        let mut batch = Batch::new();
        let places = batch.receive(relay.as_fd()).unwrap();
        assert!(places < Batch::SIZE, "{places} places for {count} datagrams");
        assert_eq!(batch.send(0..places, relay.as_fd(), batch.sender(0)).unwrap(), places);
        for expected in sent.chunks(length).chain([&b"alone"[..]]) {
            let mut back = [0; 2000];
            let heard = client.recv(&mut back).unwrap();
            assert_eq!(&back[..heard], expected, "{length}");
        }
    }
}
