//! The ipset vocabulary: named sets that rules match against, and their members, as `ipset save` prints them.

use std::fmt::{self, Display, Formatter, Write};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::xtables::Protocol;
use crate::{Change, Objects, State};

/// The vocabulary.
pub enum Ipset {}

/// A state of this vocabulary.
pub type IpsetState = State<Ipset>;

/// The name of a set: at most 31 bytes (`IPSET_MAXNAMELEN` in `linux/netfilter/ipset/ip_set.h`, less one).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(Arc<str>);

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A set.
    Set(SetName),
    /// A member of a set.
    Member(SetName, Member),
}

/// The content of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A set of this type.
    Set(SetType),
    /// That it is there is all there is to say of a member.
    Member,
}

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetType {
    /// `bitmap:port`, all ports.
    BitmapPort,
    /// A hash of addresses of a family.
    Hash(HashOf, Family),
    /// Something that we never make.
    Other(Arc<str>),
}

/// What the members of a hash are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashOf {
    /// `hash:ip`
    Ip,
    /// `hash:ip,port`
    IpPort,
    /// `hash:ip,port,ip`
    IpPortIp,
    /// `hash:ip,port,net`
    IpPortNet,
}

/// The family of a hash's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `inet`
    Inet,
    /// `inet6`
    Inet6,
}

/// A member of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// Of `hash:ip`.
    Ip(IpAddr),
    /// Of `bitmap:port`.
    Port(u16),
    /// Of `hash:ip,port`.
    IpPort(IpAddr, Protocol, u16),
    /// Of `hash:ip,port,ip`.
    IpPortIp(IpAddr, Protocol, u16, IpAddr),
    /// Of `hash:ip,port,net`.
    IpPortNet(IpAddr, Protocol, u16, IpNet),
}

impl SetName {
    /// The longest name that the kernel takes.
    pub const MAX: usize = 31;

    /// A name, if it is short enough.
    pub fn new(name: &str) -> Option<Self> {
        (name.len() <= Self::MAX).then(|| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SetType {
    /// Its name, as `ipset create` takes it.
    pub fn name(&self) -> &str {
        match self {
            Self::BitmapPort => "bitmap:port",
            Self::Hash(HashOf::Ip, _) => "hash:ip",
            Self::Hash(HashOf::IpPort, _) => "hash:ip,port",
            Self::Hash(HashOf::IpPortIp, _) => "hash:ip,port,ip",
            Self::Hash(HashOf::IpPortNet, _) => "hash:ip,port,net",
            Self::Other(name) => name,
        }
    }
}

/// How many buckets a hash starts with. It grows, so what it has later says nothing.
pub const HASH_SIZE: u32 = 1024;
/// How many members a hash takes.
pub const MAX_ELEMENTS: u32 = 65_536;

impl Objects for Ipset {
    type Key = Key;
    type Value = Value;

    fn rank(key: &Key) -> u8 {
        match key {
            Key::Set(_) => 0,
            Key::Member(..) => 1,
        }
    }

    fn print(key: &Key, value: &Value, out: &mut dyn Write) -> fmt::Result {
        match (key, value) {
            (Key::Set(name), Value::Set(kind)) => writeln!(out, "create {name} {kind}"),
            (Key::Member(name, member), _) => writeln!(out, "add {name} {member}"),
            (Key::Set(_), Value::Member) => Ok(()),
        }
    }

    fn print_changes(changes: &[Change<Self>], out: &mut dyn Write) -> fmt::Result {
        for change in changes {
            match change {
                Change::Put { key: Key::Set(name), value, replaced } => {
                    if replaced.is_some() {
                        writeln!(out, "destroy {name}")?;
                    }
                    Self::print(&Key::Set(name.clone()), value, out)?;
                }
                Change::Put { key, value, .. } => Self::print(key, value, out)?,
                Change::Drop { key: Key::Set(name), .. } => writeln!(out, "destroy {name}")?,
                Change::Drop { key: Key::Member(name, member), .. } => writeln!(out, "del {name} {member}")?,
            }
        }
        Ok(())
    }
}

impl Display for SetName {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Display for SetType {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())?;
        match self {
            Self::BitmapPort => out.write_str(" range 0-65535"),
            Self::Hash(_, family) => {
                write!(out, " family {family} hashsize {HASH_SIZE} maxelem {MAX_ELEMENTS}")
            }
            Self::Other(_) => Ok(()),
        }
    }
}

impl Display for Family {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Inet => "inet",
            Self::Inet6 => "inet6",
        })
    }
}

impl Display for Member {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(out),
            Self::Port(port) => port.fmt(out),
            Self::IpPort(ip, protocol, port) => write!(out, "{ip},{}:{port}", protocol.name()),
            Self::IpPortIp(ip, protocol, port, other) => {
                write!(out, "{ip},{}:{port},{other}", protocol.name())
            }
            Self::IpPortNet(ip, protocol, port, range) if range.prefix_len() == range.max_prefix_len() => {
                write!(out, "{ip},{}:{port},{}", protocol.name(), range.addr())
            }
            Self::IpPortNet(ip, protocol, port, range) => {
                write!(out, "{ip},{}:{port},{range}", protocol.name())
            }
        }
    }
}

#[cfg(test)]
mod tests;
