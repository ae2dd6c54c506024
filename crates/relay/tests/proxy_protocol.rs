//! What endpoints read of their clients: by a decoder of our own, and by haproxy's.

#![expect(clippy::unwrap_used, reason = "a test may fail with the error as it is")]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use kernel_io::Target;
use kernel_io::listeners::AddressBook;
use kernel_state::Change;
use kernel_state::listeners::{Header, Key, Listener, Transport};
use relay::{Balancer, Mark, PortRange, Relay, RelayListeners, Settings};

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// A relay with one listener that tells its endpoints who the client is.
struct Stage {
    _relay: Relay,
    _listeners: RelayListeners,
    at: SocketAddr,
}

impl Stage {
    fn new(ip: IpAddr, endpoints: &[SocketAddr]) -> Self {
        let settings = Settings {
            workers: 1,
            balancer: Balancer::RoundRobin,
            mark: Mark::None,
            udp_timeout: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(1),
        };
        let relay = Relay::start(settings).unwrap();
        let book = AddressBook::default();
        let mut listeners = relay.listeners(ip, PortRange::Any, book.clone());
        let key = Key::new("default/web", Transport::Tcp);
        let value = Listener { endpoints: endpoints.into(), header: Header::ProxyV2, ..Listener::default() };
        listeners.write(&[Change::Put { key: key.clone(), value, replaced: None }]).unwrap();
        Self { _relay: relay, _listeners: listeners, at: book.address(&key).unwrap() }
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.at).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }
}

/// Takes one header off a stream: who the client is, and where it called.
fn decoded(stream: &mut impl Read) -> (SocketAddr, SocketAddr) {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).unwrap();
    assert_eq!(&fixed[..12], b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a");
    assert_eq!(fixed[12], 0x21, "version 2, and relayed for somebody");
    let mut rest = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
    stream.read_exact(&mut rest).unwrap();
    let size = match fixed[13] {
        0x11 => 4,
        0x21 => 16,
        other => panic!("{other:#x} is not TCP over IPv4 or IPv6"),
    };
    assert_eq!(rest.len(), 2 * size + 4);
    let at = |place: usize| {
        let octets = &rest[place * size..(place + 1) * size];
        let ip = match <[u8; 4]>::try_from(octets) {
            Ok(octets) => IpAddr::from(octets),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(octets).unwrap()),
        };
        let port = 2 * (size + place);
        SocketAddr::new(ip, u16::from_be_bytes([rest[port], rest[port + 1]]))
    };
    (at(0), at(1))
}

#[test]
fn an_endpoint_learns_who_calls_and_where_before_it_hears_a_word() {
    for ip in LOOPBACKS {
        let server = TcpListener::bind((ip, 0)).unwrap();
        let stage = Stage::new(ip, &[server.local_addr().unwrap()]);
        let mut client = stage.client();
        let (mut taken, _) = server.accept().unwrap();
        // It comes although the client is silent: whoever speaks first may be the server.
        assert_eq!(decoded(&mut taken), (client.local_addr().unwrap(), stage.at));
        client.write_all(b"and then its words").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut words = String::new();
        taken.read_to_string(&mut words).unwrap();
        assert_eq!(words, "and then its words");
    }
}

#[test]
fn whoever_is_called_after_another_refused_gets_the_header_too() {
    let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let stage = Stage::new(LOOPBACKS[0], &[refuses, server.local_addr().unwrap()]);
    for _ in 0..2 {
        let client = stage.client();
        let (mut taken, _) = server.accept().unwrap();
        assert_eq!(decoded(&mut taken), (client.local_addr().unwrap(), stage.at));
    }
}

/// A server that answers with what haproxy made of the header.
struct Haproxy {
    child: Child,
    at: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Haproxy {
    fn start(ip: IpAddr) -> Self {
        let at = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        let config = format!(
            "defaults
  mode http
  timeout client 20s
frontend f
  bind {ip}:{port} accept-proxy
  http-request return status 200 content-type text/plain lf-string \"%[src] %[src_port] %[dst] %[dst_port]\"
",
            port = at.port()
        );
        fs::write(&file, config).unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("haproxy, of the packages that the tests need");
        let running = Self { child, at, _directory: directory };
        while TcpStream::connect(at).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        running
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn haproxy_reads_the_header_too() {
    for ip in LOOPBACKS {
        let haproxy = Haproxy::start(ip);
        let stage = Stage::new(ip, &[haproxy.at]);
        let mut client = stage.client();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        let from = client.local_addr().unwrap();
        let told = format!("{} {} {} {}", from.ip(), from.port(), stage.at.ip(), stage.at.port());
        assert_eq!(answer.split("\r\n\r\n").last().unwrap(), told);
    }
}
