//! What traffic policies and the addresses on `kube-ipvs0` let through.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use kernel_io::ipvs::{Ownership, Servers, Timeouts};
use kernel_io::sysctl;
use kernel_state::ipset::Family;

use crate::connections::Connection;
use crate::stage::{Running, endpoints, service, until};
use crate::web::get;
use crate::world::{ENDPOINTS, NODE, World};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("what_listens_on_the_node_is_not_reached_by_a_cluster_ip", node_services),
    ("a_local_policy_without_local_endpoint_drops_whoever_is_outside", local_policy),
    ("with_local_fallback_any_endpoint_serves_as_upstream", local_fallback),
    ("the_kernel_is_told_what_the_mode_needs", settings_are_told),
    ("health_checks_come_through_where_a_host_drops_what_it_does_not_know", health_checks),
];

fn node_services() {
    let world = World::with_web(&ENDPOINTS);
    let listener =
        world.stage.netns.run(|| TcpListener::bind("0.0.0.0:2222")).expect("entered").expect("a port");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever asks is told, or has lost interest.
            let _heard = std::io::Write::write_all(&mut stream, b"node\n");
        }
    });
    let _proxy = world.proxy(&[]);
    let ask = |at: &str| Connection::open(&world.outside, at).map(|found| found.endpoint.clone());
    assert_eq!(ask(&format!("{NODE}:2222")).expect("the node's own address"), "node");
    let refused = ask("10.96.0.10:2222").expect_err("nothing of the node's is at a cluster IP");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// A Service whose endpoints are all elsewhere, at a node port with a Local policy.
fn with_local_policy(arguments: &[&str]) -> (World, Running) {
    let world = World::with_web(&ENDPOINTS);
    let local = service("web", "10.96.0.10", ", nodePort: 30001")
        .replace("spec:", "spec:\n  type: NodePort\n  externalTrafficPolicy: Local");
    world.stage.write("service.yaml", &local);
    let proxy = world.proxy(arguments);
    (world, proxy)
}

fn local_policy() {
    let (world, _proxy) = with_local_policy(&[]);
    let at = format!("{NODE}:30001");
    let lost = Connection::open(&world.outside, &at).map(|found| found.endpoint.clone());
    assert_ne!(lost.expect_err("nobody answers").kind(), ErrorKind::ConnectionRefused);
    Connection::open(&world.stage.netns, &at).expect("the node itself gets any endpoint");
}

fn local_fallback() {
    let (world, _proxy) = with_local_policy(&["--ipvs-local-fallback"]);
    Connection::open(&world.outside, &format!("{NODE}:30001")).expect("any endpoint");
}

fn settings_are_told() {
    let world = World::with_web(&ENDPOINTS);
    let wanted = [
        ("net.ipv4.vs.conntrack", "1"),
        ("net.ipv4.vs.expire_nodest_conn", "1"),
        ("net.ipv4.vs.expire_quiescent_template", "1"),
        ("net.ipv4.conf.all.arp_ignore", "1"),
        ("net.ipv4.conf.all.arp_announce", "2"),
        ("net.ipv4.ip_forward", "1"),
    ];
    let found = |name| world.stage.netns.run(|| sysctl::read(name)).expect("entered").expect("a setting");
    let forwards = || world.stage.netns.run(|| sysctl::write("net.ipv4.ip_forward", "0")).expect("entered");
    forwards().expect("written");
    let reuse = found("net.ipv4.vs.conn_reuse_mode");
    for (name, value) in wanted {
        assert_ne!(found(name), value, "{name} before");
    }
    let _proxy =
        world.proxy(&["--ipvs-strict-arp", "--ipvs-tcp-timeout", "1000s", "--ipvs-udp-timeout", "77s"]);
    let timeouts = || {
        let servers = Servers::open(Family::Inet, Ownership::default(), Duration::ZERO);
        servers.expect("IPVS").timeouts().expect("an answer")
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    // What is not given stays as it was.
    let expected = Timeouts { tcp: seconds(1000), tcp_fin: seconds(120), udp: seconds(77) };
    assert_eq!(world.stage.netns.run(timeouts).expect("entered"), expected);
    for (name, value) in wanted {
        assert_eq!(found(name), value, "{name}");
    }
    assert_eq!(found("net.ipv4.vs.conn_reuse_mode"), reuse, "this kernel is younger than 5.9");
}

fn health_checks() {
    let world = World::with_web(&ENDPOINTS[..2]);
    let balanced = service("web", "10.96.0.10", "").replace(
        "spec:",
        "spec:\n  type: LoadBalancer\n  externalTrafficPolicy: Local\n  healthCheckNodePort: 31000",
    );
    world.stage.write("service.yaml", &balanced);
    let proxy = world.proxy(&["--hostname-override", "node-1"]);
    world.stage.tool("iptables", &["-P", "INPUT", "DROP"], "");
    let at = |port| SocketAddr::from((NODE, port));
    let told = || {
        let answer = get(&world.outside, at(31000), "/").ok()?;
        Some((answer.status, answer.header("X-Load-Balancing-Endpoint-Weight")?.to_owned()))
    };
    let until_told = |wanted: Option<(u16, &str)>| {
        let wanted = wanted.map(|(status, weight)| (status, weight.to_owned()));
        until(
            &format!("{wanted:?} is told"),
            || told() == wanted,
            || format!("{:?}\n{}", told(), proxy.log()),
        );
    };
    until_told(Some((503, "0")));
    let here = endpoints("web", &ENDPOINTS[..2]).replace("\"]\n", "\"]\n    nodeName: node-1\n");
    world.stage.write("endpoints.yaml", &here);
    until_told(Some((200, "2")));
    assert!(get(&world.outside, at(10256), "/livez").is_err(), "everything else is dropped");
    let localhost = SocketAddr::from((Ipv4Addr::LOCALHOST, 10249));
    world.stage.tool("iptables", &["-P", "INPUT", "ACCEPT"], "");
    let metrics = get(&world.stage.netns, localhost, "/metrics").expect("an answer").body;
    let sent = metrics.lines().find_map(|line| {
        line.strip_prefix("fairlead_written_bytes_total{ip_family=\"IPv4\"} ")?.parse::<u64>().ok()
    });
    assert!(sent.is_some_and(|sent| sent > 1000), "sets, servers and rules were written: {metrics}");
    world.stage.write("service.yaml", &service("web", "10.96.0.10", ""));
    until_told(None);
}
