//! The relay of the userspace mode beside haproxy (splicing) and nginx (stream), in a network namespace of its own.
//!
//! All of them lead from a port to the same servers on loopback, with two threads each, and are asked by the same
//! clients in turn; of several turns the median counts. Beside them, for the chart, what the kernel does alone: to the
//! servers directly, and by the rules of the iptables and nftables modes.

mod clients;
mod kernel;
mod peers;
mod servers;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use kernel_io::netns::Netns;

use bench::bars::{Bars, Panel};
use bench::figure::{Figure, Figures, Goal};
use kernel::Ruled;
use peers::{Peer, Running};

/// A process of this benchmark.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Part {
    /// What the proxies lead to.
    Servers,
    /// Our relay.
    Relay,
    /// Our relay with 8,000 listeners.
    RelayOfMany,
    /// A UDP relay of one thread with one socket towards clients, a datagram a call.
    Naive,
}

/// What a server does with who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Sends as much as it can.
    Source,
    /// Answers 64 bytes with 64 bytes, and hangs up.
    Short,
    /// Does nothing.
    Hold,
    /// Answers each datagram with itself.
    Echo,
}

impl Service {
    const ALL: [Self; 4] = [Self::Source, Self::Short, Self::Hold, Self::Echo];

    /// The port of the server behind it; proxies have theirs some hundreds above.
    fn port(self) -> u16 {
        match self {
            Self::Source => 9001,
            Self::Short => 9002,
            Self::Hold => 9003,
            Self::Echo => 9004,
        }
    }
}

impl Part {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Servers => servers::serve(),
            Self::Relay => peers::relay(),
            Self::RelayOfMany => peers::relay_of_many(),
            Self::Naive => servers::naive_relay(),
        }
    }
}

/// How often each is asked, and for how long.
const TURNS: usize = 3;
const TURN: Duration = Duration::from_millis(2500);

/// Measures everything.
pub(crate) fn measure(fairlead: &Path, drawing: &Path) -> Result<()> {
    let netns = Netns::new()?;
    let ruled = ["nftables", "iptables"].map(|mode| Ruled::new(fairlead, mode));
    let [nftables, iptables] = ruled;
    let (nftables, iptables) = (nftables?, iptables?);
    netns.run(|| {
        let mut figures = Figures::default();
        let servers = Running::part(Part::Servers)?;
        let ours = Running::start(Peer::Ours)?;
        let haproxy = Running::start(Peer::Haproxy)?;
        let ways = [
            Way { name: "direct", netns: &netns, at: &|service| servers.at(service) },
            Way { name: "nftables", netns: &nftables.netns, at: &kernel::at },
            Way { name: "iptables", netns: &iptables.netns, at: &kernel::at },
            Way { name: "userspace", netns: &netns, at: &|service| ours.at(service) },
            Way { name: "haproxy", netns: &netns, at: &|service| haproxy.at(service) },
        ];
        let chart = charted(&ways, &mut figures)?;
        fs::write(drawing, chart.svg()).with_context(|| format!("write {}", drawing.display()))?;
        fill(&mut figures, ours, &haproxy)?;
        figures.print_table().map(drop)
    })?
}

/// A way to the servers.
struct Way<'a> {
    name: &'static str,
    netns: &'a Netns,
    at: &'a (dyn Fn(Service) -> SocketAddr + Sync),
}

/// All ways beside each other, in turn.
fn charted(ways: &[Way<'_>; 5], figures: &mut Figures) -> Result<Bars> {
    let ask = |way: &Way<'_>, service, question: &(dyn Fn(SocketAddr) -> Result<f64> + Sync)| {
        let at = (way.at)(service);
        let answer = way.netns.run(|| question(at))?.with_context(|| format!("ask {}", way.name))?;
        Ok((answer, 0.0))
    };
    let ways = [&ways[0], &ways[1], &ways[2], &ways[3], &ways[4]];
    let first = |answers: [(f64, f64); 5]| answers.map(|(answer, _)| answer);
    let bulk = |at| clients::bulk(at, 64, TURN).map(|(gigabytes, seconds)| gigabytes / seconds);
    let throughput = first(in_turn(ways, |way| ask(way, Service::Source, &bulk))?);
    let connects = first(in_turn(ways, |way| ask(way, Service::Short, &|at| clients::short(at, TURN)))?);
    let half = connects.iter().copied().fold(f64::INFINITY, f64::min) / 2.0;
    let p99 = first(in_turn(ways, |way| ask(way, Service::Short, &|at| clients::p99(at, half, TURN)))?);
    let measures = [
        ("bulk, 64 connections", "GB/s", throughput),
        ("short connections", "1/s", connects),
        ("p99 at half of the least of those", "ms", p99),
    ];
    for (measure, unit, values) in &measures {
        for (way, value) in ways.iter().zip(values) {
            figures.add(Figure::new(format!("{measure}: {}", way.name), unit, *value))?;
        }
    }
    Ok(Bars {
        title: "What a way to a Service costs, on loopback".to_owned(),
        names: ways.iter().map(|way| way.name.to_owned()).collect(),
        panels: measures
            .into_iter()
            .map(|(measure, unit, values)| Panel {
                title: format!("{measure}, {unit}"),
                values: values.to_vec(),
            })
            .collect(),
    })
}

fn fill(figures: &mut Figures, ours: Running, haproxy: &Running) -> Result<()> {
    let nginx = Running::start(Peer::Nginx)?;
    let beside =
        |name: &str, unit, ours, peer, goal| Figure::new(name, unit, ours).against(Some(peer)).goal(goal);
    let alone = |name: &str, unit, ours, goal| Figure::new(name, unit, ours).goal(goal);
    for connections in [1, 64] {
        let [(our_rate, our_cost), (peer_rate, peer_cost), (nginx_rate, _)] =
            in_turn([&ours, haproxy, &nginx], |peer| bulk(peer, connections))?;
        let name = |peer: &str| format!("bulk, {connections} connections, against {peer}");
        figures.add(beside(&name("haproxy"), "GB/s", our_rate, peer_rate, Goal::AtLeast(1.0)))?;
        figures.add(beside(&name("nginx"), "GB/s", our_rate, nginx_rate, Goal::AtLeast(1.0)))?;
        let name = format!("CPU, {connections} connections");
        figures.add(beside(&name, "s/GB", our_cost, peer_cost, Goal::AtMost(1.0)))?;
    }
    let short = |peer: &Running| Ok((clients::short(peer.at(Service::Short), TURN)?, 0.0));
    let [(our_rate, _), (peer_rate, _), (nginx_rate, _)] = in_turn([&ours, haproxy, &nginx], short)?;
    figures.add(beside(
        "short connections, against haproxy",
        "1/s",
        our_rate,
        peer_rate,
        Goal::AtLeast(1.0),
    ))?;
    figures.add(beside(
        "short connections, against nginx",
        "1/s",
        our_rate,
        nginx_rate,
        Goal::AtLeast(1.0),
    ))?;
    let half = our_rate.min(peer_rate) / 2.0;
    let paced = |peer: &Running| Ok((clients::p99(peer.at(Service::Short), half, TURN)?, 0.0));
    let [(our_p99, _), (peer_p99, _)] = in_turn([&ours, haproxy], paced)?;
    figures.add(beside("p99 at half of that", "ms", our_p99, peer_p99, Goal::AtMost(1.0)))?;
    let naive = Running::start(Peer::Naive)?;
    let echo = |peer: &Running| Ok((clients::datagrams(peer.at(Service::Echo), TURN)?, 0.0));
    let [(our_rate, _), (naive_rate, _), (nginx_rate, _)] = in_turn([&ours, &naive, &nginx], echo)?;
    figures.add(beside("UDP, against one socket", "1/s", our_rate, naive_rate, Goal::AtLeast(2.0)))?;
    figures.add(beside("UDP, against nginx", "1/s", our_rate, nginx_rate, Goal::AtLeast(1.0)))?;
    let [our_idle, peer_idle] = [&ours, haproxy].map(idle);
    figures.add(alone("memory of an idle connection", "bytes", our_idle?, Goal::AtMost(4096.0)))?;
    figures.add(alone("the same, of haproxy", "bytes", peer_idle?, Goal::AtLeast(0.0)))?;
    drop(ours);
    let many = Running::part(Part::RelayOfMany)?;
    figures.add(alone("8,000 listeners", "MB", many.memory()? / 1e6, Goal::AtMost(50.0)))
}

/// Asks all in turn, several times; of both numbers the median counts.
fn in_turn<T, const N: usize>(
    peers: [&T; N],
    ask: impl Fn(&T) -> Result<(f64, f64)>,
) -> Result<[(f64, f64); N]> {
    let mut answers = peers.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..TURNS {
        for (peer, (first, second)) in peers.iter().zip(&mut answers) {
            let answer = ask(peer)?;
            first.push(answer.0);
            second.push(answer.1);
        }
    }
    Ok(answers.map(|(first, second)| (median(first), median(second))))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Gigabytes a second through a proxy, and seconds of its processor for each.
fn bulk(peer: &Running, connections: usize) -> Result<(f64, f64)> {
    let before = peer.processor_time()?;
    let (gigabytes, seconds) = clients::bulk(peer.at(Service::Source), connections, TURN)?;
    let used = peer.processor_time()? - before;
    Ok((gigabytes / seconds, used / gigabytes))
}

/// Bytes of memory that an idle connection costs a proxy, of many.
fn idle(peer: &Running) -> Result<f64> {
    const CONNECTIONS: u32 = 9000;
    let before = peer.memory()?;
    let held = clients::held(peer.at(Service::Hold), CONNECTIONS)?;
    std::thread::sleep(Duration::from_millis(500));
    let after = peer.memory()?;
    drop(held);
    std::thread::sleep(Duration::from_secs(1));
    Ok((after - before) / f64::from(CONNECTIONS))
}
