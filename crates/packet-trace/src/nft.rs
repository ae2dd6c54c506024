//! What an nftables table does to a packet: it is followed as the kernel follows it, hook by hook.
//!
//! ```text
//! pod, outside ─▶ prerouting ─▶ routing ─┬▶ input
//!                                        └▶ forward ─▶ postrouting
//! node ─▶ output ─▶ postrouting ─▶ (to itself: input)
//! ```
//! What arrives at a listener of ours is sent on by the relay.
//! Where chance or a memory of the kernel decides, all ways are followed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kernel_state::listeners::{self, Listener, ListenersState, Transport};
use kernel_state::nft::{
    Chain, Data, HookPoint, Name, NftState, Object, Protocol, Rule, SetSpec, Statement, Tuple, Value, Verdict,
};

use crate::ways::{Arrived, joined, relayed};
use crate::{Host, Outcome, Packet, Puzzle, SeenAs, Sender};

mod statements;

use statements::Step;

/// The table of one IP family.
#[derive(Debug)]
pub struct TableReader<'a> {
    chains: BTreeMap<&'a str, &'a Chain>,
    sets: BTreeMap<&'a str, Elements<'a>>,
    /// Sets that packets put their sources into.
    memories: BTreeSet<&'a str>,
    listeners: BTreeMap<&'a listeners::Key, &'a Listener>,
    host: &'a Host,
}

type Elements<'a> = BTreeMap<&'a Tuple, &'a Data>;

/// A packet on its way.
#[derive(Clone, Debug)]
struct Walk<'a> {
    source: IpAddr,
    destination: SocketAddr,
    /// Where it was sent, whatever became of it.
    original: SocketAddr,
    protocol: Protocol,
    interface: Option<&'a str>,
    forwarded: bool,
    masqueraded: bool,
    /// Memories that were asked, and those that it was put into.
    asked: BTreeSet<Name>,
    noted: BTreeSet<Name>,
    /// How likely it is that a client that nobody knows goes this way.
    share: f64,
}

/// Where a step of a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Behind a rule; the next one follows.
    OfRule,
    /// Behind a chain; the chain that jumped to it goes on.
    OfChain,
    Accepted,
    Dropped,
    Rejected,
}

type Ways<'a> = Vec<(Walk<'a>, End)>;

/// No table of ours is deeper, and none branches more often.
const DEEPEST: usize = 16;
const MOST_WAYS: usize = 100_000;

impl<'a> TableReader<'a> {
    /// Reads a table.
    pub fn new(state: &'a NftState, host: &'a Host) -> Self {
        let mut reader = Self {
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
            memories: BTreeSet::new(),
            listeners: BTreeMap::new(),
            host,
        };
        for (key, value) in state.iter() {
            match (&key.object, value) {
                (Object::Chain(name), Value::Chain(chain)) => {
                    reader.chains.insert(name, chain);
                }
                (Object::Set(name), Value::Set(SetSpec::Remembered { .. })) => {
                    reader.memories.insert(name);
                }
                (Object::Element(set, tuple), Value::Element(data)) => {
                    reader.sets.entry(set).or_default().insert(tuple, data);
                }
                (Object::Table | Object::Set(_) | Object::Chain(_) | Object::Element(..), _) => {}
            }
        }
        reader
    }

    /// Reads also where listeners are, and where they lead.
    #[must_use]
    pub fn with_listeners(mut self, state: &'a ListenersState) -> Self {
        self.listeners.extend(state.iter());
        self
    }

    /// What happens to a packet.
    pub fn outcome(&self, packet: &Packet) -> Result<Outcome, Puzzle> {
        let mut ways = self.ways(packet)?.into_iter().map(|(walk, end)| outcome(&walk, end));
        // A packet is never without a way: each hook hands on what it is given.
        let first = ways.next().unwrap_or(Ok(Outcome::Untouched))?;
        let outcome = ways.try_fold(first, |before, way| joined(before, way?))?;
        let listener = self.listener(packet).filter(|_| outcome == Outcome::Untouched);
        Ok(listener.map_or(outcome, |listener| relayed(listener, |_| SeenAs::Node)))
    }

    /// Who listens where a packet was sent, if the node has that address.
    fn listener(&self, packet: &Packet) -> Option<&'a Listener> {
        let transport = match packet.protocol {
            service_plan::Protocol::Tcp => Transport::Tcp,
            service_plan::Protocol::Udp => Transport::Udp,
            service_plan::Protocol::Sctp => return None,
        };
        let key = listeners::Key::at(packet.to, transport);
        self.listeners.get(&key).copied().filter(|_| self.host.has(&packet.to.ip()))
    }

    /// How likely each endpoint is to get the packet of a client that is not remembered.
    pub fn shares(&self, packet: &Packet) -> Result<BTreeMap<SocketAddr, f64>, Puzzle> {
        let mut shares = BTreeMap::new();
        for (walk, _) in self.ways(packet)?.into_iter().filter(|(walk, _)| walk.forwarded) {
            *shares.entry(walk.destination).or_default() += walk.share;
        }
        // A way that chance never takes gives nobody a share.
        shares.retain(|_, share| *share > 0.0);
        Ok(shares)
    }

    /// All ways that the packet may go.
    fn ways(&self, packet: &Packet) -> Result<Ways<'a>, Puzzle> {
        let walk = Walk {
            source: packet.from.ip(),
            destination: packet.to,
            original: packet.to,
            protocol: protocol(packet.protocol),
            interface: self.host.interface_of(packet.from),
            forwarded: false,
            masqueraded: false,
            asked: BTreeSet::new(),
            noted: BTreeSet::new(),
            share: 1.0,
        };
        let is_node = matches!(packet.from, Sender::Node(_));
        let entrance = if is_node { HookPoint::Output } else { HookPoint::Prerouting };
        let mut ended = Vec::new();
        for way in self.hook(entrance, vec![(walk, End::Accepted)])? {
            let to_node = self.host.has(&way.0.destination.ip());
            let hooks: &[HookPoint] = match (is_node, to_node) {
                (true, false) => &[HookPoint::Postrouting],
                (true, true) => &[HookPoint::Postrouting, HookPoint::Input],
                (false, true) => &[HookPoint::Input],
                (false, false) => &[HookPoint::Forward, HookPoint::Postrouting],
            };
            ended.extend(hooks.iter().try_fold(vec![way], |ways, point| self.hook(*point, ways))?);
        }
        Ok(ended)
    }

    /// What is left of the ways after a hook: those that ended before it are as they were.
    fn hook(&self, point: HookPoint, ways: Ways<'a>) -> Result<Ways<'a>, Puzzle> {
        let at_point = |(name, chain): (&&'a str, &&'a Chain)| {
            chain.hook.filter(|hook| hook.at == point).map(|hook| (hook.priority, *name, *chain))
        };
        let mut chains: Vec<_> = self.chains.iter().filter_map(at_point).collect();
        chains.sort_by_key(|(priority, name, _)| (*priority, *name));
        let mut ways = ways;
        for (_, name, chain) in chains {
            let mut after = Vec::new();
            for (mut walk, end) in ways {
                if end != End::Accepted {
                    after.push((walk, end));
                    continue;
                }
                if point == HookPoint::Input && walk.interface.is_none() {
                    walk.interface = Some("lo");
                }
                // The policy of base chains is to accept.
                let policy = |end| if end == End::OfChain { End::Accepted } else { end };
                let ended = self.follow(name, &chain.rules, walk, 0)?;
                after.extend(ended.into_iter().map(|(walk, end)| (walk, policy(end))));
            }
            ways = after;
        }
        Ok(ways)
    }

    fn follow(
        &self,
        chain: &str,
        rules: &'a [Rule],
        walk: Walk<'a>,
        depth: usize,
    ) -> Result<Ways<'a>, Puzzle> {
        let mut ended: Ways<'a> = Vec::new();
        let mut on_the_way = vec![walk];
        for rule in rules {
            let mut ways = Vec::new();
            for walk in on_the_way {
                ways.extend(self.rule(&rule.statements, walk, depth)?);
            }
            let (past, out): (Ways<'a>, Ways<'a>) = ways.into_iter().partition(|way| way.1 == End::OfRule);
            ended.extend(out);
            on_the_way = past.into_iter().map(|(walk, _)| walk).collect();
            if ended.len() + on_the_way.len() > MOST_WAYS {
                return Err(Puzzle::Endless(chain.to_owned()));
            }
        }
        ended.extend(on_the_way.into_iter().map(|walk| (walk, End::OfChain)));
        Ok(ended)
    }

    /// A rule's statements, one after another, as long as each holds.
    fn rule(&self, statements: &'a [Statement], walk: Walk<'a>, depth: usize) -> Result<Ways<'a>, Puzzle> {
        let mut ended = Vec::new();
        let mut on_the_way = vec![walk];
        for statement in statements {
            let mut past = Vec::new();
            for walk in on_the_way {
                for step in self.statement(statement, walk)? {
                    match step {
                        Step::On(walk) => past.push(walk),
                        Step::Ended(walk, end) => ended.push((walk, end)),
                        Step::Verdict(walk, verdict) => ended.extend(self.verdict(verdict, walk, depth)?),
                    }
                }
            }
            on_the_way = past;
        }
        ended.extend(on_the_way.into_iter().map(|walk| (walk, End::OfRule)));
        Ok(ended)
    }

    fn verdict(&self, verdict: &'a Verdict, walk: Walk<'a>, depth: usize) -> Result<Ways<'a>, Puzzle> {
        let (chain, after) = match verdict {
            Verdict::Accept => return Ok(vec![(walk, End::Accepted)]),
            Verdict::Drop => return Ok(vec![(walk, End::Dropped)]),
            Verdict::Return => return Ok(vec![(walk, End::OfChain)]),
            Verdict::Jump(chain) => (chain, End::OfRule),
            Verdict::Goto(chain) => (chain, End::OfChain),
        };
        if depth > DEEPEST {
            return Err(Puzzle::Endless(chain.to_string()));
        }
        let rules = self.chains.get(&**chain).map(|chain| &*chain.rules).ok_or_else(|| {
            Puzzle::NoSuchChain { table: kernel_state::nft::TABLE, chain: chain.to_string() }
        })?;
        let back = |end| if end == End::OfChain { after } else { end };
        let ways = self.follow(chain, rules, walk, depth + 1)?;
        Ok(ways.into_iter().map(|(walk, end)| (walk, back(end))).collect())
    }
}

/// What a walk came to.
fn outcome(walk: &Walk<'_>, end: End) -> Result<Outcome, Puzzle> {
    match end {
        End::Dropped => Ok(Outcome::Dropped),
        End::Rejected => Ok(Outcome::Rejected),
        End::Accepted | End::OfChain | End::OfRule => Arrived {
            at: walk.forwarded.then_some(walk.destination),
            masqueraded: walk.masqueraded,
            // It comes here again if it was put into a memory that is asked before chance is.
            remembered: !walk.noted.is_empty() && walk.noted.is_subset(&walk.asked),
        }
        .outcome(),
    }
}

fn protocol(protocol: service_plan::Protocol) -> Protocol {
    match protocol {
        service_plan::Protocol::Tcp => Protocol::TCP,
        service_plan::Protocol::Udp => Protocol::UDP,
        service_plan::Protocol::Sctp => Protocol::SCTP,
    }
}

#[cfg(test)]
mod tests;
