//! What happens when descriptors run out. A process of its own, since the limit is the process's.

#![expect(clippy::unwrap_used, reason = "a test may fail with the error as it is")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use kernel_io::Target;
use kernel_io::listeners::AddressBook;
use kernel_state::Change;
use kernel_state::listeners::{Key, Listener, Transport};
use relay::{Balancer, Mark, PortRange, Relay, Settings};
use rustix::net::{AddressFamily, SocketType, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A server that answers each byte with the same one, as long as it has descriptors for its clients.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        loop {
            let Ok((mut stream, _)) = listener.accept() else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    at
}

fn answered(client: &mut TcpStream, byte: u8) {
    client.write_all(&[byte]).unwrap();
    let mut back = [0];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, [byte]);
}

fn limit(current: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

#[test]
fn accepting_pauses_while_descriptors_have_run_out_and_goes_on_when_there_are_some() {
    let settings = Settings {
        workers: 2,
        balancer: Balancer::RoundRobin,
        mark: Mark::None,
        udp_timeout: Duration::from_secs(1),
        drain_timeout: Duration::from_secs(1),
    };
    let relay = Relay::start(settings).unwrap();
    let book = AddressBook::default();
    let mut listeners = relay.listeners(Ipv4Addr::LOCALHOST.into(), PortRange::Any, book.clone());
    let key = Key::new("default/web", Transport::Tcp);
    let value = Listener { endpoints: [echo()].into(), ..Listener::default() };
    listeners.write(&[Change::Put { key: key.clone(), value, replaced: None }]).unwrap();
    let at = book.address(&key).unwrap();

    let mut early: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(at).unwrap()).collect();
    for (byte, client) in (0..).zip(&mut early) {
        answered(client, byte);
    }
    // Sockets of clients that are still to come, and then not one more.
    let late: Vec<OwnedFd> =
        (0..40).map(|_| socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()).collect();
    let highest = late.iter().map(|fd| fd.as_fd().as_raw_fd()).max().unwrap();
    limit(Some(u64::try_from(highest).unwrap() + 1));
    let mut late: Vec<TcpStream> = late
        .into_iter()
        .map(|fd| {
            connect(&fd, &at).unwrap();
            TcpStream::from(fd)
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    // Whoever was there is served as before.
    for (byte, client) in (100..).zip(&mut early) {
        answered(client, byte);
    }
    // Nobody is turned away: as the first ones leave, those that wait have their turn.
    drop(early);
    for (byte, client) in (0..).zip(&mut late) {
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        answered(client, byte);
    }
    limit(getrlimit(Resource::Nofile).maximum);
}
