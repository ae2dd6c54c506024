//! UDP clients that ask from one port for as long as they live, in each mode that this kernel has: they never ask
//! somebody who is gone, and never lose somebody who is not.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use kernel_io::conntrack::{Conntrack, Family, Flow, Narrowed};
use kernel_io::link::{Link, Route};
use kernel_io::sysctl;

use crate::datagrams::{READY, answer_datagrams, slice};
use crate::stage::{Running, Stage, until};

const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
const PODS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 180, 0, 1), Ipv4Addr::new(10, 180, 0, 2)];

/// The modes whose rules send each packet to an endpoint.
const BY_KERNEL: [&str; 2] = ["iptables", "nftables"];

fn cluster_ip() -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 10], 53))
}

fn node_port(number: u16) -> SocketAddr {
    SocketAddr::from((NODE, number))
}

/// A node with two pods that answer with their own address, and a Service that no pod serves.
fn stage() -> Stage {
    let stage = Stage::new();
    stage.netns.run(|| sysctl::write("net.ipv4.conf.all.rp_filter", "0")).expect("entered").expect("set");
    let lo = Link::loopback(&stage.netns);
    lo.add_address(format!("{NODE}/32").parse().expect("an address")).expect("added");
    lo.add_route(&Route::to("10.96.0.0/16".parse().expect("a range"))).expect("a way to the Services");
    answer_datagrams(&stage, &PODS);
    stage.write("other.yaml", &service("other", "10.96.0.11", 30054));
    stage
}

fn service(name: &str, cluster_ip: &str, node_port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  type: NodePort
  clusterIP: {cluster_ip}
  ports: [{{name: dns, port: 53, protocol: UDP, nodePort: {node_port}}}]
---
"
    )
}

const TERMINATING: &str = "ready: false, serving: true, terminating: true";

fn dns(endpoints: &[(Ipv4Addr, &str)]) -> String {
    service("dns", "10.96.0.10", 30053) + &slice(endpoints)
}

fn started(stage: &Stage, mode: &str) -> Running {
    let proxy = stage.start(stage.proxy_command(&["-v4", "--proxy-mode", mode]));
    let is_written = || {
        ["kernel brought to plan", "the kernel is as planned already"]
            .iter()
            .any(|text| proxy.log().contains(&format!("pass{{family=IPv4}}: {text}")))
    };
    until("IPv4 is written", is_written, || proxy.log());
    proxy
}

/// A client with one port for all that it asks.
struct Client(UdpSocket);

impl Client {
    fn new(stage: &Stage) -> Self {
        let socket = stage.netns.run(|| UdpSocket::bind((NODE, 0))).expect("entered").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        Self(socket)
    }

    /// Which pod answers.
    fn ask(&self, at: SocketAddr) -> io::Result<String> {
        self.0.send_to(b"who?", at)?;
        let mut answer = [0; 64];
        let length = self.0.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    fn until_answered_by(&self, at: SocketAddr, pod: Ipv4Addr, proxy: &Running) {
        let pod = pod.to_string();
        until(
            &format!("{pod} answers at {at}"),
            || self.ask(at).is_ok_and(|answer| answer == pod),
            || format!("{:?}\n{}", self.ask(at), proxy.log()),
        );
    }
}

/// What the clients ask whose flows the kernel knows.
fn asked(stage: &Stage) -> Vec<SocketAddr> {
    let mut conntrack = stage.netns.run(Conntrack::open).expect("entered").expect("a connection tracker");
    let flows = conntrack.flows(Narrowed::ToFamily(Family::Inet)).expect("a list");
    let mut asked: Vec<_> = flows.iter().map(|flow: &Flow| flow.asked).collect();
    asked.sort();
    asked.dedup();
    asked
}

fn until_asked(stage: &Stage, wanted: &[SocketAddr], proxy: &Running) {
    let what = format!("the flows are to {wanted:?} alone");
    until(&what, || asked(stage) == wanted, || format!("{:?}\n{}", asked(stage), proxy.log()));
}

#[test]
fn a_client_follows_when_its_pod_serves_no_more_and_not_before() {
    for mode in BY_KERNEL {
        let stage = stage();
        stage.write("dns.yaml", &dns(&[(PODS[0], READY)]));
        let proxy = started(&stage, mode);
        let clients = [cluster_ip(), node_port(30053)].map(|at| (Client::new(&stage), at));
        for (client, at) in &clients {
            client.until_answered_by(*at, PODS[0], &proxy);
        }
        stage.write("dns.yaml", &dns(&[(PODS[0], TERMINATING), (PODS[1], READY)]));
        until(
            "new clients ask the new pod",
            || Client::new(&stage).ask(cluster_ip()).is_ok_and(|answer| answer == PODS[1].to_string()),
            || proxy.log(),
        );
        proxy.end_by("-TERM");
        let proxy = started(&stage, mode);
        proxy.until_log("no UDP flow was stale");
        for (client, at) in &clients {
            let answer = client.ask(*at).expect("the pod still answers");
            assert_eq!(answer, PODS[0].to_string(), "{mode}: it still serves, and the proxy began anew");
        }
        stage.write("dns.yaml", &dns(&[(PODS[1], READY)]));
        for (client, at) in &clients {
            client.until_answered_by(*at, PODS[1], &proxy);
        }
    }
}

#[test]
fn a_client_that_asked_before_there_was_a_service_is_served_by_it() {
    for mode in BY_KERNEL.into_iter().chain(["userspace"]) {
        let stage = stage();
        let proxy = started(&stage, mode);
        let client = Client::new(&stage);
        assert!(client.ask(cluster_ip()).is_err(), "nobody is there yet");
        until_asked(&stage, &[cluster_ip()], &proxy);
        stage.write("dns.yaml", &dns(&[(PODS[0], READY)]));
        client.until_answered_by(cluster_ip(), PODS[0], &proxy);
    }
}

#[test]
fn no_flow_outlives_its_endpoints_its_node_port_or_its_service() {
    for mode in BY_KERNEL {
        let stage = stage();
        stage.write("dns.yaml", &dns(&[(PODS[0], READY)]));
        let proxy = started(&stage, mode);
        let ask_all = |at: &[SocketAddr]| {
            for at in at {
                Client::new(&stage).until_answered_by(*at, PODS[0], &proxy);
            }
        };
        ask_all(&[cluster_ip(), node_port(30053)]);
        let moved = service("dns", "10.96.0.10", 30055) + &slice(&[(PODS[0], READY)]);
        stage.write("dns.yaml", &moved);
        until_asked(&stage, &[cluster_ip()], &proxy);
        ask_all(&[node_port(30055)]);
        stage.write("dns.yaml", &service("dns", "10.96.0.10", 30055));
        until_asked(&stage, &[], &proxy);
        stage.write("dns.yaml", &moved);
        ask_all(&[cluster_ip()]);
        stage.remove("dns.yaml");
        until_asked(&stage, &[], &proxy);
    }
}

#[test]
fn a_client_is_told_that_nobody_listens_at_its_endpoint() {
    let nobody = Ipv4Addr::new(10, 180, 0, 3);
    for mode in BY_KERNEL.into_iter().chain(["userspace"]) {
        let stage = stage();
        let lo = Link::loopback(&stage.netns);
        lo.add_address(format!("{nobody}/32").parse().expect("an address")).expect("added");
        stage.write("dns.yaml", &dns(&[(nobody, READY)]));
        let proxy = started(&stage, mode);
        for at in [cluster_ip(), node_port(30053)] {
            let Client(socket) = Client::new(&stage);
            // Only who has said whom it asks is told.
            socket.connect(at).expect("an address");
            socket.send(b"who?").expect("sent");
            let error = socket.recv(&mut [0; 64]).expect_err("nobody answers");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{mode}: {at}\n{}", proxy.log());
        }
    }
}

#[test]
fn a_relay_that_begins_anew_is_asked_by_those_who_asked_the_old_one() {
    let stage = stage();
    stage.write("dns.yaml", &dns(&[(PODS[0], READY)]));
    let proxy = started(&stage, "userspace");
    let client = Client::new(&stage);
    client.until_answered_by(cluster_ip(), PODS[0], &proxy);
    proxy.end_by("-KILL");
    let proxy = started(&stage, "userspace");
    client.until_answered_by(cluster_ip(), PODS[0], &proxy);
    stage.remove("dns.yaml");
    let is_forgotten = || !asked(&stage).contains(&cluster_ip());
    until("its flow is forgotten", is_forgotten, || proxy.log());
}
