//! What can go wrong on a netlink socket.

use std::fmt;
use std::io;

use rustix::io::Errno;
use thiserror::Error;

use super::{Malformed, Protocol};

/// A netlink exchange that failed.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The socket could not be made.
    #[error("open a {protocol} netlink socket")]
    Open {
        /// Which family of the bus.
        protocol: Protocol,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The socket refused a setting.
    #[error("set {option} on a netlink socket")]
    Configure {
        /// The kernel's name of the setting.
        option: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The request did not reach the kernel.
    #[error("send a netlink request")]
    Send(#[source] io::Error),
    /// No answer could be read.
    #[error("read a netlink answer")]
    Receive(#[source] io::Error),
    /// A datagram was longer than any that the kernel is known to send.
    #[error("a netlink answer of {length} bytes was cut short")]
    Truncated {
        /// How long it was.
        length: usize,
    },
    /// Messages came faster than we read them and some are lost (`ENOBUFS`); what was read is incomplete.
    #[error("the kernel lost netlink messages because they were not read in time")]
    Overrun,
    /// What was listed changed while it was listed (`NLM_F_DUMP_INTR`): throw it away and ask again.
    #[error("the list changed while the kernel wrote it")]
    Interrupted,
    /// The kernel said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The answer does not follow the format.
    #[error("the answer is malformed")]
    Malformed(#[from] Malformed),
    /// An attribute of the request does not fit the 65,535 bytes that its length field can say.
    #[error("attribute {kind} of the netlink request is longer than 65,535 bytes")]
    TooLong {
        /// The attribute's kind.
        kind: u16,
    },
    /// The kernel answered neither yes nor no.
    #[error("the kernel did not answer the netlink request")]
    Unanswered,
}

impl NetlinkError {
    /// The kernel's error number, if it is the kernel that said no.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            NetlinkError::Refused(refusal) => Some(refusal.errno),
            NetlinkError::Open { .. }
            | NetlinkError::Configure { .. }
            | NetlinkError::Send(_)
            | NetlinkError::Receive(_)
            | NetlinkError::Truncated { .. }
            | NetlinkError::Overrun
            | NetlinkError::Interrupted
            | NetlinkError::Malformed(_)
            | NetlinkError::TooLong { .. }
            | NetlinkError::Unanswered => None,
        }
    }
}

/// The kernel's no, in its own words (extended acknowledgement).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Refusal {
    /// The error number; `EPROTO` where the subsystem has one of its own.
    pub errno: Errno,
    /// A number of the subsystem's own, beyond those that all share; ipset's begin at 4097.
    pub private: Option<i32>,
    /// What the kernel says about it.
    pub text: Option<String>,
    /// Where in the request the attribute stands that it did not like.
    pub offset: Option<u32>,
    /// The kind of an attribute that it misses.
    pub missing: Option<u32>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.private {
            Some(code) => write!(formatter, "error {code} of the subsystem's own")?,
            None => write!(formatter, "{}", io::Error::from(self.errno))?,
        }
        if let Some(text) = &self.text {
            write!(formatter, ": {text}")?;
        }
        if let Some(offset) = self.offset {
            write!(formatter, " (at byte {offset} of the request)")?;
        }
        if let Some(kind) = self.missing {
            write!(formatter, " (attribute {kind} is missing)")?;
        }
        Ok(())
    }
}

/// A batch of which at least one message failed.
#[derive(Debug, Error)]
pub enum BatchError {
    /// The kernel refused these messages, by their place in the batch.
    #[error("the kernel refused {} of the batch, the first at {}", refusals.len(), refusals.first().map_or(0, |(place, _)| *place))]
    Refused {
        /// Place in the batch and the kernel's words, in the order in which it said them.
        refusals: Vec<(usize, Refusal)>,
    },
    /// The batch as a whole failed; how much of it was applied is not known unless it was never sent.
    #[error(transparent)]
    Failed(#[from] NetlinkError),
}
