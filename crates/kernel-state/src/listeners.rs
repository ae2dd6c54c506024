//! The listeners vocabulary: sockets of ours that take connections and relay them to endpoints.
//!
//! A listener is known by its name, or by the address at which it must be. Where one with a name listens is the
//! business of whoever opens it; rules name it ([`crate::xtables::Target::Listener`]), and the target that writes them
//! puts in the numbers.

use std::fmt::{self, Display, Formatter, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::{Change, Objects, State};

/// The vocabulary.
pub enum Listeners {}

/// A state of this vocabulary.
pub type ListenersState = State<Listeners>;

/// What a listener is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Where it is.
    pub place: Place,
    /// What it takes.
    pub transport: Transport,
    /// Under whose address it calls endpoints.
    pub caller: Caller,
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Wherever there is room; it goes by this name.
    Named(Arc<str>),
    /// Here and nowhere else. So whoever gets the address from somebody else keeps the socket.
    At(SocketAddr),
}

/// What can be relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Where a listener leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Each new client gets one of these.
    pub endpoints: Arc<[SocketAddr]>,
    /// How many seconds a client's address keeps its endpoint.
    pub kept: Option<u32>,
    /// What an endpoint is told of its client before anything else.
    pub header: Header,
}

/// What an endpoint is told of its client before anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// Nothing.
    #[default]
    None,
    /// The header of the PROXY protocol's version 2, in a connection.
    ProxyV2,
}

/// Under whose address endpoints are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// The relay's own.
    Relay,
    /// The client's, where its answers come past this node.
    Client,
}

impl Key {
    /// One that goes by a name, and calls endpoints under the relay's own address.
    pub fn new(name: &str, transport: Transport) -> Self {
        Self { place: Place::Named(name.into()), transport, caller: Caller::Relay }
    }

    /// The same, but it must be at an address.
    pub fn at(address: SocketAddr, transport: Transport) -> Self {
        Self { place: Place::At(address), transport, caller: Caller::Relay }
    }
}

impl Transport {
    /// Its name, as rules have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Objects for Listeners {
    type Key = Key;
    type Value = Listener;
    const RANKS: u8 = 1;

    fn rank(_: &Key) -> u8 {
        0
    }

    fn print(key: &Key, value: &Listener, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "{key} {value}")
    }

    fn print_changes(changes: &[Change<Self>], out: &mut dyn Write) -> fmt::Result {
        changes.iter().try_for_each(|change| match change {
            Change::Put { key, value, replaced: None } => writeln!(out, "open {key} {value}"),
            Change::Put { key, value, replaced: Some(_) } => writeln!(out, "lead {key} {value}"),
            Change::Drop { key, .. } => writeln!(out, "close {key}"),
        })
    }
}

impl Display for Transport {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl Display for Key {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let caller = match self.caller {
            Caller::Relay => "",
            Caller::Client => " as the client",
        };
        write!(out, "{{{} {}{caller}}}", self.transport, self.place)
    }
}

impl Display for Place {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => out.write_str(name),
            Self::At(address) => address.fmt(out),
        }
    }
}

impl Display for Listener {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str("to")?;
        self.endpoints.iter().try_for_each(|endpoint| write!(out, " {endpoint}"))?;
        if let Some(seconds) = self.kept {
            write!(out, ", kept {seconds} s")?;
        }
        out.write_str(match self.header {
            Header::None => "",
            Header::ProxyV2 => ", behind a PROXY v2 header",
        })
    }
}
