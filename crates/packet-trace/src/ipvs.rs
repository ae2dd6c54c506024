//! What virtual servers, and the rules around them, do to a packet.
//!
//! ```text
//! pod, outside ─▶ nat PREROUTING ─▶ filter INPUT ─▶ virtual server ─┬▶ filter OUTPUT ─▶ nat POSTROUTING
//! node ─▶ mangle OUTPUT ─▶ nat OUTPUT ─▶ virtual server ────────────┘  (an endpoint elsewhere)
//! ```
//! An endpoint in the node's own network is delivered to where the packet stands. What no virtual server takes goes
//! the way that [`crate::xtables`] draws.

use std::net::SocketAddr;

use kernel_state::ipset::Ipset;
use kernel_state::ipvs::{Ipvs, IpvsState, Key, Server, Value};
use kernel_state::links::{self, Links};
use kernel_state::xtables::{Table, Xtables, XtablesState};
use kernel_state::{State, Sum};

use crate::ways::joined;
use crate::xtables::{End, RuleReader, Sets, Ways, outcome};
use crate::{Host, Next, Outcome, Packet, Puzzle, Sender};

/// Sets, virtual servers, rules and addresses.
type Objects = Sum<Ipset, Sum<Ipvs, Sum<Xtables, Links>>>;

/// The virtual servers of one IP family, with the rules around them.
#[derive(Debug)]
pub struct ServerReader {
    sets: State<Ipset>,
    servers: IpvsState,
    rules: XtablesState,
    host: Host,
}

/// What a virtual server did.
struct Taken<'a> {
    ways: Ways<'a>,
    next: Next,
}

impl ServerReader {
    /// Reads a state. The addresses of its links are the node's own, too.
    pub fn new(state: &State<Objects>, host: &Host) -> Self {
        let (sets, rest) = state.parts();
        let (servers, rest) = rest.parts();
        let (rules, addresses) = rest.parts();
        let mut host = host.clone();
        host.addresses.extend(addresses.iter().filter_map(|(key, _)| match key {
            links::Key::Address(_, ip) => Some(*ip),
            links::Key::Link(_) => None,
        }));
        Self { sets, servers, rules, host }
    }

    /// What happens to a packet.
    pub fn outcome(&self, packet: &Packet) -> Result<Outcome, Puzzle> {
        let reader = RuleReader::new(&self.rules, &self.host).with_sets(Sets::of(&self.sets));
        let start = vec![(reader.start(packet), End::Accepted)];
        let to_node = self.host.has(&packet.to.ip());
        let taken = match packet.from {
            Sender::Node(_) => {
                let ways = hooks(&reader, start, &[(Table::Mangle, "OUTPUT"), (Table::Nat, "OUTPUT")])?;
                let rest: &[(Table, &str)] = if to_node {
                    &[(Table::Filter, "OUTPUT"), (Table::Nat, "POSTROUTING"), (Table::Filter, "INPUT")]
                } else {
                    &[(Table::Filter, "OUTPUT"), (Table::Nat, "POSTROUTING")]
                };
                let here = [(Table::Filter, "OUTPUT"), (Table::Nat, "POSTROUTING"), (Table::Filter, "INPUT")];
                self.taken(&reader, ways, &here, rest)?
            }
            Sender::Pod(_) | Sender::Outside(_) => {
                let ways = hooks(&reader, start, &[(Table::Nat, "PREROUTING")])?;
                if to_node {
                    let ways = hooks(&reader, ways, &[(Table::Filter, "INPUT")])?;
                    self.taken(&reader, ways, &[], &[])?
                } else {
                    let through = [(Table::Filter, "FORWARD"), (Table::Nat, "POSTROUTING")];
                    Taken { ways: hooks(&reader, ways, &through)?, next: Next::Anywhere }
                }
            }
        };
        let mut outcomes = taken.ways.into_iter().map(|(walk, end)| outcome(&walk, end));
        // A packet is never without a way: each hook hands on what it is given.
        let first = outcomes.next().unwrap_or(Ok(Outcome::Untouched))?;
        let joined = outcomes.try_fold(first, |before, way| joined(before, way?))?;
        Ok(match joined {
            Outcome::Forwarded { to, .. } => Outcome::Forwarded { to, next: taken.next },
            Outcome::Dropped | Outcome::Rejected | Outcome::Untouched => joined,
        })
    }

    /// The ways behind the virtual servers: of what one took for an endpoint in the node's own network, of what one
    /// took for an endpoint elsewhere, and of what none took.
    fn taken<'a>(
        &self,
        reader: &RuleReader<'a>,
        ways: Ways<'a>,
        here: &[(Table, &str)],
        rest: &[(Table, &str)],
    ) -> Result<Taken<'a>, Puzzle> {
        let mut taken = Taken { ways: Vec::new(), next: Next::Anywhere };
        for (walk, end) in ways {
            let server = Server { protocol: walk.protocol, at: walk.destination };
            let Some(Value::Server(service)) = self.servers.get(&Key::Server(server)) else {
                taken.ways.extend(hooks(reader, vec![(walk, end)], rest)?);
                continue;
            };
            if end != End::Accepted {
                taken.ways.push((walk, end));
                continue;
            }
            if service.persistence.is_some() {
                taken.next = Next::Same;
            }
            let endpoints = self.endpoints(server);
            if endpoints.is_empty() {
                taken.ways.push((walk, End::Rejected));
                continue;
            }
            for destination in endpoints {
                let walk = walk.forwarded_to(destination);
                let elsewhere =
                    [(Table::Mangle, "OUTPUT"), (Table::Filter, "OUTPUT"), (Table::Nat, "POSTROUTING")];
                let next = if self.host.has(&destination.ip()) { here } else { &elsewhere };
                taken.ways.extend(hooks(reader, vec![(walk, end)], next)?);
            }
        }
        Ok(taken)
    }

    /// The real servers that take new connections.
    fn endpoints(&self, server: Server) -> Vec<SocketAddr> {
        let first = Key::Destination(server, SocketAddr::from(([0, 0, 0, 0], 0)));
        let behind = self.servers.iter_from(&first);
        behind
            .map_while(|(key, value)| match (key, value) {
                (Key::Destination(of, at), Value::Destination(to)) if *of == server => Some((*at, to.weight)),
                _ => None,
            })
            .filter_map(|(at, weight)| (weight > 0).then_some(at))
            .collect()
    }
}

fn hooks<'a>(reader: &RuleReader<'a>, ways: Ways<'a>, hooks: &[(Table, &str)]) -> Result<Ways<'a>, Puzzle> {
    hooks.iter().try_fold(ways, |ways, (table, chain)| reader.hook(*table, chain, ways))
}

#[cfg(test)]
mod tests;
