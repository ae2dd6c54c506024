//! The kernel's connection tracker: its UDP flows are listed, and forgotten.
//!
//! ctnetlink knows no request for "all flows but these", so what may be meant is listed, narrowed by the kernel
//! where it can, and what is meant is then forgotten by its own tuple and number: a flow that begins meanwhile
//! between the same ends is another one, and stays.

use std::net::SocketAddr;

use rustix::io::Errno;
use thiserror::Error;

use crate::netlink::{BatchError, Message, NetlinkError, Protocol, Socket};

mod wire;

/// How often a list that changes while it is written is asked for again. What it showed is used all the same.
const TRIES: usize = 5;

/// This many flows are forgotten by one write.
const BATCH: usize = 256;

/// The connection tracker of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

/// The connection tracker could not be asked.
#[derive(Debug, Error)]
pub enum ConntrackError {
    /// It cannot be spoken with at all.
    #[error("cannot speak with the connection tracker: {0}")]
    Open(#[source] NetlinkError),
    /// The flows were not listed.
    #[error("cannot list the UDP flows of the connection tracker: {0}")]
    List(#[source] NetlinkError),
    /// A flow was not forgotten.
    #[error("cannot remove a UDP flow from the connection tracker: {0}")]
    Forget(#[source] BatchError),
}

/// A UDP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who asks.
    pub client: SocketAddr,
    /// What it asks.
    pub asked: SocketAddr,
    /// Who answers: the same, unless the packets are sent elsewhere.
    pub answered_by: SocketAddr,
}

/// An address family of the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    Inet,
    /// IPv6
    Inet6,
}

/// Which flows the kernel is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrowed {
    /// All of UDP and this family.
    ToFamily(Family),
    /// Those whose client asks this address and port.
    ToAsked(SocketAddr),
}

impl Conntrack {
    /// Opens the tracker of the calling thread's network namespace.
    pub fn open() -> Result<Self, ConntrackError> {
        Socket::open(Protocol::Netfilter).map(|socket| Self { socket }).map_err(ConntrackError::Open)
    }

    /// The UDP flows.
    pub fn flows(&mut self, narrowed: Narrowed) -> Result<Vec<Flow>, ConntrackError> {
        let entries = self.socket.dump_all(&mut wire::list(narrowed), |reply| wire::entry(&reply));
        let flows = entries.map_err(ConntrackError::List)?.into_iter().map(|entry| entry.flow);
        Ok(flows.filter(|flow| narrowed.admits(flow)).collect())
    }

    /// Forgets those flows that are meant, and answers how many.
    pub fn forget(
        &mut self,
        narrowed: Narrowed,
        is_meant: impl Fn(&Flow) -> bool,
    ) -> Result<usize, ConntrackError> {
        let mut forgotten = 0;
        for _ in 0..TRIES {
            let mut requests = Vec::new();
            let listed = self.socket.dump(&mut wire::list(narrowed), |reply| {
                let entry = wire::entry(&reply)?;
                let meant = entry.filter(|entry| narrowed.admits(&entry.flow) && is_meant(&entry.flow));
                requests.extend(meant.map(|entry| wire::forget(&entry)));
                Ok(())
            });
            match listed {
                Ok(()) => return Ok(forgotten + self.forget_all(requests)?),
                Err(NetlinkError::Interrupted) => forgotten += self.forget_all(requests)?,
                Err(error) => return Err(ConntrackError::List(error)),
            }
        }
        Err(ConntrackError::List(NetlinkError::Interrupted))
    }

    fn forget_all(&mut self, mut requests: Vec<Message>) -> Result<usize, ConntrackError> {
        let mut forgotten = requests.len();
        for batch in requests.chunks_mut(BATCH) {
            match self.socket.batch(batch) {
                Ok(()) => {}
                Err(BatchError::Refused { mut refusals }) => {
                    let listed = refusals.len();
                    // It ended by itself meanwhile.
                    refusals.retain(|(_, refusal)| refusal.errno != Errno::NOENT);
                    if !refusals.is_empty() {
                        return Err(ConntrackError::Forget(BatchError::Refused { refusals }));
                    }
                    forgotten -= listed;
                }
                Err(error @ BatchError::Failed(_)) => return Err(ConntrackError::Forget(error)),
            }
        }
        Ok(forgotten)
    }
}

impl Narrowed {
    /// Kernels before 5.8 narrow nothing, and later ones not all that they are asked to.
    fn admits(self, flow: &Flow) -> bool {
        match self {
            Self::ToFamily(_) => true,
            Self::ToAsked(asked) => flow.asked == asked,
        }
    }
}

#[cfg(test)]
mod tests;
