//! An endpoint that is gone keeps its connections and gets no new one.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::connections::Connection;
use crate::stage::{service, until};
use crate::world::{ENDPOINTS, WEB, World};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("connections_of_an_endpoint_that_is_gone_live_on", connections_live_on),
    ("an_endpoint_that_has_drained_is_removed", removed_when_drained),
    ("the_drain_timeout_ends_what_does_not_end", removed_in_time),
    ("a_client_that_keeps_to_an_endpoint_leaves_it_when_it_drains", persistence_ends),
    ("a_port_that_is_used_again_waits_for_nobody", a_port_again),
    ("udp_is_cut_at_once", udp_is_cut),
    ("what_drains_drains_on_after_a_restart", restarts),
    ("what_drains_gets_its_weight_back_by_a_restart", comes_back_by_a_restart),
    ("a_switch_to_another_mode_cuts_no_connection", a_switch_drains),
    ("after_a_switch_too_the_drain_timeout_ends_what_does_not_end", a_switch_ends_in_time),
    ("schedulers_that_hash_pass_over_what_drains", hashing_passes_over),
];

const A: &str = ENDPOINTS[0];
const B: &str = ENDPOINTS[1];

fn connections_live_on() {
    let world = World::with_web(&[A, B]);
    let _proxy = world.proxy(&[]);
    let mut connection = world.connect_to(A);
    world.endpoints(&[B]);
    world.until_weights("1:0 2:1");
    assert!(connection.lives());
    assert_eq!(world.answered(20), [B]);
    // It comes back as if it had never been away.
    world.endpoints(&[A, B]);
    world.until_weights("1:1 2:1");
    assert!(connection.lives());
    assert_eq!(world.answered(20), [A, B]);
}

fn removed_when_drained() {
    let world = World::with_web(&[A, B]);
    let _proxy = world.proxy(&[]);
    let mut connection = world.connect_to(A);
    world.endpoints(&[B]);
    world.until_weights("1:0 2:1");
    assert!(connection.lives());
    drop(connection);
    world.until_weights("2:1");
}

fn removed_in_time() {
    let world = World::with_web(&[A, B]);
    let _proxy = world.proxy(&["--drain-timeout", "2s"]);
    let mut connection = world.connect_to(A);
    world.endpoints(&[B]);
    world.until_weights("1:0 2:1");
    assert!(connection.lives());
    world.until_weights("2:1");
    assert!(!connection.lives(), "its endpoint is gone, and so is it");
}

fn persistence_ends() {
    let world = World::with_web(&[A, B]);
    let affinity = service("web", "10.96.0.10", "").replace("spec:", "spec:\n  sessionAffinity: ClientIP");
    world.stage.write("service.yaml", &affinity);
    let _proxy = world.proxy(&[]);
    let mut connection = world.connect();
    let first = connection.endpoint.clone();
    assert_eq!(world.answered(20), [&*first], "it keeps to it");
    let other = if first == A { B } else { A };
    world.endpoints(&[other]);
    until("the other one alone has weight", || world.weights().contains(":0"), || world.weights());
    assert_eq!(world.answered(20), [other]);
    assert!(connection.lives());
}

fn a_port_again() {
    const PORT: u16 = 40_000;
    let world = World::with_web(&[A, B]);
    let _proxy = world.proxy(&[]);
    let again = || loop {
        match Connection::open_from_port(&world.outside, PORT, WEB) {
            // A process that another test starts just now has our socket for a moment.
            Err(error) if error.kind() == ErrorKind::AddrInUse => thread::yield_now(),
            other => return other.expect("the Service answers"),
        }
    };
    for _ in 0..20 {
        again();
    }
    let first = again().endpoint.clone();
    let other = if first == A { B } else { A };
    world.endpoints(&[other]);
    until("the first one has no weight", || world.weights().contains(":0"), || world.weights());
    for _ in 0..5 {
        assert_eq!(again().endpoint, other);
    }
    let snmp = world.outside.run(|| fs::read_to_string("/proc/thread-self/net/snmp")).expect("entered");
    assert_eq!(counter(&snmp.expect("counters"), "Tcp:", "RetransSegs"), 0, "nothing had to be sent twice");
}

/// A counter of `/proc/net/snmp`, where a line of names comes before one of numbers.
fn counter(snmp: &str, kind: &str, name: &str) -> u64 {
    let mut lines = snmp.lines().filter(|line| line.starts_with(kind));
    let names = lines.next().expect("names").split(' ');
    let numbers = lines.next().expect("numbers").split(' ');
    let (_, number) = names.zip(numbers).find(|(found, _)| *found == name).expect("the counter");
    number.parse().expect("a number")
}

fn udp_is_cut() {
    let world = World::new();
    let datagrams = ", protocol: UDP";
    world.stage.write("service.yaml", &service("web", "10.96.0.10", datagrams));
    let give = |addresses: &[&str]| {
        let slice =
            crate::stage::endpoints("web", addresses).replace("port: 8080", "port: 8080, protocol: UDP");
        world.stage.write("endpoints.yaml", &slice);
    };
    give(&[A, B]);
    let _proxy = world.proxy(&[]);
    let socket = world.outside.run(|| UdpSocket::bind("0.0.0.0:0")).expect("entered").expect("a socket");
    socket.connect(WEB).expect("an address");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
    let ask = || {
        let mut buffer = [0; 64];
        // A refusal of an earlier datagram comes with the next call.
        socket.send(b"?").ok()?;
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let first = ask().expect("the Service answers");
    assert_eq!(ask().as_ref(), Some(&first), "a flow keeps to its endpoint");
    let other = if first == A { B } else { A };
    let known = |list: &str, endpoint: &str| world.listed(list).matches(endpoint).count();
    let flow = || known("nf_conntrack", &format!("src={first} "));
    let entry = format!(" {:08X} ", u32::from(first.parse::<Ipv4Addr>().expect("an address")));
    assert_eq!((flow(), known("ip_vs_conn", &entry)), (1, 1), "{}", world.listed("nf_conntrack"));
    give(&[other]);
    // Nobody has asked since.
    until("its flow is forgotten", || flow() == 0, || world.listed("nf_conntrack"));
    until(
        "another endpoint answers",
        || ask().as_deref() == Some(other),
        || format!("{:?}", world.servers()),
    );
    until("its entry is gone", || known("ip_vs_conn", &entry) == 0, || world.listed("ip_vs_conn"));
    let left = world.servers();
    let real = &left[&format!("UDP {WEB}")];
    assert_eq!(real.iter().map(|real| real.weight).collect::<Vec<_>>(), [1], "none drains");
}

fn restarts() {
    let world = World::with_web(&[A, B]);
    let proxy = world.proxy(&[]);
    let mut connection = world.connect_to(A);
    world.endpoints(&[B]);
    world.until_weights("1:0 2:1");
    proxy.end_by("-KILL");
    let _proxy = world.proxy(&[]);
    assert_eq!(world.weights(), "1:0 2:1");
    assert!(connection.lives());
    assert_eq!(world.answered(20), [B]);
    drop(connection);
    world.until_weights("2:1");
}

/// Upstream's issue 108319: weights that were 0 when it stopped stayed so.
fn comes_back_by_a_restart() {
    let world = World::with_web(&[A, B]);
    let proxy = world.proxy(&[]);
    let mut connection = world.connect_to(A);
    world.endpoints(&[B]);
    world.until_weights("1:0 2:1");
    proxy.end_by("-TERM");
    world.endpoints(&[A, B]);
    let _proxy = world.proxy(&[]);
    world.until_weights("1:1 2:1");
    assert!(connection.lives());
    assert_eq!(world.answered(20), [A, B]);
}

/// Upstream's issue 138688: `mh` answered that there is no destination to whoever hashed to one of weight 0.
fn hashing_passes_over() {
    for scheduler in ["mh", "sh"] {
        let world = World::with_web(&[A, B]);
        let _proxy = world.proxy(&["--ipvs-scheduler", scheduler]);
        let mut connection = world.connect();
        let other = if connection.endpoint == A { B } else { A };
        world.endpoints(&[other]);
        until("the first one has no weight", || world.weights().contains(":0"), || world.weights());
        assert_eq!(world.answered(30), [other], "{scheduler}");
        assert!(connection.lives(), "{scheduler}");
    }
}

/// Whether anything of the ipvs mode is left on the node.
fn is_left(world: &World) -> bool {
    !world.servers().is_empty() || world.listed("dev").contains("kube-ipvs0")
}

fn a_switch_drains() {
    let world = World::with_web(&[A, B]);
    let proxy = world.proxy(&[]);
    let mut connection = world.connect_to(A);
    proxy.end_by("-TERM");
    let proxy = world.in_iptables_mode(&[]);
    proxy.until_log("live on");
    assert_eq!(world.answered(30), [A, B], "new ones go by the rules");
    assert!(connection.lives());
    drop(connection);
    until("nothing of it is left", || !is_left(&world), || proxy.log());
    assert_eq!(world.answered(30), [A, B]);
}

fn a_switch_ends_in_time() {
    let world = World::with_web(&[A, B]);
    let proxy = world.proxy(&[]);
    let _connection = world.connect_to(A);
    proxy.end_by("-TERM");
    let proxy = world.in_iptables_mode(&["--drain-timeout", "2s"]);
    until("nothing of it is left", || !is_left(&world), || proxy.log());
}
