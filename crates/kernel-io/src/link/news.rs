//! When addresses change, told by the kernel.

use super::LinkError;
use crate::netlink::{NetlinkError, Protocol, Socket};

/// The news of the addresses of one network namespace.
#[derive(Debug)]
pub struct AddressNews(Socket);

/// `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR` of linux/rtnetlink.h
const GROUPS: [u16; 2] = [5, 9];

impl AddressNews {
    /// The news from here on, of the calling thread's namespace.
    pub fn here() -> Result<Self, LinkError> {
        let socket = Socket::open(Protocol::Route).map_err(LinkError::Open)?;
        GROUPS.into_iter().try_for_each(|group| socket.join(group)).map_err(LinkError::Open)?;
        Ok(Self(socket))
    }

    /// Waits until an address came or went. Lost news are news too.
    pub fn wait(&mut self) -> Result<(), LinkError> {
        match self.0.receive(|_| Ok(())) {
            Ok(()) | Err(NetlinkError::Overrun) => Ok(()),
            Err(source) => Err(LinkError::Failed {
                verb: "follow",
                object: "the addresses of this network namespace".to_owned(),
                source,
            }),
        }
    }
}
