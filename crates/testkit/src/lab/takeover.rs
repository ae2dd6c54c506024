//! Taking over from a kube-proxy: its rules lie in the kernel, connections run through them, and then we come.
//!
//! Afterwards the kernel holds what it would if it had been empty, besides the rules of others; no connection that
//! ran has ended, and none that began meanwhile has failed.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kernel_io::netns::Netns;
use packet_trace::{Outcome, Packet};
use proxy::Reconciler;
use proxy_modes::Iptables;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use service_plan::{Family, Protocol};

use super::network::Network;
use super::places::Places;
use super::target::TargetInside;
use super::{Kept, LabError, nothing_is_left, same, settled, with_sources};
use crate::{Replayed, Scenario, replayed};

/// What is in the kernel when we come.
#[derive(Clone, Copy, Debug)]
pub struct Takeover {
    /// Whose rules they are.
    pub name: &'static str,
    /// Those of the kube-proxy, for the first step of [`SCENARIO`].
    rules: &'static str,
    /// Those of others, which stay.
    others: &'static [&'static str],
}

/// What is served before and after.
const SCENARIO: &str = "source-ranges-with-local-policy";

const STRANGERS: &str = include_str!("takeover/strangers.rules");
const KUBELET: &str = include_str!("takeover/kubelet.rules");

/// All that we take over from.
pub const TAKEOVERS: [Takeover; 3] = [
    Takeover {
        name: "from a kube-proxy 1.36",
        rules: include_str!("takeover/kube-proxy-1.36.rules"),
        others: &[STRANGERS],
    },
    Takeover {
        name: "from a kube-proxy 1.36 beside a kubelet",
        rules: include_str!("takeover/kube-proxy-1.36.rules"),
        others: &[STRANGERS, KUBELET],
    },
    Takeover {
        name: "from a kube-proxy 1.22",
        rules: include_str!("takeover/kube-proxy-1.22.rules"),
        others: &[STRANGERS],
    },
];

/// How long a connection may take for each step.
const PATIENCE: Duration = Duration::from_secs(3);

/// Takes over, and hands back.
pub fn take_over(takeover: &Takeover, mode: Iptables) -> Result<(), String> {
    let scenario = Scenario::open(&Scenario::root().join(SCENARIO)).map_err(|error| error.to_string())?;
    let steps = replayed(&scenario).map_err(|error| error.to_string())?;
    play(takeover, &scenario, &steps, mode).map_err(|error| with_sources(&*error))
}

fn play(
    takeover: &Takeover,
    scenario: &Scenario,
    steps: &[Replayed],
    mode: Iptables,
) -> Result<(), LabError> {
    let places = Places::of(scenario, steps, BTreeSet::new());
    let network = Network::build(&scenario.stage, &places)?;
    for rules in [takeover.rules].iter().chain(takeover.others) {
        restore(&network.node, rules)?;
    }
    let listeners = listeners(&network, &places)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| echo(&listeners, &over));
        let result = with_traffic(&network, scenario, || written(&network.node, scenario, steps, mode));
        over.store(true, Ordering::Relaxed);
        result
    })?;
    let fresh = Netns::new()?;
    for rules in takeover.others {
        restore(&fresh, rules)?;
    }
    written(&fresh, scenario, steps, mode)?;
    let (taken_over, from_nothing) = (saved(&network.node)?, saved(&fresh)?);
    if taken_over != from_nothing {
        let missing = from_nothing.iter().filter(|line| !taken_over.contains(line));
        let strange = taken_over.iter().filter(|line| !from_nothing.contains(line));
        let lines: Vec<String> = missing
            .map(|line| format!("\n  - {line}"))
            .chain(strange.map(|line| format!("\n  + {line}")))
            .collect();
        return Err(format!("it is not as if the kernel had been empty:{}", lines.concat()).into());
    }
    nothing_is_left(&network, mode)??;
    let left = saved(&network.node)?;
    let rules = takeover.others.iter().flat_map(|rules| rules.lines());
    match rules
        .filter_map(|line| line.strip_prefix("-A "))
        .find(|rule| !left.iter().any(|line| line.contains(rule)))
    {
        Some(rule) => Err(format!("somebody else's rule is gone: {rule}").into()),
        None => Ok(()),
    }
}

/// Writes what the first step wants.
fn written(node: &Netns, scenario: &Scenario, steps: &[Replayed], mode: Iptables) -> Result<(), LabError> {
    let families = steps.first().into_iter().flat_map(|step| &step.families);
    for planned in families {
        let open = |family: Family| {
            let target = node.run(|| Iptables::open(scenario, family))??;
            Ok::<_, LabError>(TargetInside::new(node, target))
        };
        let mut reconciler = Reconciler::new(mode, open(planned.family)?);
        reconciler.want(&planned.touched);
        settled(&mut reconciler)?;
        same(&open(planned.family)?.found()?, &reconciler.wanted())?;
    }
    Ok(())
}

/// Does something while connections run and others begin.
fn with_traffic(
    network: &Network,
    scenario: &Scenario,
    change: impl FnOnce() -> Result<(), LabError>,
) -> Result<(), LabError> {
    let packets = scenario.steps.first().into_iter().flat_map(|step| &step.packets);
    let served = packets.filter(|each| matches!(each.outcome, Outcome::Forwarded { .. }));
    let asked: Vec<Packet> =
        served.map(|each| each.packet).filter(|packet| packet.protocol == Protocol::Tcp).collect();
    let mut held = Vec::new();
    for packet in &asked {
        held.push((packet, connected(network, packet)?));
    }
    let over = AtomicBool::new(false);
    let traffic = || -> Result<usize, LabError> {
        let mut rounds = 0;
        while !over.load(Ordering::Relaxed) {
            for packet in &asked {
                spoken(packet, &mut connected(network, packet)?)?;
            }
            rounds += 1;
        }
        Ok(rounds)
    };
    thread::scope(|scope| {
        let traffic = scope.spawn(traffic);
        // Some connections begin before, some in the middle, and some after.
        thread::sleep(Duration::from_millis(50));
        let changed = change();
        thread::sleep(Duration::from_millis(50));
        let held = held.iter_mut().try_for_each(|(packet, stream)| spoken(packet, stream));
        over.store(true, Ordering::Relaxed);
        let rounds = traffic.join().map_err(|_| "the thread of the clients panicked")?;
        changed.and(held)?;
        if rounds? == 0 { Err("no connection was made meanwhile".into()) } else { Ok(()) }
    })
}

fn connected(network: &Network, packet: &Packet) -> Result<TcpStream, LabError> {
    let open = || -> io::Result<TcpStream> {
        let family = if packet.to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        bind(&socket, &SocketAddr::new(packet.from.ip(), 0))?;
        connect(&socket, &packet.to)?;
        Ok(TcpStream::from(socket))
    };
    let stream = network.netns_of(packet.from).run(open)?;
    stream.map_err(|error| format!("{packet}: it was not served: {error}").into())
}

/// Says something, and hears it.
fn spoken(packet: &Packet, stream: &mut TcpStream) -> Result<(), LabError> {
    let mut heard = [0; 4];
    let result = stream.write_all(b"echo").and_then(|()| stream.read_exact(&mut heard));
    match result {
        Ok(()) if heard == *b"echo" => Ok(()),
        Ok(()) => Err(format!("{packet}: heard {heard:?}").into()),
        Err(error) => Err(format!("{packet}: the connection broke: {error}").into()),
    }
}

fn listeners(network: &Network, places: &Places) -> Result<Vec<TcpListener>, LabError> {
    let mut listeners = Vec::new();
    let mut open = |netns: &Netns, at: Vec<SocketAddr>| -> Result<(), LabError> {
        let opened: io::Result<Vec<TcpListener>> =
            netns.run(|| at.iter().map(TcpListener::bind).collect())?;
        listeners.extend(opened?);
        Ok(())
    };
    open(&network.world, places.served(&places.world))?;
    for (ip, netns) in &network.pods {
        open(netns, places.served(&[*ip].into()))?;
    }
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    Ok(listeners)
}

/// Sends back whatever comes in, until it is over.
fn echo(listeners: &[TcpListener], over: &AtomicBool) {
    let mut streams: Vec<TcpStream> = Vec::new();
    while !over.load(Ordering::Relaxed) {
        for listener in listeners {
            while let Ok((stream, _)) = listener.accept() {
                if stream.set_nonblocking(true).is_ok() {
                    streams.push(stream);
                }
            }
        }
        streams.retain_mut(|stream| {
            let mut bytes = [0; 64];
            match stream.read(&mut bytes) {
                Ok(0) => false,
                Ok(length) => stream.write_all(&bytes[..length]).is_ok(),
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            }
        });
        thread::sleep(Duration::from_millis(1));
    }
}

fn restore(node: &Netns, rules: &str) -> Result<(), LabError> {
    let mut command = Command::new("iptables-restore");
    command.arg("--noflush").stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = node.run(|| command.spawn())??;
    child.stdin.take().ok_or("no pipe")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("iptables-restore: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// The rules that the kernel holds, without counters, in an order of their text.
fn saved(node: &Netns) -> Result<Vec<String>, LabError> {
    let output = node.run(|| Command::new("iptables-save").output())??;
    let mut table = String::new();
    let mut lines = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if line.starts_with([':', '-']) {
            lines.push(format!("{table} {}", line.split(" [").next().unwrap_or(line)));
        }
    }
    lines.sort();
    Ok(lines)
}
