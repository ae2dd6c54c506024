//! The relay with real sockets over loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kernel_io::Target;
use kernel_io::listeners::AddressBook;
use kernel_io::socket_options::set_segments;
use kernel_state::Change;
use kernel_state::listeners::{Key, Listener, Listeners, Transport};

use crate::{Balancer, Mark, PortRange, Relay, RelayListeners, Settings};

const SETTINGS: Settings = Settings {
    workers: 2,
    balancer: Balancer::RoundRobin,
    mark: Mark::None,
    udp_timeout: Duration::from_millis(500),
    drain_timeout: Duration::from_millis(300),
};

/// A relay with one listener.
struct Stage {
    relay: Relay,
    listeners: RelayListeners,
    book: AddressBook,
    key: Key,
}

impl Stage {
    fn new(transport: Transport, endpoints: &[SocketAddr], kept: Option<u32>) -> Self {
        Self::listening(Ipv4Addr::LOCALHOST.into(), transport, endpoints, kept)
    }

    fn listening(ip: IpAddr, transport: Transport, endpoints: &[SocketAddr], kept: Option<u32>) -> Self {
        let relay = Relay::start(SETTINGS).unwrap();
        let book = AddressBook::default();
        let listeners = relay.listeners(ip, PortRange::Any, book.clone());
        let key = Key::new("default/web", transport);
        let mut stage = Self { relay, listeners, book, key };
        stage.lead(endpoints, kept);
        stage
    }

    fn lead(&mut self, endpoints: &[SocketAddr], kept: Option<u32>) {
        let value = Listener { endpoints: endpoints.into(), kept, ..Listener::default() };
        self.write(Change::Put { key: self.key.clone(), value, replaced: None });
    }

    fn close(&mut self) {
        let value = Listener::default();
        self.write(Change::Drop { key: self.key.clone(), value });
    }

    fn write(&mut self, change: Change<Listeners>) {
        self.listeners.write(&[change]).unwrap();
    }

    fn at(&self) -> SocketAddr {
        self.book.address(&self.key).unwrap()
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.at()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    /// What a server that says its name and hangs up says.
    fn told(&self) -> String {
        let mut text = String::new();
        self.client().read_to_string(&mut text).unwrap();
        text
    }
}

/// A server at a port of its own; it ends with the test.
fn server(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (serve, stream) = (serve.clone(), stream.unwrap());
            thread::spawn(move || serve(stream));
        }
    });
    at
}

fn named(name: &'static str) -> SocketAddr {
    server(move |mut stream| stream.write_all(name.as_bytes()).unwrap())
}

/// An address where everybody is refused.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Bytes that look like nothing else, and cost little.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn sent(mut to: TcpStream, bytes: Vec<u8>) -> JoinHandle<()> {
    thread::spawn(move || {
        to.write_all(&bytes).unwrap();
        to.shutdown(Shutdown::Write).unwrap();
    })
}

#[test]
fn whoever_has_said_all_can_still_listen() {
    // The server answers only when the client has hung up its side.
    let at = server(|mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        stream.write_all(format!("{} bytes", heard.len()).as_bytes()).unwrap();
    });
    let stage = Stage::new(Transport::Tcp, &[at], None);
    let mut client = stage.client();
    client.write_all(&noise(100_000)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "100000 bytes");
}

#[test]
fn a_server_that_has_said_all_can_still_listen() {
    let (sender, heard) = std::sync::mpsc::channel();
    let at = server(move |mut stream| {
        stream.write_all(b"go on").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        sender.send(bytes).unwrap();
    });
    let stage = Stage::new(Transport::Tcp, &[at], None);
    let mut client = stage.client();
    let mut word = String::new();
    client.read_to_string(&mut word).unwrap();
    assert_eq!(word, "go on");
    let bytes = noise(3_000_000);
    client.write_all(&bytes).unwrap();
    drop(client);
    assert!(heard.recv_timeout(Duration::from_secs(20)).unwrap() == bytes);
}

#[test]
fn what_arrives_is_what_was_sent_both_ways_at_once() {
    let at = server(|mut stream| {
        let mut out = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut out).unwrap();
        out.shutdown(Shutdown::Write).unwrap();
    });
    let stage = Stage::new(Transport::Tcp, &[at], None);
    let bytes = noise(10_000_000);
    let mut client = stage.client();
    let sender = sent(client.try_clone().unwrap(), bytes.clone());
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    sender.join().unwrap();
    assert!(back == bytes, "{} of {} bytes came back", back.len(), bytes.len());
}

#[test]
fn a_slow_reader_gets_everything_and_holds_nobody_up() {
    let bytes = noise(8_000_000);
    let served = bytes.clone();
    let at = server(move |mut stream| stream.write_all(&served).unwrap());
    let stage = Stage::new(Transport::Tcp, &[at], None);
    let mut slow = stage.client();
    let mut got = vec![0; 1000];
    slow.read_exact(&mut got).unwrap();
    thread::sleep(Duration::from_millis(200));
    for _ in 0..4 {
        let mut whole = Vec::new();
        stage.client().read_to_end(&mut whole).unwrap();
        assert!(whole == bytes);
    }
    let mut rest = Vec::new();
    while got.len() < 400_000 {
        let mut piece = vec![0; 40_000];
        let count = slow.read(&mut piece).unwrap();
        got.extend(&piece[..count]);
        thread::sleep(Duration::from_millis(5));
    }
    slow.read_to_end(&mut rest).unwrap();
    got.extend(rest);
    assert!(got == bytes);
}

#[test]
fn a_server_that_breaks_off_is_no_end_of_file() {
    let at = server(|mut stream| {
        stream.write_all(&noise(1_000_000)).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    let stage = Stage::new(Transport::Tcp, &[at], None);
    let mut client = stage.client();
    client.write_all(b"unread").unwrap();
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn endpoints_take_turns() {
    let stage = Stage::new(Transport::Tcp, &[named("a"), named("b"), named("c")], None);
    let mut heard: Vec<String> = (0..6).map(|_| stage.told()).collect();
    heard.sort();
    assert_eq!(heard, ["a", "a", "b", "b", "c", "c"]);
}

#[test]
fn a_client_is_kept_where_it_was() {
    let stage = Stage::new(Transport::Tcp, &[named("a"), named("b"), named("c")], Some(60));
    let first = stage.told();
    assert!((0..8).all(|_| stage.told() == first));
}

#[test]
fn whoever_is_refused_is_sent_to_another_endpoint() {
    let stage = Stage::new(Transport::Tcp, &[nobody(), named("b"), nobody()], None);
    assert!((0..9).all(|_| stage.told() == "b"));
}

#[test]
fn a_kept_client_moves_away_from_a_dead_endpoint_and_stays() {
    let mut stage = Stage::new(Transport::Tcp, &[named("a")], Some(60));
    assert_eq!(stage.told(), "a");
    stage.lead(&[nobody(), named("b"), named("c")], Some(60));
    let next = stage.told();
    assert!((0..5).all(|_| stage.told() == next));
}

#[test]
fn where_nobody_answers_the_connection_is_reset() {
    let stage = Stage::new(Transport::Tcp, &[nobody(), nobody()], None);
    let error = stage.client().read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn an_endpoint_that_leaves_keeps_its_connections_for_a_while() {
    let at = server(|mut stream| {
        let mut out = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut out);
    });
    let mut stage = Stage::new(Transport::Tcp, &[at], None);
    let mut client = stage.client();
    let mut echo = [0; 4];
    client.write_all(b"here").unwrap();
    client.read_exact(&mut echo).unwrap();
    stage.lead(&[named("b")], None);
    assert_eq!(stage.told(), "b");
    client.write_all(b"more").unwrap();
    client.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"more");
    let start = Instant::now();
    assert_eq!(client.read(&mut echo).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_endpoint_that_comes_back_has_never_left() {
    let at = server(|mut stream| {
        let mut out = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut out);
    });
    let mut stage = Stage::new(Transport::Tcp, &[at], None);
    let mut client = stage.client();
    let mut echo = [0; 4];
    client.write_all(b"here").unwrap();
    client.read_exact(&mut echo).unwrap();
    stage.lead(&[named("b")], None);
    stage.lead(&[at], None);
    thread::sleep(Duration::from_millis(2500));
    client.write_all(b"more").unwrap();
    client.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"more");
}

#[test]
fn a_closed_listener_refuses_and_its_connections_drain() {
    let at = server(|mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        stream.write_all(&heard).unwrap();
    });
    let mut stage = Stage::new(Transport::Tcp, &[at], None);
    let (place, mut client) = (stage.at(), stage.client());
    client.write_all(b"still here").unwrap();
    thread::sleep(Duration::from_millis(50));
    stage.close();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(TcpStream::connect(place).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    client.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    client.read_to_string(&mut back).unwrap();
    assert_eq!(back, "still here");
}

#[test]
fn draining_waits_for_those_that_are_there() {
    let stage = Stage::new(Transport::Tcp, &[server(|mut stream| drop(stream.read(&mut [0; 8])))], None);
    let mut client = stage.client();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(stage.relay.drain(Duration::from_millis(100)), 1);
    client.write_all(b"?").unwrap();
    drop(client);
    assert_eq!(stage.relay.drain(Duration::from_secs(10)), 0);
}

/// A UDP server that answers with its name and what it heard.
fn echo(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (count, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&[name.as_bytes(), &buffer[..count]].concat(), from).unwrap();
        }
    });
    at
}

fn asked(client: &UdpSocket, at: SocketAddr, question: &[u8]) -> Vec<u8> {
    let mut answer = vec![0; 1 << 16];
    client.send_to(question, at).unwrap();
    let (count, from) = client.recv_from(&mut answer).unwrap();
    assert_eq!(from, at);
    answer.truncate(count);
    answer
}

fn udp_client() -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

#[test]
fn datagrams_keep_their_length_up_to_the_longest() {
    let stage = Stage::new(Transport::Udp, &[echo("a")], None);
    let client = udp_client();
    for length in [0, 1, 4096, 4097, 65_506] {
        let question = noise(length);
        let answer = asked(&client, stage.at(), &question);
        assert!(answer == [&b"a"[..], &question].concat(), "{length}");
    }
}

#[test]
fn datagrams_that_come_together_go_on_one_by_one() {
    let stage = Stage::new(Transport::Udp, &[echo("a")], None);
    let client = udp_client();
    client.connect(stage.at()).unwrap();
    set_segments(&client, 100).unwrap();
    let train = noise(40 * 100 + 7);
    client.send(&train).unwrap();
    for datagram in train.chunks(100) {
        let mut answer = [0; 200];
        let count = client.recv(&mut answer).unwrap();
        assert_eq!(&answer[..count], [&b"a"[..], datagram].concat());
    }
}

#[test]
fn a_flow_stays_at_its_endpoint_until_that_leaves() {
    let (a, b) = (echo("a"), echo("b"));
    let mut stage = Stage::new(Transport::Udp, &[a, b], None);
    let client = udp_client();
    let first = asked(&client, stage.at(), b"");
    assert!((0..5).all(|_| asked(&client, stage.at(), b"") == first));
    let (other, name) = if first == b"a" { (b, b"b") } else { (a, b"a") };
    stage.lead(&[other], None);
    assert_eq!(asked(&client, stage.at(), b""), name);
}

#[test]
fn clients_that_send_at_once_get_their_own_answers() {
    let stage = Stage::new(Transport::Udp, &[echo(""), echo("")], None);
    let clients: Vec<UdpSocket> = (0..40).map(|_| udp_client()).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send_to(number.to_string().as_bytes(), stage.at()).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        let mut answer = [0; 16];
        let count = client.recv(&mut answer).unwrap();
        assert_eq!(&answer[..count], number.to_string().as_bytes());
    }
}

#[test]
fn a_flow_leaves_an_endpoint_that_refuses() {
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stage = Stage::new(Transport::Udp, &[dead, echo("b")], None);
    let client = udp_client();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = [0; 8];
    let heard = (0..10).any(|_| {
        client.send_to(b"?", stage.at()).unwrap();
        client.recv(&mut answer).is_ok()
    });
    assert!(heard && answer.starts_with(b"b?"));
}

#[test]
fn a_client_is_told_when_its_endpoint_refuses() {
    // Without privileges nobody may write such messages.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for ip in ["127.0.0.1", "::1"] {
        let dead = UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
        let stage = Stage::listening(dead.ip(), Transport::Udp, &[dead], None);
        let client = UdpSocket::bind((ip, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.connect(stage.at()).unwrap();
        client.send(b"?").unwrap();
        let error = client.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{ip}");
    }
}

#[test]
fn idle_flows_end() {
    let stage = Stage::new(Transport::Udp, &[echo("a")], None);
    let client = udp_client();
    asked(&client, stage.at(), b"?");
    thread::sleep(Duration::from_millis(50));
    assert_eq!(stage.relay.shared.clients(), 1);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(stage.relay.shared.clients(), 0);
    assert_eq!(asked(&client, stage.at(), b"!"), b"a!");
}

#[test]
fn ports_come_from_the_range_and_are_given_back() {
    let relay = Relay::start(SETTINGS).unwrap();
    let free = nobody().port();
    let (range, book) = (PortRange::Between(free, free), AddressBook::default());
    let mut listeners = relay.listeners(Ipv4Addr::LOCALHOST.into(), range, book.clone());
    let change = |name: &str| Change::<Listeners>::Put {
        key: Key::new(name, Transport::Tcp),
        value: Listener::default(),
        replaced: None,
    };
    let put = change("one");
    listeners.write(std::slice::from_ref(&put)).unwrap();
    assert_eq!(book.address(put.key()).unwrap().port(), free);
    let error = listeners.write(&[change("one"), change("two")]).unwrap_err();
    assert_eq!(error.refused.unwrap().index, 1);
    let Change::Put { key, value, .. } = put else { unreachable!() };
    listeners.write(&[Change::Drop { key, value }]).unwrap();
    thread::sleep(Duration::from_millis(100));
    listeners.write(&[change("two")]).unwrap();
}

#[test]
fn a_listener_that_must_be_at_an_address_is_there_or_refused() {
    let free = nobody();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::start(SETTINGS).unwrap();
    let mut listeners = relay.listeners(Ipv4Addr::LOCALHOST.into(), PortRange::Any, AddressBook::default());
    let mut put = |at, name| {
        let value = Listener { endpoints: [named(name)].into(), ..Listener::default() };
        listeners.write(&[Change::Put { key: Key::at(at, Transport::Tcp), value, replaced: None }])
    };
    put(free, "first").unwrap();
    let error = put(taken.local_addr().unwrap(), "nobody's").unwrap_err();
    assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()), "{error}");
    let told = || {
        let mut text = String::new();
        TcpStream::connect(free).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(told(), "first");
    // Whoever gets the address keeps the socket.
    put(free, "second").unwrap();
    assert_eq!(told(), "second");
}
