//! The xtables vocabulary: what iptables and ip6tables hold, in both of their backends.
//!
//! An object is either a chain that is wholly ours, with all its rules; or a chain that several owners share,
//! as a place; or one owner's run of rules in a shared or a built-in chain. Printed forms are those of
//! `iptables-save` (iptables 1.8), and written input is that of `iptables-restore --noflush`.

use std::cmp::Ordering;
use std::fmt::{self, Debug, Display, Formatter, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::ipset::SetName;
use crate::listeners;
use crate::{Change, Objects, State};

mod layout;
mod numbers;
mod parse;
mod print;
mod script;

pub use layout::{Finder, GuardedChain, Layout};
pub use numbers::{with_names, with_numbers};
pub use parse::{SaveError, SaveReader, TellChain, parse_save};
pub use script::{COMMIT, Line, script};

/// The vocabulary.
pub enum Xtables {}

/// A state of this vocabulary.
pub type XtablesState = State<Xtables>;

/// The rules of a chain or run, in order.
pub type Rules = Arc<[Rule]>;

/// A table. They are written one after another, each as one transaction, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// mangle
    Mangle,
    /// filter
    Filter,
    /// nat
    Nat,
}

/// The name of a chain: at most 28 bytes (`XT_EXTENSION_MAXNAMELEN` in `linux/netfilter/x_tables.h`, less one).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainName {
    bytes: [u8; ChainName::MAX],
    length: u8,
}

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The table.
    pub table: Table,
    /// The chain.
    pub chain: ChainName,
    /// The chain itself, or whose rules in it.
    pub part: Part,
}

/// A chain itself, or one owner's run of rules in a chain that is shared. In a chain they stand in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The chain. Its rules, if it is wholly ours; if it is shared it has none of its own.
    Chain,
    /// Rules that kubelet writes too, where there is one.
    Guard,
    /// Our jumps at the head of a built-in chain.
    Head,
    /// The rules of one service port, by the name that their comments begin with. Their order means nothing, so
    /// they are held sorted ([`rule_set`]) and a change of one leaves the others alone.
    Of(Arc<str>, Protocol),
    /// Rules of nobody that we know, in a chain of ours; counted in their order.
    Stray(u32),
    /// Rules that must stand last.
    Tail,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// tcp
    Tcp,
    /// udp
    Udp,
    /// sctp
    Sctp,
}

/// A rule. Its matches stand in the order in which iptables-save prints them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    matches: Box<[Match]>,
    /// What happens when all match; without a target the rule only counts.
    pub target: Option<Target>,
}

/// Whether a match holds when its condition does, or when it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sense {
    /// When it does.
    Is,
    /// When it does not: `!`.
    Not,
}

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Match {
    /// `-s`
    Source(Sense, IpNet),
    /// `-d`
    Destination(Sense, IpNet),
    /// `-i`; a name that ends in `+` is a prefix.
    InInterface(Sense, Arc<str>),
    /// `-p`
    Protocol(Protocol),
    /// `-m comment --comment`
    Comment(Arc<str>),
    /// `-m tcp`, `-m udp` or `-m sctp`, with or without `--dport`
    Transport(Protocol, Option<u16>),
    /// `-m mark --mark value/mask`
    Mark(Sense, u32, u32),
    /// `-m conntrack --ctstate`
    ConnectionState(Sense, ConnectionStates),
    /// `-m addrtype --src-type LOCAL`
    SourceIsLocal,
    /// `-m addrtype --dst-type LOCAL`
    DestinationIsLocal,
    /// `-m socket --transparent`: for a socket of this machine at an address that need not be its own.
    TransparentSocket,
    /// `-m statistic --mode random --probability`
    Probability(Probability),
    /// `-m recent --rcheck --seconds --reap`: whether the source is on a list, and was put there lately.
    RecentlySeen(Box<ChainName>, u32),
    /// `-m set --match-set`: whether the packet is in a set, by these parts of it.
    Set(SetName, Box<[Direction]>),
    /// `-m recent --set`: puts the source on a list; always holds.
    SetSeen(Box<ChainName>),
    /// `-d` and `--dport` together: sent to one of our listeners, by its name.
    Listener(listeners::Key),
    /// Anything else, in iptables' own words.
    Other(Arc<str>),
}

/// Which end of a packet is looked up in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// `src`
    Source,
    /// `dst`
    Destination,
}

/// A set of connection states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionStates(u8);

/// A probability as the kernel holds it: in units of 2^-31 (`linux/netfilter/xt_statistic.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probability(pub u32);

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// `-j CHAIN`
    Jump(ChainName),
    /// `-j ACCEPT`
    Accept,
    /// `-j DROP`
    Drop,
    /// `-j RETURN`
    Return,
    /// `-j REJECT --reject-with`
    Reject(RejectWith),
    /// `-j DNAT --to-destination`
    Dnat(SocketAddr),
    /// `-j DNAT --to-destination`: to one of our listeners, by its name.
    Listener(listeners::Key),
    /// `-j MASQUERADE`
    Masquerade(SourcePorts),
    /// `-j MARK --or-mark`
    OrMark(u32),
    /// `-j MARK --xor-mark`
    XorMark(u32),
    /// Anything else, in iptables' own words.
    Other(Arc<str>),
}

/// How REJECT answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectWith {
    /// iptables' default, a TCP client sees the connection refused.
    IcmpPortUnreachable,
    /// ip6tables' default, likewise.
    Icmp6PortUnreachable,
}

/// How MASQUERADE chooses source ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourcePorts {
    /// The client's own where it is free.
    Kept,
    /// `--random-fully`
    FullyRandom,
}

/// Rules whose order means nothing, in the one order in which two sets of the same rules are equal.
pub fn rule_set(mut rules: Vec<Rule>) -> Rules {
    rules.sort();
    rules.into()
}

impl Table {
    /// All tables, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Mangle, Self::Filter, Self::Nat];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mangle => "mangle",
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

impl ChainName {
    /// The longest name that the kernel takes.
    pub const MAX: usize = 28;

    /// A name, if it is short enough.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self { bytes, length: u8::try_from(name.len()).ok()? })
    }

    /// A name that is known to be short enough.
    ///
    /// # Panics
    /// If it is not; for names that are written down in the code.
    pub fn of(name: &'static str) -> Self {
        Self::new(name).expect("a chain name in the code is at most 28 bytes")
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl Key {
    /// A chain.
    pub fn chain(table: Table, chain: ChainName) -> Self {
        Self { table, chain, part: Part::Chain }
    }

    /// A run of rules in a chain.
    pub fn run(table: Table, chain: ChainName, part: Part) -> Self {
        Self { table, chain, part }
    }
}

impl Protocol {
    /// Its name, as after `-p`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl Rule {
    /// A rule of matches in any order: those that every rule has come first, as iptables-save prints them.
    pub fn new(matches: impl IntoIterator<Item = Match>, target: impl Into<Option<Target>>) -> Self {
        let mut matches: Vec<Match> = matches.into_iter().collect();
        matches.sort_by_key(Match::place);
        Self { matches: matches.into(), target: target.into() }
    }

    /// A rule that jumps to a chain.
    pub fn jump(matches: impl IntoIterator<Item = Match>, chain: ChainName) -> Self {
        Self::new(matches, Target::Jump(chain))
    }

    /// Its matches, in the order in which they are printed.
    pub fn matches(&self) -> &[Match] {
        &self.matches
    }

    /// Its comment.
    pub fn comment(&self) -> Option<&str> {
        self.matches.iter().find_map(Match::as_comment)
    }

    /// Its protocol.
    pub fn protocol(&self) -> Option<Protocol> {
        self.matches.iter().find_map(Match::as_protocol)
    }
}

impl Match {
    /// A comment.
    pub fn comment(text: &str) -> Self {
        Self::Comment(text.into())
    }

    fn as_comment(&self) -> Option<&str> {
        if let Self::Comment(text) = self { Some(text) } else { None }
    }

    fn as_protocol(&self) -> Option<Protocol> {
        if let Self::Protocol(protocol) = self { Some(*protocol) } else { None }
    }

    /// Where iptables-save prints it: the fixed part of a rule in a fixed order, extensions as they came.
    fn place(&self) -> u8 {
        match self {
            Self::Source(..) => 0,
            Self::Destination(..) => 1,
            Self::InInterface(..) => 2,
            Self::Protocol(_) => 3,
            Self::Comment(_)
            | Self::Transport(..)
            | Self::Mark(..)
            | Self::ConnectionState(..)
            | Self::SourceIsLocal
            | Self::DestinationIsLocal
            | Self::TransparentSocket
            | Self::Probability(_)
            | Self::RecentlySeen(..)
            | Self::SetSeen(_)
            | Self::Listener(_)
            | Self::Set(..)
            | Self::Other(_) => 4,
        }
    }
}

impl ConnectionStates {
    /// The connection tracker does not know the packet.
    pub const INVALID: Self = Self(1);
    /// The first packet of a connection.
    pub const NEW: Self = Self(2);
    /// Belongs to another connection.
    pub const RELATED: Self = Self(4);
    /// Belongs to a connection that has been answered.
    pub const ESTABLISHED: Self = Self(8);
    /// Its destination was rewritten.
    pub const DNAT: Self = Self(16);

    /// Both sets together.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of another set are in this one.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Probability {
    /// So many of all, rounded as kube-proxy's text with ten decimals is.
    pub fn of(some: usize, all: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "no pool has 2^52 endpoints")]
        let text = format!("{:0.10}", some as f64 / all as f64);
        Self::from_text(&text).unwrap_or(Self(0))
    }

    /// The kernel's form of a decimal fraction.
    pub fn from_text(text: &str) -> Option<Self> {
        let fraction: f64 = text.parse().ok()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be within 0 and 1"
        )]
        (0.0..=1.0).contains(&fraction).then(|| Self((fraction * f64::from(1u32 << 31)).round() as u32))
    }

    /// As a fraction of one.
    pub fn as_fraction(self) -> f64 {
        f64::from(self.0) / f64::from(1u32 << 31)
    }
}

impl Objects for Xtables {
    type Key = Key;
    type Value = Rules;

    fn rank(key: &Key) -> u8 {
        match key.part {
            Part::Chain => 0,
            Part::Of(..) | Part::Stray(_) | Part::Tail => 1,
            // The way in is opened last and closed first.
            Part::Guard | Part::Head => 2,
        }
    }

    fn print(key: &Key, value: &Rules, out: &mut dyn Write) -> fmt::Result {
        print::object(key, value, out)
    }

    fn print_state(state: &XtablesState, out: &mut dyn Write) -> fmt::Result {
        print::state(state, out)
    }

    fn print_changes(changes: &[Change<Self>], out: &mut dyn Write) -> fmt::Result {
        let mut result = Ok(());
        script(changes, &mut |line| result = result.and_then(|()| writeln!(out, "{}", line.text)));
        result
    }

    fn rules(key: &Key, value: &Rules) -> Option<(&'static str, usize)> {
        Some((key.table.name(), value.len()))
    }
}

impl PartialOrd for ChainName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ChainName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Display for ChainName {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl Debug for ChainName {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
