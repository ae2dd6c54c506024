//! The nftables vocabulary: one table of `nf_tables`, its sets and maps, their elements, and its chains.
//!
//! Elements are the bulk, so they are small numbers; chains are few and are replaced with all their rules. Only
//! what `nft` can list, and can read again from its own listing, has a word here. [`steps`] puts changes into the
//! order in which the kernel takes them; printed forms are those of `nft`.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Change, Objects, State};

mod print;
mod steps;

pub use steps::{Command, Step, Steps, steps};

/// The vocabulary.
pub enum Nft {}

/// A state of this vocabulary.
pub type NftState = State<Nft>;

/// The name of a chain or set.
pub type Name = Arc<str>;

/// The name of a table that is ours; there is one in each family.
pub const TABLE: &str = "fairlead";

/// An address family, as a table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `ip`
    Ip,
    /// `ip6`
    Ip6,
}

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The family of its table.
    pub family: Family,
    /// What it is.
    pub object: Object,
}

/// What a key names, in our table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The table itself.
    Table,
    /// A set or map.
    Set(Name),
    /// A chain, with all its rules.
    Chain(Name),
    /// An element of a set or map. Those of dynamic sets come from packets and are no objects.
    Element(&'static str, Tuple),
}

/// What an object contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The table's comment: which layout its chains and sets follow.
    Table(Arc<str>),
    /// How a set is made.
    Set(SetSpec),
    /// A chain's hook and rules.
    Chain(Arc<Chain>),
    /// What an element is mapped to.
    Element(Data),
}

/// What names an element: a concatenation of fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tuple {
    /// An address.
    Address(IpAddr),
    /// Two addresses.
    Pair(IpAddr, IpAddr),
    /// A port of a protocol.
    Port(Protocol, u16),
    /// A port of a protocol, and a number.
    PortSlot(Protocol, u16, u32),
    /// An address, and a port of a protocol.
    Socket(IpAddr, Protocol, u16),
    /// An address, a port of a protocol, and a number.
    SocketSlot(IpAddr, Protocol, u16, u32),
    /// An address, a port of a protocol, and a range of other addresses.
    SocketRange(IpAddr, Protocol, u16, IpNet),
}

/// The fields of a [`Tuple`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// [`Tuple::Address`]
    Address,
    /// [`Tuple::Pair`]
    Pair,
    /// [`Tuple::Port`]
    Port,
    /// [`Tuple::PortSlot`]
    PortSlot,
    /// [`Tuple::Socket`]
    Socket,
    /// [`Tuple::SocketSlot`]
    SocketSlot,
    /// [`Tuple::SocketRange`]
    SocketRange,
}

/// What the elements of a map contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataType {
    /// Nothing: it is a set.
    Nothing,
    /// What becomes of the packet.
    Verdict,
    /// An address and a port.
    Endpoint,
}

/// How a set or map is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetSpec {
    /// One whose elements are written by us.
    Written(KeyType, DataType),
    /// A set of source addresses that packets put in, and that leave it after so many seconds.
    Remembered {
        /// The seconds.
        timeout: u32,
    },
    /// One that we would never make.
    Foreign,
}

/// What an element contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing: it is an element of a set.
    Nothing,
    /// What becomes of the packet.
    Verdict(Verdict),
    /// An address and a port.
    Endpoint(IpAddr, u16),
}

/// A transport protocol, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where packets enter it; nowhere if only other chains lead to it.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Box<[Rule]>,
}

/// Where packets enter a base chain. Its policy is to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The chain's type.
    pub kind: ChainKind,
    /// The place.
    pub at: HookPoint,
    /// The order among the chains of that place.
    pub priority: i32,
}

/// The type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// It sees every packet.
    Filter,
    /// It sees the first packet of each connection.
    Nat,
}

/// A place on a packet's way, with the kernel's number of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// Before routing.
    Prerouting = 0,
    /// To the node itself.
    Input = 1,
    /// Through the node.
    Forward = 2,
    /// From the node itself.
    Output = 3,
    /// After routing.
    Postrouting = 4,
}

/// A rule: conditions and actions, taken in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The conditions and actions.
    pub statements: Box<[Statement]>,
    /// What a person should know of it.
    pub comment: Option<Arc<str>>,
}

/// Whether a condition must hold, or must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// It must.
    Is,
    /// It must not.
    Not,
}

/// One condition or action of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// An address of the packet is in a range.
    Within(Field, Sense, IpNet),
    /// The packet came in on an interface; a name that ends in `*` is a prefix.
    InInterface(Sense, Arc<str>),
    /// `ct state new`
    New,
    /// `ct status dnat`
    Translated,
    /// `meta l4proto`
    Protocol(Protocol),
    /// `fib saddr type local`
    SourceIsLocal,
    /// `fib daddr type local`
    DestinationIsLocal,
    /// `numgen random mod N 0`: holds once in N times, by chance.
    OnceIn(u32),
    /// The fields are an element of a set.
    In(Concatenation, Sense, Name),
    /// `vmap`: the fields' element in a map says what becomes of the packet; without one the rule ends.
    Vmap(Concatenation, Name),
    /// `dnat to`: the fields' element in a map is the new destination.
    DnatByMap(Concatenation, Name),
    /// `dnat to`
    Dnat(IpAddr, u16),
    /// `masquerade fully-random`
    Masquerade,
    /// `update @set { saddr }`: puts the source into a set, or lets it stay there for longer.
    Remember(Name),
    /// The end of the rule.
    End(Verdict),
    /// `reject`, with an ICMP port unreachable.
    Reject,
    /// Something that we would never write.
    Foreign,
}

/// Fields of a packet, one after another.
pub type Concatenation = Box<[Field]>;

/// Something that a packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `saddr`
    Source,
    /// `daddr`
    Destination,
    /// `ct original daddr`: what the destination was before it was translated.
    OriginalDestination,
    /// `meta l4proto`
    Protocol,
    /// `th dport`
    Port,
    /// `ct original proto-dst`: what the port was before it was translated.
    OriginalPort,
    /// `numgen random mod N`: a number by chance.
    Slot(u32),
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is lost.
    Drop,
    /// It goes through another chain, then on here.
    Jump(Name),
    /// It goes through another chain, then on where this one was jumped to from.
    Goto(Name),
    /// It goes on where this chain was jumped to from.
    Return,
}

impl Family {
    /// Its name in nft.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }
}

impl Key {
    /// The table.
    pub fn table(family: Family) -> Self {
        Self { family, object: Object::Table }
    }

    /// A set or map.
    pub fn set(family: Family, name: &str) -> Self {
        Self { family, object: Object::Set(name.into()) }
    }

    /// A chain.
    pub fn chain(family: Family, name: &str) -> Self {
        Self { family, object: Object::Chain(name.into()) }
    }

    /// An element of a set or map.
    pub fn element(family: Family, set: &'static str, tuple: Tuple) -> Self {
        Self { family, object: Object::Element(set, tuple) }
    }
}

impl Value {
    /// A chain that other chains lead to.
    pub fn chain(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self::Chain(Arc::new(Chain { hook: None, rules: rules.into_iter().collect() }))
    }

    /// A chain that packets enter at a hook.
    pub fn base_chain(hook: Hook, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self::Chain(Arc::new(Chain { hook: Some(hook), rules: rules.into_iter().collect() }))
    }

    /// An element of a set.
    pub fn member() -> Self {
        Self::Element(Data::Nothing)
    }

    /// An element of a map to addresses.
    pub fn endpoint(at: SocketAddr) -> Self {
        Self::Element(Data::Endpoint(at.ip(), at.port()))
    }

    /// An element of a map to verdicts.
    pub fn verdict(verdict: Verdict) -> Self {
        Self::Element(Data::Verdict(verdict))
    }
}

impl Protocol {
    /// TCP
    pub const TCP: Self = Self(6);
    /// UDP
    pub const UDP: Self = Self(17);
    /// SCTP
    pub const SCTP: Self = Self(132);
}

impl Rule {
    /// A rule.
    pub fn new(statements: impl IntoIterator<Item = Statement>) -> Self {
        Self { statements: statements.into_iter().collect(), comment: None }
    }

    /// The same with a comment.
    #[must_use]
    pub fn commented(self, comment: &str) -> Self {
        Self { comment: Some(comment.into()), ..self }
    }
}

impl Statement {
    /// The rule's end: the packet goes through another chain, and on.
    pub fn jump(chain: &str) -> Self {
        Self::End(Verdict::Jump(chain.into()))
    }

    /// The rule's end: the packet goes through another chain.
    pub fn goto(chain: &str) -> Self {
        Self::End(Verdict::Goto(chain.into()))
    }

    /// The rule's end: the packet is lost.
    pub fn drop() -> Self {
        Self::End(Verdict::Drop)
    }
}

impl Tuple {
    /// Its fields.
    pub fn key_type(&self) -> KeyType {
        match self {
            Self::Address(_) => KeyType::Address,
            Self::Pair(..) => KeyType::Pair,
            Self::Port(..) => KeyType::Port,
            Self::PortSlot(..) => KeyType::PortSlot,
            Self::Socket(..) => KeyType::Socket,
            Self::SocketSlot(..) => KeyType::SocketSlot,
            Self::SocketRange(..) => KeyType::SocketRange,
        }
    }
}

impl Objects for Nft {
    type Key = Key;
    type Value = Value;

    fn rank(key: &Key) -> u8 {
        match key.object {
            Object::Table => 0,
            Object::Set(_) => 1,
            Object::Chain(_) => 2,
            Object::Element(..) => 3,
        }
    }

    fn print(key: &Key, value: &Value, out: &mut dyn Write) -> fmt::Result {
        print::object(key, value, out)
    }

    fn print_state(state: &NftState, out: &mut dyn Write) -> fmt::Result {
        print::state(state, out)
    }

    fn print_changes(changes: &[Change<Self>], out: &mut dyn Write) -> fmt::Result {
        steps(changes).iter().try_for_each(|(_, step)| writeln!(out, "{step}"))
    }
}

#[cfg(test)]
mod tests;
