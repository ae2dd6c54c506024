//! Links, their addresses, routes and neighbours, over rtnetlink.
//!
//! [`Links`] is the door to one network namespace and speaks of links by name. [`Link`] is a handle for those who
//! build networks by hand. There are no bridges: links are routed, and to delete a bridge stalls every network
//! namespace of the machine for seconds (the kernel waits for all of RCU with its one lock on links in hand).
//!
//! ```no_run
//! use kernel_io::{link::{Link, Route}, netns::Netns};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (node, pod) = (Netns::new()?, Netns::new()?);
//! let (eth0, veth1) = Link::veth("eth0", &pod, "veth1", &node)?;
//! eth0.add_address("10.0.0.2/24".parse()?)?.set_up()?;
//! veth1.add_address("10.0.0.1/24".parse()?)?.set_up()?.wait_running()?;
//! eth0.add_route(&Route::default_via("10.0.0.1".parse()?))?;
//! # Ok(()) }
//! ```

mod device;
mod door;
mod handle;
mod news;
mod route;
mod routing;
mod wire;

pub use device::Device;
pub use door::{Links, VethEnd};
pub use handle::Link;
pub use news::AddressNews;
pub use route::Route;
pub use routing::Routing;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rustix::io::Errno;
use thiserror::Error;

use crate::netlink::NetlinkError;
use crate::netns::NetnsError;

/// A link, address, route or neighbour that could not be changed or read.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The namespace could not be entered.
    #[error("reach the links of another network namespace")]
    Netns(#[source] Box<NetnsError>),
    /// The socket could not be opened.
    #[error("reach the links of this network namespace")]
    Open(#[source] NetlinkError),
    /// The kernel refused, or the exchange failed.
    #[error("{verb} {object}")]
    Failed {
        /// What was asked for.
        verb: &'static str,
        /// Of what.
        object: String,
        /// The kernel's words.
        source: NetlinkError,
    },
    /// The link that was named is not there.
    #[error("no link is called {name}")]
    NoSuchLink {
        /// The name.
        name: String,
    },
    /// The address is there, but no packet to it would be taken in.
    #[error("address {address} is not local after {limit:?}; does its link run?")]
    NotLocal {
        /// The address.
        address: IpAddr,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The link was set up, but no packet would pass it.
    #[error("link {name} does not run after {limit:?}; is its other end up?")]
    NotRunning {
        /// The name.
        name: String,
        /// How long it was waited for.
        limit: Duration,
    },
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// A link as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkEntry {
    /// Its number in the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it was set up and runs.
    pub state: LinkState,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// The longest packet that it carries.
    pub mtu: u32,
    /// What made it: veth, vxlan, …; nothing for hardware and loopback.
    pub kind: Option<String>,
}

/// Whether a link was set up, and whether packets pass it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It was not set up.
    Down,
    /// It was set up, but what is sent is lost: the other end is down, or the kernel has not noticed it yet.
    Up,
    /// Packets pass.
    Running,
}

/// An address as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressEntry {
    /// The name of its link.
    pub link: String,
    /// The number of its link.
    pub index: u32,
    /// The address and the length of its range.
    pub address: IpNet,
    /// How far it is known.
    pub scope: AddressScope,
}

/// How far an address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressScope {
    /// Everywhere.
    Global,
    /// On its link.
    Link,
    /// On this machine.
    Host,
    /// As far as an administrator's number says.
    Other(u8),
}

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They stay here: the address is this machine's own.
    Local,
    /// Through the link of this number.
    Link(u32),
}

impl LinkError {
    /// Whether the thing to be deleted or changed was not there.
    pub fn is_absence(&self) -> bool {
        match self {
            LinkError::NoSuchLink { .. } => true,
            LinkError::Failed { source, .. } => matches!(
                source.errno(),
                Some(Errno::NODEV | Errno::ADDRNOTAVAIL | Errno::SRCH | Errno::NOENT)
            ),
            LinkError::Netns(_)
            | LinkError::Open(_)
            | LinkError::NotLocal { .. }
            | LinkError::NotRunning { .. } => false,
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            let colon = if place == 0 { "" } else { ":" };
            write!(formatter, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
