//! How few descriptors are left. A new one gets the lowest number that is free, so its number tells.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// How many this process may have, when last looked at.
#[derive(Debug)]
pub(crate) struct Descriptors(AtomicU64);

/// Left to the rest of the process, which has to write rules and to answer whoever asks how it is.
const OTHERS: u64 = 32;

/// When so many are left, or half of those that there are, they are scarce.
const FEW: u64 = 128;

impl Descriptors {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(limit()))
    }

    /// Looks again how many there may be.
    pub(crate) fn look(&self) {
        self.0.store(limit(), Ordering::Relaxed);
    }

    /// Whether few were left for those who relay when this one was made.
    pub(crate) fn are_scarce(&self, latest: impl AsFd) -> bool {
        let limit = self.0.load(Ordering::Relaxed);
        number(latest) + FEW.min(limit / 2) >= limit
    }

    /// Whether this one is of those that are left to others: then none was left when it was made.
    pub(crate) fn are_out(&self, latest: impl AsFd) -> bool {
        let limit = self.0.load(Ordering::Relaxed);
        number(latest) + OTHERS.min(limit / 8) >= limit
    }

    /// The same of a moment like now.
    pub(crate) fn are_out_now(&self, any: impl AsFd) -> bool {
        rustix::io::fcntl_dupfd_cloexec(any, 0).map_or(true, |latest| self.are_out(latest))
    }

    /// A new one, unless it is of those that are left to others.
    pub(crate) fn spared(&self, latest: OwnedFd) -> Result<OwnedFd, Errno> {
        if self.are_out(&latest) { Err(Errno::MFILE) } else { Ok(latest) }
    }
}

fn number(descriptor: impl AsFd) -> u64 {
    u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or_default()
}

fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
