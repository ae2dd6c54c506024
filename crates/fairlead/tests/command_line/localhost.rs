//! Node ports on localhost in the nftables mode, where nodePortAddresses name it: real connections to listeners of the
//! process, in both families.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use kernel_io::link::Link;

use crate::stage::{Running, Stage, endpoints, until};
use crate::web::get;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOCALHOST_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

const PODS: [&str; 3] = ["10.180.0.1", "10.180.0.2", "fd00:10:180::1"];

/// A node with three pods that say their addresses and hang up.
fn stage() -> Stage {
    let stage = Stage::new();
    let lo = Link::loopback(&stage.netns);
    for pod in PODS {
        let ip: IpAddr = pod.parse().expect("an address");
        lo.add_address(ip.into()).expect("added").wait_local(ip).expect("it is there");
        let listener = stage.netns.run(|| TcpListener::bind((ip, 8080))).expect("entered").expect("a port");
        thread::spawn(move || {
            for stream in listener.incoming() {
                // Whoever is gone has lost interest.
                let _ = stream.and_then(|mut stream| stream.write_all(pod.as_bytes()));
            }
        });
    }
    stage.write("web.yaml", &(service("web", 1, 30080, "") + &endpoints("web", &PODS[..2])));
    stage.write("other.yaml", &(service("other", 2, 30081, "") + &endpoints("other", &PODS[..1])));
    let dual = "  ipFamilies: [IPv4, IPv6]\n  clusterIPs: [10.96.0.3, \"fd00:10:96::3\"]\n  sessionAffinity: ClientIP\n";
    let slices = endpoints("dual", &PODS[..2]) + &endpoints("dual", &PODS[2..]).replace("dual-1", "dual-2");
    stage.write("dual.yaml", &(service("dual", 3, 30082, dual) + &slices));
    stage
}

fn service(name: &str, number: u8, node_port: u16, more: &str) -> String {
    let port = format!(", nodePort: {node_port}");
    let plain = crate::stage::service(name, &format!("10.96.0.{number}"), &port);
    plain.replace("spec:\n", &format!("spec:\n  type: NodePort\n{more}"))
}

const MODE: [&str; 4] = ["--proxy-mode", "nftables", "--nodeport-addresses", "primary,localhost"];

fn started(stage: &Stage, more: &[&str]) -> Running {
    let arguments: Vec<_> = MODE.iter().chain(more).copied().collect();
    let proxy = stage.start(stage.proxy_command(&arguments));
    for family in ["IPv4", "IPv6"] {
        proxy.until_log(&format!("pass{{family={family}}}: kernel brought to plan"));
    }
    proxy
}

/// What is heard at an address of the node.
fn heard(stage: &Stage, ip: IpAddr, port: u16) -> io::Result<String> {
    let ask = || {
        let mut stream = TcpStream::connect((ip, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    stage.netns.run(ask).expect("entered")
}

fn until_heard(stage: &Stage, ip: IpAddr, port: u16, pods: &[&str], proxy: &Running) {
    let expected: BTreeSet<&str> = pods.iter().copied().collect();
    let all = || -> io::Result<BTreeSet<String>> { (0..4).map(|_| heard(stage, ip, port)).collect() };
    let holds = || all().is_ok_and(|heard| heard.iter().map(String::as_str).eq(expected.iter().copied()));
    until(&format!("{pods:?} at {ip}:{port}"), holds, || format!("{:?}\n{}", all(), proxy.log()));
}

fn until_refused(stage: &Stage, ip: IpAddr, port: u16, proxy: &Running) {
    let is_refused =
        || heard(stage, ip, port).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    until(&format!("nobody at {ip}:{port}"), is_refused, || proxy.log());
}

#[test]
fn node_ports_are_served_on_localhost_as_long_as_they_have_endpoints() {
    let stage = stage();
    let proxy = started(&stage, &[]);
    until_heard(&stage, LOCALHOST, 30080, &PODS[..2], &proxy);
    until_heard(&stage, LOCALHOST_6, 30082, &PODS[2..], &proxy);
    // Session affinity: all connections from here are one client.
    let kept = heard(&stage, LOCALHOST, 30082).expect("an answer");
    until_heard(&stage, LOCALHOST, 30082, &[&kept], &proxy);
    until_refused(&stage, LOCALHOST_6, 30080, &proxy);
    stage.write("web.yaml", &(service("web", 1, 30080, "") + &endpoints("web", &PODS[1..2])));
    until_heard(&stage, LOCALHOST, 30080, &PODS[1..2], &proxy);
    stage.write("web.yaml", &(service("web", 1, 30080, "") + &endpoints("web", &[])));
    until_refused(&stage, LOCALHOST, 30080, &proxy);
    stage.write("web.yaml", &(service("web", 1, 30090, "") + &endpoints("web", &PODS[..1])));
    until_heard(&stage, LOCALHOST, 30090, &PODS[..1], &proxy);
    stage.remove("web.yaml");
    until_refused(&stage, LOCALHOST, 30090, &proxy);
}

#[test]
fn two_services_swap_their_node_ports_on_localhost() {
    let stage = stage();
    let proxy = started(&stage, &[]);
    until_heard(&stage, LOCALHOST, 30081, &PODS[..1], &proxy);
    let swapped = service("web", 1, 30081, "")
        + &endpoints("web", &PODS[1..2])
        + &service("other", 2, 30080, "")
        + &endpoints("other", &PODS[..1]);
    stage.write("web.yaml", &swapped);
    stage.write("other.yaml", "");
    until_heard(&stage, LOCALHOST, 30081, &PODS[1..2], &proxy);
    until_heard(&stage, LOCALHOST, 30080, &PODS[..1], &proxy);
}

#[test]
fn a_port_of_another_process_is_told_once_and_served_when_it_is_free() {
    let stage = stage();
    let taken = stage.netns.run(|| TcpListener::bind((LOCALHOST, 30081))).expect("entered").expect("a port");
    let mut proxy = started(&stage, &["--metrics-bind-address", "127.0.0.1:10249"]);
    let line =
        ["ERROR", "the node port is not served on localhost", "default/other", "127.0.0.1:30081", "in use"];
    let told = |log: &str| log.lines().filter(|each| line.iter().all(|word| each.contains(word))).count();
    until("it is told", || told(&proxy.log()) == 1, || proxy.log());
    // Neither its own rules nor anybody else wait for it.
    until_heard(&stage, LOCALHOST, 30080, &PODS[..2], &proxy);
    let table = stage.tool("nft", &["list", "table", "ip", "fairlead"], "");
    assert!(table.contains("tcp . 30081 : goto node-port-cluster-1"), "{table}");
    let metrics =
        || get(&stage.netns, SocketAddr::new(LOCALHOST, 10249), "/metrics").expect("an answer").body;
    let family = "{ip_family=\"IPv4\"}";
    let listeners = |count| format!("kubeproxy_nftables_localhost_nodeport_listeners{family} {count}\n");
    assert!(metrics().contains(&listeners(2)), "{}", metrics());
    let failures =
        "kubeproxy_nftables_localhost_nodeport_listener_creation_failures_total{ip_family=\"IPv4\"} 1\n";
    until("it is tried again", || !metrics().contains(failures), metrics);
    assert_eq!(told(&proxy.log()), 1, "{}", proxy.log());
    drop(taken);
    until_heard(&stage, LOCALHOST, 30081, &PODS[..1], &proxy);
    assert!(metrics().contains(&listeners(3)), "{}", metrics());
    proxy.expect_alive();
}

#[test]
fn only_where_localhost_is_named_and_the_gate_is_not_off_does_anybody_listen() {
    let off = "--feature-gates=KubeProxyNFTablesLocalhostNodePorts=false";
    for more in
        [&["--nodeport-addresses", "primary"][..], &["--nodeport-addresses", "all"], &[MODE[2], MODE[3], off]]
    {
        let stage = stage();
        let arguments: Vec<_> = MODE[..2].iter().chain(more).copied().collect();
        let proxy = stage.start(stage.proxy_command(&arguments));
        proxy.until_log("pass{family=IPv4}: kernel brought to plan");
        until_refused(&stage, LOCALHOST, 30080, &proxy);
        assert!(!proxy.log().contains("localhost"), "{}", proxy.log());
    }
}

#[test]
fn a_dry_run_shows_the_listeners_and_nft_takes_it_all_the_same() {
    let stage = stage();
    let shown = stage.proxy_of_nobody(&[&MODE[..], &["--dry-run"]].concat()).success().stdout;
    for line in [
        "# IPv4 listeners\n# {tcp 127.0.0.1:30080} to 10.180.0.1:8080 10.180.0.2:8080\n",
        "# {tcp 127.0.0.1:30082} to 10.180.0.1:8080 10.180.0.2:8080, kept 10800 s\n",
        "# IPv6 listeners\n# {tcp [::1]:30082} to [fd00:10:180::1]:8080, kept 10800 s\n",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    stage.tool("nft", &["-f", "-"], &shown);
}

#[test]
fn once_says_that_no_listener_outlives_it() {
    let stage = stage();
    let ended = stage.proxy(&[&MODE[..], &["--once"]].concat()).success();
    ended.line_with(&["WARN", "node ports are not served on localhost", "would end with this process"]);
    assert!(stage.tool("nft", &["list", "ruleset"], "").contains("tcp . 30080"));
}
