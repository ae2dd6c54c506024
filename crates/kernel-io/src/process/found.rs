//! Processes that another start of this program has left behind.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::{ProcessError, Signal};

/// When a process began, in the kernel's own clock ticks since the machine started: with its number it means one
/// process, until the machine starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth(pub u64);

/// A process that runs, whoever started it.
#[derive(Debug)]
pub struct Found {
    pid: u32,
    pidfd: OwnedFd,
}

impl Birth {
    /// When the process that has this number began; nothing if there is none, or it has ended and waits to be reaped.
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything. Behind it: the state is the first, the start the twentieth.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        Some(Self(fields.nth(18)?.parse().ok()?))
    }
}

impl AsFd for Found {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Found {
    /// The process of this number, if it is the one that began then and still runs.
    pub fn new(pid: u32, birth: Birth) -> Option<Self> {
        // First take hold, then look: so the number cannot pass to another in between.
        Self::whatever(pid).filter(|_| Birth::of(pid) == Some(birth))
    }

    /// Whatever process has this number, be it only waiting to be reaped.
    pub(super) fn whatever(pid: u32) -> Option<Self> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        Some(Self { pid, pidfd: pidfd_open(number, PidfdFlags::empty()).ok()? })
    }

    /// Its number as we see it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Signals it; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(ProcessError::Signal { signal, pid: self.pid, source: errno.into() }),
        }
    }

    /// Waits until it has ended, but no longer than this. Answers whether it has.
    pub fn ends_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 60, tv_nsec: 0 });
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&left)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}
