//! The IPVS vocabulary: virtual servers and the real servers behind them, as `ipvsadm -Sn` prints them.

use std::fmt::{self, Debug, Display, Formatter, Write};
use std::net::SocketAddr;

use crate::xtables::Protocol;
use crate::{Change, Objects, State};

/// The vocabulary.
pub enum Ipvs {}

/// A state of this vocabulary.
pub type IpvsState = State<Ipvs>;

/// The address of a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address and port.
    pub at: SocketAddr,
}

/// The name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A virtual server.
    Server(Server),
    /// A real server behind it.
    Destination(Server, SocketAddr),
}

/// The content of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a virtual server.
    Server(Service),
    /// Of a real server.
    Destination(Destination),
}

/// How a virtual server works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Who chooses the real server.
    pub scheduler: Scheduler,
    /// How many seconds a client keeps its real server.
    pub persistence: Option<u32>,
    /// What the scheduler is told.
    pub flags: SchedulerFlags,
}

/// The name of a scheduler: `rr`, `lc`, `mh`, …
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Scheduler {
    bytes: [u8; Scheduler::MAX],
    length: u8,
}

/// The three flags that each scheduler understands in its own way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerFlags(u32);

/// How a real server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its share.
    pub weight: u32,
    /// How packets get there.
    pub forwarding: Forwarding,
}

/// How packets get to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// By network address translation.
    Masquerade,
    /// In a way that we never use.
    Other(u32),
}

impl Scheduler {
    /// The longest name that the kernel takes (`IP_VS_SCHEDNAME_MAXLEN` in `linux/ip_vs.h`, less one).
    pub const MAX: usize = 15;

    /// A name, if it is short enough and not empty.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        let length = u8::try_from(name.len()).ok().filter(|length| *length > 0)?;
        Some(Self { bytes, length })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl SchedulerFlags {
    /// `sh-fallback`, `mh-fallback`: a real server of weight 0 is passed over; without it the client is refused.
    pub const FALLBACK: Self = Self(0x08);
    /// `sh-port`, `mh-port`: the client's port is hashed too.
    pub const PORT: Self = Self(0x10);
    /// All three bits (`IP_VS_SVC_F_SCHED1` to `3`).
    pub const ALL: Self = Self(0x38);

    /// Both together.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As the kernel has them.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// What of the kernel's flags is the scheduler's.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }
}

impl Objects for Ipvs {
    type Key = Key;
    type Value = Value;

    fn rank(key: &Key) -> u8 {
        match key {
            Key::Server(_) => 0,
            Key::Destination(..) => 1,
        }
    }

    fn print(key: &Key, value: &Value, out: &mut dyn Write) -> fmt::Result {
        line(["-A", "-a"], key, Some(value), out)
    }

    /// A virtual server stands before its real servers.
    fn print_state(state: &IpvsState, out: &mut dyn Write) -> fmt::Result {
        for (key, value) in state.iter() {
            let Key::Server(server) = key else { continue };
            Self::print(key, value, out)?;
            let first = Key::Destination(*server, SocketAddr::from(([0, 0, 0, 0], 0)));
            let behind = state
                .iter_from(&first)
                .take_while(|(key, _)| matches!(key, Key::Destination(behind, _) if behind == server));
            for (key, value) in behind {
                Self::print(key, value, out)?;
            }
        }
        Ok(())
    }

    fn print_changes(changes: &[Change<Self>], out: &mut dyn Write) -> fmt::Result {
        changes.iter().try_for_each(|change| match change {
            Change::Put { key, value, replaced: None } => Self::print(key, value, out),
            Change::Put { key, value, replaced: Some(_) } => line(["-E", "-e"], key, Some(value), out),
            Change::Drop { key, .. } => line(["-D", "-d"], key, None, out),
        })
    }
}

/// One line of ipvsadm's; the two commands are those for a virtual and for a real server.
fn line(commands: [&str; 2], key: &Key, value: Option<&Value>, out: &mut dyn Write) -> fmt::Result {
    match key {
        Key::Server(server) => write!(out, "{} {server}", commands[0])?,
        Key::Destination(server, at) => write!(out, "{} {server} -r {at}", commands[1])?,
    }
    match value {
        Some(Value::Server(service)) => writeln!(out, "{service}"),
        Some(Value::Destination(destination)) => writeln!(out, "{destination}"),
        None => writeln!(out),
    }
}

impl Display for Server {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let option = match self.protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
            Protocol::Sctp => "--sctp-service",
        };
        write!(out, "{option} {}", self.at)
    }
}

/// What follows the address: a blank before each option.
impl Display for Service {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, " -s {}", self.scheduler)?;
        if let Some(seconds) = self.persistence {
            write!(out, " -p {seconds}")?;
        }
        if self.flags == SchedulerFlags::default() {
            return Ok(());
        }
        let name = |bit: u32| match (self.scheduler.as_str(), SchedulerFlags(bit)) {
            (scheduler @ ("sh" | "mh"), SchedulerFlags::FALLBACK) => format!("{scheduler}-fallback"),
            (scheduler @ ("sh" | "mh"), SchedulerFlags::PORT) => format!("{scheduler}-port"),
            _ => format!("flag-{}", bit.trailing_zeros() - 2),
        };
        let names: Vec<String> =
            [0x08, 0x10, 0x20].into_iter().filter(|bit| self.flags.0 & bit != 0).map(name).collect();
        write!(out, " -b {}", names.join(","))
    }
}

/// What follows the address: a blank before each option.
impl Display for Destination {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self.forwarding {
            Forwarding::Masquerade => write!(out, " -m -w {}", self.weight),
            Forwarding::Other(method) => write!(out, " --forwarding {method} -w {}", self.weight),
        }
    }
}

impl Display for Scheduler {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl Debug for Scheduler {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
