//! Endpoints that see their clients, in the userspace mode: what it needs of the kernel is shown, made, and removed.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use kernel_io::link::{Link, Route};
use kernel_io::netns::Netns;
use kernel_io::sysctl;

use crate::stage::{Running, Stage, endpoints, service, until};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 9);
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 10);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);

const FLAGS: [&str; 5] =
    ["-v4", "--proxy-mode", "userspace", "--cluster-cidr=10.244.0.0/16", "--userspace-transparent"];

/// A pod on a link of its own, as networks that are routed have them.
fn pod(stage: &Stage, ip: Ipv4Addr, link: &str) -> Netns {
    let netns = Netns::new().expect("a namespace");
    let (here, there) = Link::veth("eth0", &netns, link, &stage.netns).expect("a link");
    let own = |ip: Ipv4Addr| format!("{ip}/32").parse().expect("an address");
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    here.add_address(own(ip)).expect("added").set_up().expect("up");
    there.add_address(own(gateway)).expect("added").set_up().expect("up");
    here.wait_running().expect("it runs");
    there.wait_running().expect("it runs");
    there.add_route(&Route::to(own(ip)).dev(link)).expect("a way there");
    here.add_route(&Route::default_via(gateway.into()).dev("eth0").on_link()).expect("a way back");
    netns
}

fn started(stage: &Stage, flags: &[&str]) -> Running {
    let proxy = stage.start(stage.proxy_command(flags));
    proxy.until_log("pass{family=IPv4}: kernel brought to plan");
    proxy
}

/// What `ip` lists of ours, in both families.
fn routing(stage: &Stage) -> String {
    let listed = |family, what: [&str; 2]| stage.tool("ip", &[family, what[0], "show", "table", what[1]], "");
    ["-4", "-6"].map(|family| listed(family, ["rule", "7253"]) + &routes(stage, family)).concat()
}

/// A table that nobody has used yet is none.
fn routes(stage: &Stage, family: &str) -> String {
    let all = stage.tool("ip", &[family, "route", "show", "table", "all"], "");
    all.split_inclusive('\n').filter(|line| line.contains("table 7253")).collect()
}

#[test]
fn an_endpoint_sees_its_client_and_nothing_of_it_outlives_a_cleanup() {
    let stage = Stage::new();
    let set = || {
        sysctl::write("net.ipv4.ip_forward", "1")?;
        sysctl::write("net.ipv4.conf.all.rp_filter", "0")
    };
    stage.netns.run(set).expect("entered").expect("set");
    let lo = Link::loopback(&stage.netns);
    lo.add_address(format!("{NODE}/32").parse().expect("an address")).expect("added");
    let (client, server) = (pod(&stage, CLIENT, "veth1"), pod(&stage, POD, "veth2"));
    let server = server.run(|| TcpListener::bind((POD, 8080))).expect("entered").expect("a server");
    stage.write("web.yaml", &(service("web", "10.96.0.10", "") + &endpoints("web", &["10.244.0.10"])));
    let seen = || {
        let call = || TcpStream::connect(SocketAddr::from(([10, 96, 0, 10], 80)));
        let mut calling = client.run(call).expect("entered").expect("somebody answers");
        let (taken, seen) = server.accept().expect("a client");
        drop(taken);
        assert_eq!(calling.read(&mut [0]).expect("an end"), 0);
        (seen, calling.local_addr().expect("an address"))
    };

    let shown = stage.proxy(&[&FLAGS[..], &["--dry-run"]].concat()).success().stdout;
    let (route, rule) = (
        "route add local default dev lo table 7253\n",
        "rule add priority 95 fwmark 0x8000/0x8000 lookup 7253 protocol 70\n",
    );
    assert!(shown.contains(&format!("# IPv4 routing\n{route}{rule}# IPv4 listeners\n")), "{shown}");
    assert!(shown.contains("{tcp default/web:http@cluster as the client} to 10.244.0.10:8080\n"), "{shown}");

    let proxy = started(&stage, &FLAGS);
    let (at_endpoint, at_client) = seen();
    assert_eq!(at_endpoint, at_client);
    assert!(routing(&stage).contains("fwmark 0x8000/0x8000 lookup 7253"), "{}", routing(&stage));
    proxy.end_by("-KILL");

    // Whoever comes next and does not want it removes it.
    let proxy = started(&stage, &FLAGS[..4]);
    let is_gone = || routing(&stage).is_empty() && !stage.rules().contains("KUBE-PORTALS-ANSWERS");
    until("the way back is gone", is_gone, || routing(&stage) + &proxy.log());
    assert_eq!(seen().0.ip(), Ipv4Addr::new(169, 254, 1, 1));
    proxy.end_by("-TERM");

    let proxy = started(&stage, &FLAGS);
    assert!(!routing(&stage).is_empty());
    proxy.end_by("-TERM");
    stage.ended(stage.command(&["proxy", "--cleanup"])).success();
    assert_eq!(routing(&stage), "");
    assert!(!stage.rules().contains("KUBE-PORTALS"), "{}", stage.rules());
}
