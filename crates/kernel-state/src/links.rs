//! The vocabulary of links that hold addresses and carry nothing, as `ip -batch` reads them.

use std::fmt::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Change, Objects, State};

/// The vocabulary.
pub enum Links {}

/// A state of this vocabulary.
pub type LinksState = State<Links>;

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A link.
    Link(Arc<str>),
    /// An address of a link, with the longest prefix that its family has.
    Address(Arc<str>, IpAddr),
}

/// The content of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// What kind of link it is: `dummy`.
    Link(Arc<str>),
    /// That it is there is all there is to say of an address.
    Address,
}

/// The kind of link that we make.
pub const DUMMY: &str = "dummy";

impl Objects for Links {
    type Key = Key;
    type Value = Value;

    fn rank(key: &Key) -> u8 {
        match key {
            Key::Link(_) => 0,
            Key::Address(..) => 1,
        }
    }

    fn print(key: &Key, value: &Value, out: &mut dyn Write) -> fmt::Result {
        match (key, value) {
            (Key::Link(name), Value::Link(kind)) => writeln!(out, "link add {name} type {kind}"),
            (Key::Address(link, ip), _) => writeln!(out, "address add {} dev {link}", IpNet::from(*ip)),
            (Key::Link(_), Value::Address) => Ok(()),
        }
    }

    fn print_changes(changes: &[Change<Self>], out: &mut dyn Write) -> fmt::Result {
        changes.iter().try_for_each(|change| match change {
            Change::Put { key, value, .. } => Self::print(key, value, out),
            Change::Drop { key: Key::Link(name), .. } => writeln!(out, "link delete {name}"),
            Change::Drop { key: Key::Address(link, ip), .. } => {
                writeln!(out, "address delete {} dev {link}", IpNet::from(*ip))
            }
        })
    }
}

#[cfg(test)]
mod tests;
