//! The packets of a scenario's step, and what becomes of each: one a line, as scenarios/README.md says.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use packet_trace::{Next, Outcome, Packet, SeenAs, Sender};
use service_plan::{Family, Protocol};
use thiserror::Error;

use crate::scenario::Stage;

/// A packet and what should become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The line of the file, from 1.
    pub line: usize,
    /// The mode that it holds for; every mode, if none is named.
    pub mode: Option<String>,
    /// The packet.
    pub packet: Packet,
    /// What becomes of it.
    pub outcome: Outcome,
    /// The endpoints that get more than one share of new clients.
    pub heavier: Heavier,
}

/// How many shares an endpoint gets beside those that have one.
pub type Heavier = BTreeMap<SocketAddr, u32>;

/// A line that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{line}: {message}")]
pub struct PacketError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// Reads a file of packets.
pub fn parse_packets(text: &str, stage: &Stage) -> Result<Vec<Expectation>, PacketError> {
    let mut expectations: Vec<Expectation> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line_number = number + 1;
        let error = |message: String| PacketError { line: line_number, message };
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (line, heavier) = parse_shares(line).map_err(error)?;
        let (mode, packet, outcome) = parse_line(&line, stage).map_err(error)?;
        let same = |known: &&Expectation| known.packet == packet && known.mode == mode;
        if let Some(known) = expectations.iter().find(same) {
            return Err(error(format!("the same packet stands in line {} already", known.line)));
        }
        expectations.push(Expectation { line: line_number, mode, packet, outcome, heavier });
    }
    Ok(expectations)
}

/// What holds for a mode: what is said of it by name goes before what is said of every mode.
pub fn of_mode<'a>(all: &'a [Expectation], mode: &str) -> Vec<&'a Expectation> {
    let named = |each: &&Expectation| each.mode.as_deref() == Some(mode);
    let excepted = |packet: &Packet| all.iter().filter(named).any(|each| each.packet == *packet);
    all.iter().filter(|each| named(each) || (each.mode.is_none() && !excepted(&each.packet))).collect()
}

/// What holds for a mode that relays: endpoints see the node, since it is the node that calls them; and SCTP, whose
/// several addresses and streams no relay could keep, is left alone.
pub fn relayed(all: &[Expectation]) -> Vec<Expectation> {
    let mut all = all.to_vec();
    for each in all.iter_mut().filter(|each| each.mode.is_none()) {
        if each.packet.protocol == Protocol::Sctp {
            each.outcome = Outcome::Untouched;
        }
        if let Outcome::Forwarded { to, .. } = &mut each.outcome {
            for seen_as in to.values_mut() {
                *seen_as = SeenAs::Node;
            }
        }
    }
    all
}

/// What holds for a mode that relays and keeps the client's address where it can: where the plan does not masquerade,
/// the client is not the node, and the endpoint is not on the node's own address.
pub fn relayed_transparently(all: &[Expectation], node: &[IpAddr]) -> Vec<Expectation> {
    let relayed = relayed(all);
    let mut all = all.to_vec();
    for (each, relayed) in all.iter_mut().zip(relayed) {
        let Outcome::Forwarded { to, .. } = &mut each.outcome else {
            *each = relayed;
            continue;
        };
        let is_node = matches!(each.packet.from, Sender::Node(_));
        if is_node || each.packet.protocol == Protocol::Sctp {
            *each = relayed;
            continue;
        }
        for (endpoint, seen_as) in to {
            if node.contains(&endpoint.ip()) {
                *seen_as = SeenAs::Node;
            }
        }
    }
    all
}

type Line = (Option<String>, Packet, Outcome);

fn parse_line(line: &str, stage: &Stage) -> Result<Line, String> {
    let (mode, rest) = match line.strip_prefix('[') {
        Some(rest) => {
            let (mode, rest) = rest.split_once(']').ok_or("no ] after the mode")?;
            (Some(mode.trim().to_owned()), rest.trim())
        }
        None => (None, line),
    };
    let (who, rest) = word(rest);
    let (next, after) = word(rest);
    let (address, rest) = match next.parse::<IpAddr>() {
        Ok(address) => (Some(address), after),
        Err(_) => (None, rest),
    };
    let (protocol, rest) = word(rest);
    let protocol = parse_protocol(protocol)?;
    let (to, rest) = word(rest);
    let to: SocketAddr = to.parse().map_err(|_| format!("not an address and port: {to:?}"))?;
    let from = sender(who, address, Family::of(to.ip()), stage)?;
    Ok((mode, Packet { from, protocol, to }, parse_outcome(rest)?))
}

/// `10.0.0.1:80*2` is an endpoint with two shares. Answers the line without them.
fn parse_shares(line: &str) -> Result<(String, Heavier), String> {
    let mut heavier = Heavier::new();
    let mut plain = String::new();
    for word in line.split_inclusive(char::is_whitespace) {
        let Some((endpoint, times)) = word.split_once('*') else {
            plain.push_str(word);
            continue;
        };
        let digits = times.bytes().take_while(u8::is_ascii_digit).count();
        let (times, rest) = times.split_at(digits);
        let at = endpoint.parse().map_err(|_| format!("not an address and port: {endpoint:?}"))?;
        heavier.insert(at, times.parse().map_err(|_| format!("not a number of shares: {word:?}"))?);
        plain.push_str(endpoint);
        plain.push_str(rest);
    }
    Ok((plain, heavier))
}

/// The first word, and what follows it.
fn word(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

fn parse_protocol(word: &str) -> Result<Protocol, String> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|protocol| protocol.to_string() == word)
        .ok_or_else(|| format!("not TCP, UDP or SCTP: {word:?}"))
}

fn sender(who: &str, address: Option<IpAddr>, family: Family, stage: &Stage) -> Result<Sender, String> {
    if let Some(address) = address.filter(|address| !family.has(address)) {
        return Err(format!("{address} cannot send to the other IP family"));
    }
    match who {
        "pod" => Ok(Sender::Pod(address.unwrap_or(Stage::client_pod(family)))),
        "outside" => Ok(Sender::Outside(address.unwrap_or(Stage::outside_client(family)))),
        "node" => match address.or_else(|| stage.node_address(family)) {
            Some(ip) if ip.is_loopback() || stage.addresses.contains(&ip) => Ok(Sender::Node(ip)),
            Some(ip) => Err(format!("{ip} is not an address of the node")),
            None => Err(format!("the node has no {family} address")),
        },
        _ => Err(format!("not pod, node or outside: {who:?}")),
    }
}

fn parse_outcome(text: &str) -> Result<Outcome, String> {
    match text {
        "dropped" => return Ok(Outcome::Dropped),
        "rejected" => return Ok(Outcome::Rejected),
        "untouched" => return Ok(Outcome::Untouched),
        _ => {}
    }
    let Some(endpoints) = text.strip_prefix("one of ") else {
        return Err(format!("not \"one of …\", dropped, rejected or untouched: {text:?}"));
    };
    let mut parts = endpoints.split(',').map(str::trim);
    let endpoints = parts.next().unwrap_or_default();
    let (mut seen_as, mut next) = (SeenAs::Itself, Next::Anywhere);
    for part in parts {
        match part {
            "masqueraded" => seen_as = SeenAs::Node,
            "kept" => next = Next::Same,
            other => return Err(format!("not masqueraded or kept: {other:?}")),
        }
    }
    let mut to = BTreeMap::new();
    for endpoint in endpoints.split_whitespace() {
        let (address, seen_as) = match endpoint.strip_suffix("(masqueraded)") {
            Some(address) => (address, SeenAs::Node),
            None => (endpoint, seen_as),
        };
        let address: SocketAddr =
            address.parse().map_err(|_| format!("not an address and port: {address:?}"))?;
        if to.insert(address, seen_as).is_some() {
            return Err(format!("{address} stands there twice"));
        }
    }
    if to.is_empty() { Err("one of nothing".to_owned()) } else { Ok(Outcome::Forwarded { to, next }) }
}

#[cfg(test)]
mod tests;
