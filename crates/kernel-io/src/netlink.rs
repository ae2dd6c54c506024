//! Netlink, the kernel's message bus: build messages, send them, read what comes back.
//!
//! This is the base alone and knows no family: [`Message`] builds a request with nested attributes, [`Socket`]
//! carries it and sorts the answers (acknowledgements, several parts, refusals with the kernel's own words), and
//! [`Messages`] and [`Attributes`] read any bytes at all without a panic. `link` speaks rtnetlink on it.

mod error;
mod message;
mod parse;
mod socket;

pub use error::{BatchError, NetlinkError, Refusal};
pub use message::Message;
pub use parse::{Attribute, Attributes, Malformed, Messages, Reply};
pub use socket::Socket;

use std::fmt;

/// The families of the bus that we speak (`NETLINK_*` of linux/netlink.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// Links, addresses, routes and neighbours.
    Route = 0,
    /// `nf_tables`, ipset and conntrack.
    Netfilter = 12,
    /// Families that are found by name, IPVS among them.
    Generic = 16,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Protocol::Route => "route",
            Protocol::Netfilter => "netfilter",
            Protocol::Generic => "generic",
        })
    }
}

/// Flags of a message (`NLM_F_*` of linux/netlink.h). The kernel gives some bits a second meaning by request.
pub mod flags {
    /// This is a request; [`super::Message::new`] sets it.
    pub const REQUEST: u16 = 0x1;
    /// One of several parts, closed by `NLMSG_DONE`.
    pub const MULTI: u16 = 0x2;
    /// Answer even when all went well; [`super::Socket::request`] sets it.
    pub const ACK: u16 = 0x4;
    /// Send the change back as well, as a notification would show it.
    pub const ECHO: u16 = 0x8;
    /// What was dumped changed meanwhile, so the dump may be inconsistent.
    pub const DUMP_INTR: u16 = 0x10;
    /// Of a get: everything; [`super::Socket::dump`] sets it.
    pub const DUMP: u16 = 0x300;
    /// Of a new: replace what is there.
    pub const REPLACE: u16 = 0x100;
    /// Of a new: refuse if it is there.
    pub const EXCL: u16 = 0x200;
    /// Of a new: make it if it is not there.
    pub const CREATE: u16 = 0x400;
    /// Of a new: put it at the end.
    pub const APPEND: u16 = 0x800;
    /// Of an acknowledgement: the request is not repeated in it.
    pub const CAPPED: u16 = 0x100;
    /// Of an acknowledgement: attributes with the kernel's words follow.
    pub const ACK_TLVS: u16 = 0x200;
}

/// Kinds of message that every family shares (linux/netlink.h).
pub(crate) mod kinds {
    pub(crate) const NOOP: u16 = 1;
    pub(crate) const ERROR: u16 = 2;
    pub(crate) const DONE: u16 = 3;
    pub(crate) const OVERRUN: u16 = 4;
}

/// Bytes of a message header (`struct nlmsghdr`).
pub(crate) const HEADER_LEN: usize = 16;
/// Bytes of an attribute header (`struct nlattr`).
pub(crate) const ATTRIBUTE_LEN: usize = 4;
/// The flag on an attribute's kind that says it holds attributes.
pub(crate) const NESTED: u16 = 0x8000;
/// What is left of an attribute's kind without its two flags.
pub(crate) const KIND_MASK: u16 = 0x3fff;

/// The next multiple of four: where a message or attribute after `length` bytes may begin.
pub(crate) const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests;
