//! Where thousands of clients end up in the nftables mode: in equal shares or by weights, and with session affinity
//! always at the same endpoint, whatever becomes of the others.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use kernel_io::link::{Link, Route};
use kernel_io::sysctl;

use crate::datagrams::{READY, answer_datagrams, slice};
use crate::stage::{Running, Stage, until};

const PODS: [Ipv4Addr; 5] = [
    Ipv4Addr::new(10, 180, 0, 1),
    Ipv4Addr::new(10, 180, 0, 2),
    Ipv4Addr::new(10, 180, 0, 3),
    Ipv4Addr::new(10, 180, 0, 4),
    Ipv4Addr::new(10, 180, 0, 5),
];
const CLIENTS: u16 = 10_000;

/// Which endpoint answered, by the number of the client.
type Answers = BTreeMap<u16, Ipv4Addr>;

/// A node with pods that answer, and as many addresses to ask from as there are clients.
fn stage() -> Stage {
    let stage = Stage::new();
    stage.netns.run(|| sysctl::write("net.ipv4.conf.all.rp_filter", "0")).expect("entered").expect("set");
    let lo = Link::loopback(&stage.netns);
    lo.add_route(&Route::to(range("10.96.0.0/16"))).expect("a way to the Services");
    lo.add_route(&Route::local(range("10.99.0.0/16"))).expect("addresses of clients");
    answer_datagrams(&stage, &PODS);
    stage
}

fn range(text: &str) -> ipnet::IpNet {
    text.parse().expect("a range")
}

/// Service dns with these endpoints, and more in its specification or its metadata.
fn write(stage: &Stage, pods: &[Ipv4Addr], specification: &str, annotations: &str) {
    let endpoints: Vec<_> = pods.iter().map(|pod| (*pod, READY)).collect();
    let slice = slice(&endpoints).replace("  name: dns-1\n", &format!("  name: dns-1\n{annotations}"));
    let service = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: dns, namespace: default}}
spec:
  clusterIP: 10.96.0.10
{specification}  ports: [{{name: dns, port: 53, protocol: UDP}}]
---
"
    );
    stage.write("dns.yaml", &(service + &slice));
}

fn with_affinity(stage: &Stage, pods: &[Ipv4Addr], seconds: u32) {
    let affinity = format!(
        "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}\n"
    );
    write(stage, pods, &affinity, "");
}

fn started(stage: &Stage) -> Running {
    let proxy = stage.start(stage.proxy_command(&["--proxy-mode", "nftables"]));
    proxy.until_log("pass{family=IPv4}: kernel brought to plan");
    proxy
}

/// The rules, without the elements of sets.
fn rules(stage: &Stage) -> String {
    stage.tool("nft", &["--terse", "list", "table", "ip", "fairlead"], "")
}

/// One client after another asks from its own address, and from a port that it never used.
fn answers(stage: &Stage, clients: impl Iterator<Item = u16> + Send) -> Answers {
    let ask = |client: u16| -> io::Result<Ipv4Addr> {
        let [high, low] = client.to_be_bytes();
        let socket = UdpSocket::bind((Ipv4Addr::new(10, 99, high, low), 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.connect(SocketAddr::from(([10, 96, 0, 10], 53)))?;
        socket.send(b"?")?;
        let mut answer = [0; 16];
        let length = socket.recv(&mut answer)?;
        String::from_utf8_lossy(&answer[..length]).parse().map_err(io::Error::other)
    };
    let all = || clients.map(|client| Ok((client, ask(client)?))).collect::<io::Result<Answers>>();
    stage.netns.run(all).expect("entered").expect("every client is answered")
}

/// Whether shares come by chance out of these weights: chi-square with at most 4 degrees of freedom is above 45 once in
/// 10^8 times.
fn expect_shares(answers: impl Iterator<Item = Ipv4Addr>, weights: &[(Ipv4Addr, u32)]) {
    let mut counts: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
    answers.for_each(|endpoint| *counts.entry(endpoint).or_default() += 1);
    let all: u32 = counts.values().sum();
    let whole: u32 = weights.iter().map(|(_, weight)| weight).sum();
    assert!(
        weights.len() <= 5 && counts.keys().all(|pod| weights.iter().any(|(of, _)| of == pod)),
        "{counts:?}"
    );
    let distance: f64 = weights
        .iter()
        .map(|(pod, weight)| {
            let expected = f64::from(all) * f64::from(*weight) / f64::from(whole);
            (f64::from(counts.get(pod).copied().unwrap_or_default()) - expected).powi(2) / expected
        })
        .sum();
    assert!(distance < 45.0, "chi-square {distance} of {counts:?} for {weights:?}");
}

fn equal(pods: &[Ipv4Addr]) -> Vec<(Ipv4Addr, u32)> {
    pods.iter().map(|pod| (*pod, 1)).collect()
}

#[test]
fn chance_is_fair() {
    let stage = stage();
    write(&stage, &PODS, "", "");
    let _proxy = started(&stage);
    expect_shares(answers(&stage, 0..CLIENTS).into_values(), &equal(&PODS));
}

#[test]
fn chance_goes_by_weights_where_there_are_some() {
    let stage = stage();
    let weights = "  annotations: {fairlead.dev/weights: '{\"10.180.0.1\": 1, \"10.180.0.2\": 3, \"10.180.0.3\": 0}'}\n";
    write(&stage, &PODS[..3], "", weights);
    let _proxy = started(&stage);
    expect_shares(answers(&stage, 0..CLIENTS).into_values(), &[(PODS[0], 1), (PODS[1], 3)]);
}

#[test]
fn ten_thousand_clients_keep_to_their_endpoints_while_others_come_and_go() {
    let stage = stage();
    let until_rules =
        |what: &str, holds: &dyn Fn(&str) -> bool| until(what, || holds(&rules(&stage)), || rules(&stage));
    with_affinity(&stage, &PODS[..4], 3600);
    let proxy = started(&stage);
    let first = answers(&stage, 0..CLIENTS);
    expect_shares(first.values().copied(), &equal(&PODS[..4]));
    assert!(answers(&stage, 0..CLIENTS) == first, "nobody is forgotten");

    with_affinity(&stage, &PODS, 3600);
    until_rules("a fifth pod", &|rules| rules.contains("dnat to 10.180.0.5:5353"));
    assert!(answers(&stage, 0..CLIENTS) == first, "a pool that grows moves nobody");
    let newcomers = answers(&stage, CLIENTS..2 * CLIENTS);
    expect_shares(newcomers.into_values(), &equal(&PODS));

    with_affinity(&stage, &PODS[1..], 3600);
    until_rules("the first pod is gone", &|rules| !rules.contains("dnat to 10.180.0.1:5353"));
    // Among so many, a port may be one that was used before.
    proxy.until_log("UDP flows that led astray are forgotten");
    let shrunk = answers(&stage, 0..CLIENTS);
    let stayed = |(client, endpoint): (&u16, &Ipv4Addr)| shrunk.get(client) == Some(endpoint);
    assert!(first.iter().filter(|(_, pod)| **pod != PODS[0]).all(stayed), "those of other pods stay");
    let moved = first.iter().filter(|(_, pod)| **pod == PODS[0]).map(|(client, _)| shrunk[client]);
    expect_shares(moved, &equal(&PODS[1..]));
    assert!(answers(&stage, 0..CLIENTS) == shrunk, "those who had to move keep to their new ones");
}

#[test]
fn affinity_ends_with_its_time() {
    let stage = stage();
    with_affinity(&stage, &PODS[..4], 1);
    let _proxy = started(&stage);
    let first = answers(&stage, 0..64);
    let listed = || stage.tool("nft", &["list", "table", "ip", "fairlead"], "");
    until("all are forgotten", || !listed().contains("expires"), listed);
    // All would come to the same endpoints by chance once in 10^38 times.
    assert!(answers(&stage, 0..64) != first);
}
