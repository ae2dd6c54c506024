//! Listeners in rules: the kernel knows them by address and port, we by name.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Match, Protocol, Rule, Rules, Sense, Target};
use crate::listeners::{Key, Transport};

/// Rules as they are written: a listener is where it listens. Gives a listener back that is not known.
pub fn with_numbers(rules: &Rules, at: &dyn Fn(&Key) -> Option<SocketAddr>) -> Result<Rules, Key> {
    rules.iter().map(|rule| numbered(rule, at)).collect()
}

/// Rules as they were read: what leads to where a listener listens leads to the listener.
pub fn with_names(rules: &Rules, of: &dyn Fn(Transport, SocketAddr) -> Option<Key>) -> Rules {
    rules.iter().map(|rule| named(rule, of)).collect()
}

fn numbered(rule: &Rule, at: &dyn Fn(&Key) -> Option<SocketAddr>) -> Result<Rule, Key> {
    let known = |key: &Key| at(key).ok_or_else(|| key.clone());
    let mut matches = Vec::with_capacity(rule.matches.len() + 1);
    for condition in &rule.matches {
        if let Match::Listener(key) = condition {
            let at = known(key)?;
            matches.push(Match::Destination(Sense::Is, IpNet::from(at.ip())));
            matches.push(Match::Transport(protocol(key.transport), Some(at.port())));
        } else {
            matches.push(condition.clone());
        }
    }
    let target = if let Some(Target::Listener(key)) = &rule.target {
        Some(Target::Dnat(known(key)?))
    } else {
        rule.target.clone()
    };
    Ok(Rule::new(matches, target))
}

fn named(rule: &Rule, of: &dyn Fn(Transport, SocketAddr) -> Option<Key>) -> Rule {
    let Some(transport) = rule.protocol().and_then(transport) else { return rule.clone() };
    let forwarded = if let Some(Target::Dnat(at)) = rule.target { of(transport, at) } else { None };
    let target = forwarded.map(Target::Listener).or_else(|| rule.target.clone());
    let ip = rule.matches.iter().find_map(as_address);
    let port = rule.matches.iter().find_map(as_port);
    let listener = ip.zip(port).and_then(|(ip, port)| of(transport, SocketAddr::new(ip, port)));
    let Some(listener) = listener else { return Rule::new(rule.matches.iter().cloned(), target) };
    let others = rule.matches.iter().filter(|condition| as_address(condition).is_none());
    let matches = others.map(|condition| match as_port(condition) {
        Some(_) => Match::Listener(listener.clone()),
        None => condition.clone(),
    });
    Rule::new(matches, target)
}

fn as_address(condition: &Match) -> Option<IpAddr> {
    if let Match::Destination(Sense::Is, range) = condition { single(range) } else { None }
}

fn single(range: &IpNet) -> Option<IpAddr> {
    (range.prefix_len() == range.max_prefix_len()).then(|| range.addr())
}

fn as_port(condition: &Match) -> Option<u16> {
    if let Match::Transport(_, port) = condition { *port } else { None }
}

fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    }
}

fn transport(protocol: Protocol) -> Option<Transport> {
    match protocol {
        Protocol::Tcp => Some(Transport::Tcp),
        Protocol::Udp => Some(Transport::Udp),
        Protocol::Sctp => None,
    }
}

#[cfg(test)]
mod tests;
