//! What iptables rules do to a packet: they are followed as the kernel follows them, hook by hook.
//!
//! ```text
//! pod, outside ─▶ nat PREROUTING ─▶ routing ─┬▶ filter INPUT
//!                                            └▶ filter FORWARD ─▶ nat POSTROUTING
//! node ─▶ nat OUTPUT ─▶ filter OUTPUT ─▶ nat POSTROUTING ─▶ (to itself: filter INPUT)
//! ```
//! What is sent to a listener ends there, and the relay sends on to its endpoints in the node's name.
//! Where chance or a memory of the kernel decides, both ways are followed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kernel_state::listeners::{self, Caller, Listener, ListenersState};
use kernel_state::xtables::{ChainName, Protocol, Rule, Table, Target, XtablesState};

use crate::ways::{Arrived, joined, relayed};
use crate::{Host, Outcome, Packet, Puzzle, SeenAs, Sender};

mod conditions;
mod sets;

use conditions::{Holds, holds};
pub(crate) use sets::Sets;

/// The rules of one IP family.
#[derive(Debug)]
pub struct RuleReader<'a> {
    chains: BTreeMap<(Table, ChainName), Vec<&'a Rule>>,
    listeners: BTreeMap<&'a listeners::Key, &'a Listener>,
    sets: Sets,
    host: &'a Host,
}

/// A packet on its way.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'a> {
    source: IpAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) protocol: Protocol,
    interface: Option<&'a str>,
    mark: u32,
    /// It was redirected to this one.
    listener: Option<listeners::Key>,
    /// Its destination was rewritten.
    forwarded: bool,
    masqueraded: bool,
    /// Lists of recent clients that were asked, and those that it was put on.
    asked: BTreeSet<ChainName>,
    noted: BTreeSet<ChainName>,
    /// How likely it is that a client that nobody knows goes this way.
    share: f64,
}

impl Walk<'_> {
    /// The same packet after its destination was rewritten.
    pub(crate) fn forwarded_to(&self, destination: SocketAddr) -> Self {
        Self { destination, forwarded: true, ..self.clone() }
    }
}

/// Where a step of a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Behind a rule; the next one follows.
    OfRule,
    /// Behind a chain; the chain that jumped to it goes on.
    OfChain,
    Accepted,
    Dropped,
    Rejected,
}

pub(crate) type Ways<'a> = Vec<(Walk<'a>, End)>;

/// No table of ours is deeper, and none branches more often.
const DEEPEST: usize = 16;
const MOST_WAYS: usize = 100_000;

impl<'a> RuleReader<'a> {
    /// Reads a state's rules.
    pub fn new(state: &'a XtablesState, host: &'a Host) -> Self {
        let mut chains: BTreeMap<_, Vec<&Rule>> = BTreeMap::new();
        for (key, rules) in state.iter() {
            chains.entry((key.table, key.chain)).or_default().extend(rules.iter());
        }
        Self { chains, listeners: BTreeMap::new(), sets: Sets::default(), host }
    }

    /// Reads also where listeners lead that rules name.
    #[must_use]
    pub fn with_listeners(mut self, state: &'a ListenersState) -> Self {
        self.listeners.extend(state.iter());
        self
    }

    /// Reads also the sets that rules match against.
    pub(crate) fn with_sets(mut self, sets: Sets) -> Self {
        self.sets = sets;
        self
    }

    /// What happens to a packet.
    pub fn outcome(&self, packet: &Packet) -> Result<Outcome, Puzzle> {
        let mut ways = self.ways(packet)?.into_iter().map(|(walk, end)| self.outcome_of(&walk, end));
        // A packet is never without a way: each hook hands on what it is given.
        let first = ways.next().unwrap_or(Ok(Outcome::Untouched))?;
        ways.try_fold(first, |before, way| joined(before, way?))
    }

    /// How likely each endpoint is to get the packet of a client that is not remembered.
    pub fn shares(&self, packet: &Packet) -> Result<BTreeMap<SocketAddr, f64>, Puzzle> {
        let mut shares = BTreeMap::new();
        for (walk, _) in self.ways(packet)?.into_iter().filter(|(walk, _)| walk.forwarded) {
            *shares.entry(walk.destination).or_default() += walk.share;
        }
        Ok(shares)
    }

    /// The packet before any rule has seen it.
    pub(crate) fn start(&self, packet: &Packet) -> Walk<'a> {
        Walk {
            source: packet.from.ip(),
            destination: packet.to,
            protocol: protocol(packet.protocol),
            interface: self.host.interface_of(packet.from),
            mark: 0,
            listener: None,
            forwarded: false,
            masqueraded: false,
            asked: BTreeSet::new(),
            noted: BTreeSet::new(),
            share: 1.0,
        }
    }

    /// All ways that the packet may go.
    fn ways(&self, packet: &Packet) -> Result<Ways<'a>, Puzzle> {
        let walk = self.start(packet);
        let is_node = matches!(packet.from, Sender::Node(_));
        let entrance = if is_node { "OUTPUT" } else { "PREROUTING" };
        let ways = self.hook(Table::Nat, entrance, vec![(walk, End::Accepted)])?;
        let mut ended = Vec::new();
        for way in ways {
            let to_node = self.host.has(&way.0.destination.ip());
            let hooks: &[(Table, &str)] = match (is_node, to_node) {
                (true, false) => &[(Table::Filter, "OUTPUT"), (Table::Nat, "POSTROUTING")],
                (true, true) => {
                    &[(Table::Filter, "OUTPUT"), (Table::Nat, "POSTROUTING"), (Table::Filter, "INPUT")]
                }
                (false, true) => &[(Table::Filter, "INPUT")],
                (false, false) => &[(Table::Filter, "FORWARD"), (Table::Nat, "POSTROUTING")],
            };
            let through = |ways, (table, chain): &(Table, &str)| self.hook(*table, chain, ways);
            ended.extend(hooks.iter().try_fold(vec![way], through)?);
        }
        Ok(ended)
    }

    /// What is left of the ways after a hook: those that ended before it are as they were.
    pub(crate) fn hook(&self, table: Table, chain: &str, ways: Ways<'a>) -> Result<Ways<'a>, Puzzle> {
        let name = ChainName::new(chain).ok_or_else(|| Puzzle::Endless(chain.to_owned()))?;
        let mut after = Vec::new();
        for (mut walk, end) in ways {
            if end != End::Accepted {
                after.push((walk, end));
                continue;
            }
            if chain == "INPUT" && walk.interface.is_none() {
                walk.interface = Some("lo");
            }
            // The policy of built-in chains is to accept.
            let policy = |end| if end == End::OfChain { End::Accepted } else { end };
            let rules = self.chains.get(&(table, name)).map_or(&[][..], Vec::as_slice);
            let ended = self.follow(table, name, rules, walk, 0)?;
            after.extend(ended.into_iter().map(|(walk, end)| (walk, policy(end))));
        }
        Ok(after)
    }

    fn follow(
        &self,
        table: Table,
        chain: ChainName,
        rules: &[&Rule],
        walk: Walk<'a>,
        depth: usize,
    ) -> Result<Ways<'a>, Puzzle> {
        let mut ended: Ways<'a> = Vec::new();
        let mut on_the_way = vec![walk];
        for rule in rules {
            let mut past = Vec::new();
            for walk in on_the_way {
                let (meets, misses) = self.split(walk, rule)?;
                past.extend(misses);
                let Some(walk) = meets else { continue };
                let ways = self.target(table, rule, walk, depth)?;
                let (next, out): (Ways<'a>, Ways<'a>) =
                    ways.into_iter().partition(|way| way.1 == End::OfRule);
                past.extend(next.into_iter().map(|(walk, _)| walk));
                ended.extend(out);
            }
            on_the_way = past;
            if ended.len() + on_the_way.len() > MOST_WAYS {
                return Err(Puzzle::Endless(chain.to_string()));
            }
        }
        ended.extend(on_the_way.into_iter().map(|walk| (walk, End::OfChain)));
        Ok(ended)
    }

    /// The walk that meets a rule's conditions, and the one that does not.
    fn split(&self, walk: Walk<'a>, rule: &Rule) -> Result<(Option<Walk<'a>>, Option<Walk<'a>>), Puzzle> {
        Ok(match holds(rule, &walk, self.host, &self.sets)? {
            Holds::Yes(walk) => (Some(walk), None),
            Holds::No => (None, Some(walk)),
            Holds::Maybe { met, missed } => (Some(met), Some(missed)),
        })
    }

    fn target(
        &self,
        table: Table,
        rule: &Rule,
        mut walk: Walk<'a>,
        depth: usize,
    ) -> Result<Ways<'a>, Puzzle> {
        let end = match &rule.target {
            None => End::OfRule,
            Some(Target::Jump(chain)) => return self.jump(table, *chain, walk, depth + 1),
            Some(Target::Return) => End::OfChain,
            Some(Target::Accept) => End::Accepted,
            Some(Target::Drop) => End::Dropped,
            Some(Target::Reject(_)) => End::Rejected,
            Some(Target::Dnat(to)) => {
                walk.destination = *to;
                walk.forwarded = true;
                End::Accepted
            }
            Some(Target::Listener(key)) => {
                // One of the node's own addresses; it does not matter which.
                let own = if walk.destination.is_ipv4() {
                    IpAddr::from(Ipv4Addr::LOCALHOST)
                } else {
                    IpAddr::from(Ipv6Addr::LOCALHOST)
                };
                walk.destination = SocketAddr::new(own, 0);
                walk.listener = Some(key.clone());
                walk.forwarded = true;
                End::Accepted
            }
            Some(Target::Masquerade(_)) => {
                walk.masqueraded = true;
                End::Accepted
            }
            Some(Target::OrMark(mark)) => {
                walk.mark |= mark;
                End::OfRule
            }
            Some(Target::XorMark(mark)) => {
                walk.mark ^= mark;
                End::OfRule
            }
            Some(Target::Other(_)) => return Err(Puzzle::UnknownRule(rule.to_string().trim().to_owned())),
        };
        Ok(vec![(walk, end)])
    }

    fn jump(&self, table: Table, chain: ChainName, walk: Walk<'a>, depth: usize) -> Result<Ways<'a>, Puzzle> {
        if depth > DEEPEST {
            return Err(Puzzle::Endless(chain.to_string()));
        }
        let rules = self
            .chains
            .get(&(table, chain))
            .ok_or_else(|| Puzzle::NoSuchChain { table: table.name(), chain: chain.to_string() })?;
        let ways = self.follow(table, chain, rules, walk, depth)?;
        let back = |end| if end == End::OfChain { End::OfRule } else { end };
        Ok(ways.into_iter().map(|(walk, end)| (walk, back(end))).collect())
    }

    /// What a walk came to.
    fn outcome_of(&self, walk: &Walk<'_>, end: End) -> Result<Outcome, Puzzle> {
        let taken = matches!(end, End::Accepted | End::OfChain | End::OfRule);
        let Some(key) = walk.listener.as_ref().filter(|_| taken) else { return outcome(walk, end) };
        let listener = self.listeners.get(key).ok_or_else(|| Puzzle::NoSuchListener(key.to_string()))?;
        let comes_by = |ip: &IpAddr| *ip != walk.source && !self.host.has(ip);
        Ok(relayed(listener, |endpoint| match key.caller {
            // Answers must come by this node, and be routed.
            Caller::Client if comes_by(&endpoint.ip()) && !self.host.has(&walk.source) => SeenAs::Itself,
            Caller::Client | Caller::Relay => SeenAs::Node,
        }))
    }
}

/// What a walk came to that ended at no listener.
pub(crate) fn outcome(walk: &Walk<'_>, end: End) -> Result<Outcome, Puzzle> {
    match end {
        End::Dropped => Ok(Outcome::Dropped),
        End::Rejected => Ok(Outcome::Rejected),
        End::Accepted | End::OfChain | End::OfRule => Arrived {
            at: walk.forwarded.then_some(walk.destination),
            masqueraded: walk.masqueraded,
            // It comes here again if it was put on a list that is asked before chance is.
            remembered: !walk.noted.is_empty() && walk.noted.is_subset(&walk.asked),
        }
        .outcome(),
    }
}

fn protocol(protocol: service_plan::Protocol) -> Protocol {
    match protocol {
        service_plan::Protocol::Tcp => Protocol::Tcp,
        service_plan::Protocol::Udp => Protocol::Udp,
        service_plan::Protocol::Sctp => Protocol::Sctp,
    }
}

#[cfg(test)]
mod tests;
