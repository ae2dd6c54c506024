//! What happens to the first packet of a connection: read from a plan, or from the rules that a kernel holds.
//!
//! Every reader answers with an [`Outcome`], so that they can be compared with each other and with what real
//! packets show. A reader never guesses: what it cannot tell is a [`Puzzle`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

use service_plan::Protocol;
use thiserror::Error;

pub mod ipvs;
pub mod nft;
pub mod plan;
mod ways;
pub mod xtables;

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// Who sends it.
    pub from: Sender,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it is sent to.
    pub to: SocketAddr,
}

/// Who sends a packet, and from which address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sender {
    /// A pod on this node, with a network of its own.
    Pod(IpAddr),
    /// A process in the node's own network; the address is one of the node's.
    Node(IpAddr),
    /// Someone on another machine.
    Outside(IpAddr),
}

/// What a reader must know of the node besides plan or rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The addresses of its interfaces. Loopback addresses are its own without being named.
    pub addresses: BTreeSet<IpAddr>,
    /// The name of the interface that packets of local pods come in on.
    pub pod_interface: String,
    /// The name of the interface to the outside.
    pub outside_interface: String,
}

/// What happened to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went to one of these endpoints.
    Forwarded {
        /// The endpoints, and under whose address each would see it.
        to: BTreeMap<SocketAddr, SeenAs>,
        /// Whether the next connection of the same client goes to the same endpoint.
        next: Next,
    },
    /// It was lost without a word.
    Dropped,
    /// It was refused in so many words.
    Rejected,
    /// It went where it was sent, as if there were no Services.
    Untouched,
}

/// Whom an endpoint takes for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SeenAs {
    /// The client.
    Itself,
    /// The node: the packet was masqueraded.
    Node,
}

/// Where the next connection of the same client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Next {
    /// To any of the endpoints.
    Anywhere,
    /// To the same one, for a while.
    Same,
}

/// Why a reader cannot tell.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Puzzle {
    /// The plan has an entrance whose last verdict is not for anyone.
    #[error("the plan has no verdict for this sender at {0}")]
    NoVerdict(String),
    /// A rule was reached with a match or target that the reader does not know.
    #[error("cannot tell what this does: {0}")]
    UnknownRule(String),
    /// A rule jumps to a chain that is not there.
    #[error("no such chain in table {table}: {chain}")]
    NoSuchChain {
        /// The table.
        table: &'static str,
        /// The chain.
        chain: String,
    },
    /// A rule leads to a listener that is not there.
    #[error("no such listener: {0}")]
    NoSuchListener(String),
    /// The chains jump in a circle, or branch more often than can be followed.
    #[error("the rules of chain {0} have no end")]
    Endless(String),
    /// The packet may be forwarded, or not: chance decides.
    #[error("chance decides between: {0}")]
    Mixed(String),
    /// The packet keeps its destination but loses its source.
    #[error("masqueraded although it is not forwarded to an endpoint")]
    MasqueradedOnly,
}

impl Sender {
    /// The address that it sends from.
    pub fn ip(self) -> IpAddr {
        match self {
            Self::Pod(ip) | Self::Node(ip) | Self::Outside(ip) => ip,
        }
    }
}

impl Host {
    /// Whether an address is one of the node's own.
    pub fn has(&self, ip: &IpAddr) -> bool {
        ip.is_loopback() || self.addresses.contains(ip)
    }

    /// The interface that a sender's packets come in on; the node's own come in on none.
    pub(crate) fn interface_of(&self, sender: Sender) -> Option<&str> {
        match sender {
            Sender::Pod(_) => Some(&self.pod_interface),
            Sender::Outside(_) => Some(&self.outside_interface),
            Sender::Node(_) => None,
        }
    }
}

impl Outcome {
    /// Forwarded to one of these endpoints, each of which sees the same as the client.
    pub fn forwarded(to: impl IntoIterator<Item = SocketAddr>, seen_as: SeenAs) -> Self {
        let to = to.into_iter().map(|endpoint| (endpoint, seen_as)).collect();
        Self::Forwarded { to, next: Next::Anywhere }
    }
}

impl Display for Sender {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(ip) => write!(out, "pod {ip}"),
            Self::Node(ip) => write!(out, "node {ip}"),
            Self::Outside(ip) => write!(out, "outside {ip}"),
        }
    }
}

impl Display for Packet {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {}", self.from, self.protocol, self.to)
    }
}

/// As in a scenario's packets: `one of 10.180.0.1:80 10.180.1.7:80, masqueraded`.
impl Display for Outcome {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let (to, next) = match self {
            Self::Forwarded { to, next } => (to, next),
            Self::Dropped => return out.write_str("dropped"),
            Self::Rejected => return out.write_str("rejected"),
            Self::Untouched => return out.write_str("untouched"),
        };
        let all_masqueraded = to.values().all(|seen_as| *seen_as == SeenAs::Node);
        out.write_str("one of")?;
        for (endpoint, seen_as) in to {
            write!(out, " {endpoint}")?;
            if *seen_as == SeenAs::Node && !all_masqueraded {
                out.write_str("(masqueraded)")?;
            }
        }
        if all_masqueraded {
            out.write_str(", masqueraded")?;
        }
        match next {
            Next::Anywhere => Ok(()),
            Next::Same => out.write_str(", kept"),
        }
    }
}
