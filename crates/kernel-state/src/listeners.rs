//! The listeners vocabulary: sockets of ours that take connections and relay them to endpoints.
//!
//! A listener is known by its name. The address and port that it gets are the business of whoever opens it; rules
//! name the listener ([`crate::xtables::Target::Listener`]), and the target that writes them puts in the numbers.

use std::fmt::{self, Display, Formatter, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::{Change, Objects, State};

/// The vocabulary.
pub enum Listeners {}

/// A state of this vocabulary.
pub type ListenersState = State<Listeners>;

/// The name of a listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What it is called.
    pub name: Arc<str>,
    /// What it takes.
    pub transport: Transport,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Each new client gets one of these.
    pub endpoints: Arc<[SocketAddr]>,
    /// How many seconds a client's address keeps its endpoint.
    pub kept: Option<u32>,
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
        write!(out, "{{{} {}}}", self.transport, self.name)
    }
}

impl Display for Listener {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str("to")?;
        self.endpoints.iter().try_for_each(|endpoint| write!(out, " {endpoint}"))?;
        match self.kept {
            Some(seconds) => write!(out, ", kept {seconds} s"),
            None => Ok(()),
        }
    }
}
