//! Whether the conditions of a rule hold for a packet.

use kernel_state::xtables::{ConnectionStates, Match, Probability, Rule, Sense};

use super::{Sets, Walk};
use crate::{Host, Puzzle};

/// Whether they hold.
pub(super) enum Holds<'a> {
    /// They do, for sure.
    Yes(Walk<'a>),
    /// They do not, for sure.
    No,
    /// Chance or a memory of the kernel decides.
    Maybe {
        /// The walk if they do.
        met: Walk<'a>,
        /// The walk if they do not.
        missed: Walk<'a>,
    },
}

/// One condition.
enum Condition {
    Met,
    Missed,
    /// With this likelihood for a client that nobody knows.
    Uncertain(f64),
    Unknown,
}

/// Tries a rule's conditions. What is not understood matters only where all else holds.
pub(super) fn holds<'a>(rule: &Rule, walk: &Walk<'a>, host: &Host, sets: &Sets) -> Result<Holds<'a>, Puzzle> {
    let (mut met, mut missed) = (walk.clone(), walk.clone());
    let mut likelihood: Option<f64> = None;
    let mut unknown = false;
    for condition in rule.matches() {
        match tried(condition, walk, host, sets) {
            Condition::Met => {}
            Condition::Missed => return Ok(Holds::No),
            Condition::Uncertain(chance) => likelihood = Some(likelihood.unwrap_or(1.0) * chance),
            Condition::Unknown => unknown = true,
        }
        match condition {
            Match::RecentlySeen(list, _) => {
                met.asked.insert(**list);
                missed.asked.insert(**list);
            }
            Match::SetSeen(list) => {
                met.noted.insert(**list);
            }
            Match::Source(..)
            | Match::Destination(..)
            | Match::InInterface(..)
            | Match::Protocol(_)
            | Match::Comment(_)
            | Match::Transport(..)
            | Match::Mark(..)
            | Match::ConnectionState(..)
            | Match::SourceIsLocal
            | Match::DestinationIsLocal
            | Match::TransparentSocket
            | Match::Probability(_)
            | Match::Listener(_)
            | Match::Set(..)
            | Match::Other(_) => {}
        }
    }
    if unknown {
        return Err(Puzzle::UnknownRule(rule.to_string().trim().to_owned()));
    }
    let Some(likelihood) = likelihood else { return Ok(Holds::Yes(met)) };
    met.share *= likelihood;
    missed.share *= 1.0 - likelihood;
    Ok(Holds::Maybe { met, missed })
}

fn tried(condition: &Match, walk: &Walk<'_>, host: &Host, sets: &Sets) -> Condition {
    let holds = match condition {
        Match::Source(sense, range) => is(*sense, range.contains(&walk.source)),
        Match::Destination(sense, range) => is(*sense, range.contains(&walk.destination.ip())),
        Match::InInterface(sense, name) => is(*sense, interface_is(name, walk.interface)),
        Match::Protocol(protocol) => *protocol == walk.protocol,
        Match::Comment(_) | Match::SetSeen(_) => true,
        Match::Transport(protocol, port) => {
            *protocol == walk.protocol && port.is_none_or(|port| port == walk.destination.port())
        }
        Match::Mark(sense, value, mask) => is(*sense, walk.mark & mask == *value),
        Match::ConnectionState(sense, states) => is(*sense, has_state(*states, walk)),
        Match::SourceIsLocal => host.has(&walk.source),
        Match::DestinationIsLocal => host.has(&walk.destination.ip()),
        // What asks has no socket here yet.
        Match::TransparentSocket => false,
        Match::Probability(probability) => return chance(*probability),
        // A client that nobody knows is on no list.
        Match::RecentlySeen(..) => return Condition::Uncertain(0.0),
        Match::Listener(key) => walk.listener.as_ref() == Some(key),
        Match::Set(name, directions) => match sets.holds(name, directions, walk) {
            Some(holds) => holds,
            None => return Condition::Unknown,
        },
        Match::Other(_) => return Condition::Unknown,
    };
    if holds { Condition::Met } else { Condition::Missed }
}

fn is(sense: Sense, holds: bool) -> bool {
    match sense {
        Sense::Is => holds,
        Sense::Not => !holds,
    }
}

/// The first packet of a connection is new, and its destination may have been rewritten already.
fn has_state(states: ConnectionStates, walk: &Walk<'_>) -> bool {
    states.contains(ConnectionStates::NEW) || (walk.forwarded && states.contains(ConnectionStates::DNAT))
}

/// A name that ends in `+` is a prefix; a packet of the node itself has the empty name.
fn interface_is(wanted: &str, interface: Option<&str>) -> bool {
    let interface = interface.unwrap_or_default();
    match wanted.strip_suffix('+') {
        Some(prefix) => interface.starts_with(prefix),
        None => interface == wanted,
    }
}

fn chance(probability: Probability) -> Condition {
    match probability.as_fraction() {
        0.0 => Condition::Missed,
        1.0 => Condition::Met,
        fraction => Condition::Uncertain(fraction),
    }
}
