//! What one statement of a rule does to a packet.

use std::net::{IpAddr, SocketAddr};

use kernel_state::nft::{Data, Field, Name, Sense, Statement, Tuple, Verdict};

use super::{End, TableReader, Walk};
use crate::Puzzle;

/// Where a statement leaves a packet.
pub(super) enum Step<'a> {
    /// The next statement follows.
    On(Walk<'a>),
    /// The rule, or more, has ended.
    Ended(Walk<'a>, End),
    /// A verdict says.
    Verdict(Walk<'a>, &'a Verdict),
}

impl<'a> TableReader<'a> {
    /// All that may happen at a statement.
    pub(super) fn statement(
        &self,
        statement: &'a Statement,
        walk: Walk<'a>,
    ) -> Result<Vec<Step<'a>>, Puzzle> {
        let holds = match statement {
            Statement::Within(field, sense, range) => {
                is(*sense, address(*field, &walk).is_some_and(|address| range.contains(&address)))
            }
            Statement::InInterface(sense, name) => is(*sense, interface_is(name, walk.interface)),
            // What is followed is the first packet of a connection.
            Statement::New => true,
            Statement::Translated => walk.forwarded,
            Statement::Protocol(protocol) => *protocol == walk.protocol,
            Statement::SourceIsLocal => self.host.has(&walk.source),
            Statement::DestinationIsLocal => self.host.has(&walk.destination.ip()),
            Statement::OnceIn(number) => return Ok(by_chance(walk, *number)),
            Statement::In(fields, sense, set) if self.memories.contains(&**set) => {
                return Ok(remembered(fields, *sense, set, walk));
            }
            Statement::In(fields, sense, set) => is(*sense, self.holds(fields, set, &walk)),
            Statement::Vmap(fields, map) => {
                return Ok(vec![match tuple(fields, &walk, 0).and_then(|tuple| self.data(map, &tuple)) {
                    Some(Data::Verdict(verdict)) => Step::Verdict(walk, verdict),
                    Some(Data::Nothing | Data::Endpoint(..)) | None => Step::Ended(walk, End::OfRule),
                }]);
            }
            Statement::DnatByMap(fields, map) => return Ok(self.endpoints(fields, map, &walk)),
            Statement::Dnat(address, port) => {
                return Ok(vec![forwarded(walk, SocketAddr::new(*address, *port))]);
            }
            Statement::Masquerade => {
                return Ok(vec![Step::Ended(Walk { masqueraded: true, ..walk }, End::Accepted)]);
            }
            Statement::Remember(set) => {
                let mut walk = walk;
                walk.noted.insert(set.clone());
                return Ok(vec![Step::On(walk)]);
            }
            Statement::End(verdict) => return Ok(vec![Step::Verdict(walk, verdict)]),
            Statement::Reject => return Ok(vec![Step::Ended(walk, End::Rejected)]),
            Statement::Foreign => return Err(Puzzle::UnknownRule("a rule of somebody else".to_owned())),
        };
        Ok(vec![if holds { Step::On(walk) } else { Step::Ended(walk, End::OfRule) }])
    }

    fn holds(&self, fields: &[Field], set: &str, walk: &Walk<'_>) -> bool {
        if let [Field::Destination, Field::Protocol, Field::Port, Field::Source] = fields {
            let among = self.sets.get(set).into_iter().flatten();
            return among.into_iter().any(|(tuple, _)| is_in_range(tuple, walk));
        }
        tuple(fields, walk, 0).is_some_and(|tuple| self.data(set, &tuple).is_some())
    }

    fn data(&self, set: &str, tuple: &Tuple) -> Option<&'a Data> {
        self.sets.get(set)?.get(tuple).copied()
    }

    /// One way for each number that may be drawn.
    fn endpoints(&self, fields: &[Field], map: &str, walk: &Walk<'a>) -> Vec<Step<'a>> {
        let size =
            fields.iter().find_map(|field| if let Field::Slot(size) = field { Some(*size) } else { None });
        let size = size.unwrap_or(1);
        let way = |slot| {
            let walk = Walk { share: walk.share / f64::from(size), ..walk.clone() };
            match tuple(fields, &walk, slot).and_then(|tuple| self.data(map, &tuple)) {
                Some(Data::Endpoint(address, port)) => forwarded(walk, SocketAddr::new(*address, *port)),
                Some(Data::Nothing | Data::Verdict(_)) | None => Step::Ended(walk, End::OfRule),
            }
        };
        (0..size).map(way).collect()
    }
}

/// A client that nobody knows is in no memory; but it asks, and would be known the next time.
fn remembered<'a>(fields: &[Field], sense: Sense, set: &Name, mut walk: Walk<'a>) -> Vec<Step<'a>> {
    walk.asked.insert(set.clone());
    if fields != [Field::Source] || sense == Sense::Not {
        return vec![Step::Ended(walk, End::OfRule)];
    }
    let known = Walk { share: 0.0, ..walk.clone() };
    vec![Step::On(known), Step::Ended(walk, End::OfRule)]
}

fn by_chance(walk: Walk<'_>, number: u32) -> Vec<Step<'_>> {
    let share = walk.share / f64::from(number);
    let hit = Walk { share, ..walk.clone() };
    let missed = Walk { share: walk.share - share, ..walk };
    if number == 1 { vec![Step::On(hit)] } else { vec![Step::On(hit), Step::Ended(missed, End::OfRule)] }
}

fn forwarded(walk: Walk<'_>, to: SocketAddr) -> Step<'_> {
    Step::Ended(Walk { destination: to, forwarded: true, ..walk }, End::Accepted)
}

fn is(sense: Sense, holds: bool) -> bool {
    match sense {
        Sense::Is => holds,
        Sense::Not => !holds,
    }
}

fn address(field: Field, walk: &Walk<'_>) -> Option<IpAddr> {
    match field {
        Field::Source => Some(walk.source),
        Field::Destination => Some(walk.destination.ip()),
        Field::OriginalDestination => Some(walk.original.ip()),
        Field::Protocol | Field::Port | Field::OriginalPort | Field::Slot(_) => None,
    }
}

/// A name that ends in `*` is a prefix; a packet of the node itself has the empty name.
fn interface_is(wanted: &str, interface: Option<&str>) -> bool {
    let interface = interface.unwrap_or_default();
    match wanted.strip_suffix('*') {
        Some(prefix) => interface.starts_with(prefix),
        None => interface == wanted,
    }
}

/// The packet's fields, with a number that was drawn.
fn tuple(fields: &[Field], walk: &Walk<'_>, slot: u32) -> Option<Tuple> {
    let (now, before, protocol) = (walk.destination, walk.original, walk.protocol);
    Some(match fields {
        [one] => Tuple::Address(address(*one, walk)?),
        [Field::Source, Field::Destination] => Tuple::Pair(walk.source, now.ip()),
        [Field::Protocol, Field::Port] => Tuple::Port(protocol, now.port()),
        [Field::Protocol, Field::OriginalPort] => Tuple::Port(protocol, before.port()),
        [Field::Protocol, Field::Port, Field::Slot(_)] => Tuple::PortSlot(protocol, now.port(), slot),
        [Field::Destination, Field::Protocol, Field::Port] => Tuple::Socket(now.ip(), protocol, now.port()),
        [Field::OriginalDestination, Field::Protocol, Field::OriginalPort] => {
            Tuple::Socket(before.ip(), protocol, before.port())
        }
        [Field::Destination, Field::Protocol, Field::Port, Field::Slot(_)] => {
            Tuple::SocketSlot(now.ip(), protocol, now.port(), slot)
        }
        _ => return None,
    })
}

fn is_in_range(tuple: &Tuple, walk: &Walk<'_>) -> bool {
    let Tuple::SocketRange(address, protocol, port, range) = tuple else { return false };
    SocketAddr::new(*address, *port) == walk.destination
        && *protocol == walk.protocol
        && range.contains(&walk.source)
}
