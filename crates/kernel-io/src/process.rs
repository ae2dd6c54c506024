//! Processes: start a program in new or in joined namespaces and in a cgroup, hold it, signal it, wait for it.
//!
//! Each process has a keeper, a small thread that starts it, lives as long as it, and reaps it the moment it
//! ends. That settles three things at once. The thread that enters namespaces is never given back. A process
//! that is to die with its parent is bound to the thread that started it, and that thread stays. And the kernel
//! lets process 1 of a PID namespace end only when all that were started into the namespace from outside are
//! reaped, so nobody may forget to wait.

mod found;
mod inner_user;
mod launch;
mod orphans;

pub use found::{Birth, Found};
pub(crate) use launch::let_die_with_us;
pub use launch::{Launch, Started};
pub use orphans::{End, Orphan, Reaper, adopt_orphans};

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process_group, pidfd_send_signal};
use thiserror::Error;

use crate::namespaces::NamespaceError;

/// A process that we started. Clones are the same process.
#[derive(Clone, Debug)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pid: u32,
    pidfd: OwnedFd,
    ended: Mutex<Option<ExitStatus>>,
    bell: Condvar,
}

/// A process that could not be started or signalled.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// Its keeper could not be started.
    #[error("start a thread to keep {program}")]
    Keeper {
        /// The program.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The namespaces in which it should run could not be made or entered.
    #[error("prepare the namespaces of {program}")]
    Namespaces {
        /// The program.
        program: String,
        /// Which, and why.
        source: NamespaceError,
    },
    /// It could not be started, or what it does before it becomes the program failed (join its cgroup, mount its
    /// /proc, bind itself to its parent).
    #[error("start {program}")]
    Start {
        /// The program.
        program: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It could not be signalled.
    #[error("send signal {} to process {pid}", signal.as_raw())]
    Signal {
        /// The signal.
        signal: Signal,
        /// The process.
        pid: u32,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Process {
    /// Its number as we see it.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.lock()
    }

    /// Waits until it ends.
    pub fn wait(&self) -> ExitStatus {
        let mut ended = self.lock();
        loop {
            if let Some(status) = *ended {
                return status;
            }
            ended = self.0.bell.wait(ended).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until it ends, but no longer than this.
    pub fn wait_for(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        let mut ended = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if ended.is_some() || left.is_zero() {
                return *ended;
            }
            (ended, _) = self.0.bell.wait_timeout(ended, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Signals it; nothing happens if it has ended. Never hits another process that got its number.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        match pidfd_send_signal(&self.0.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(ProcessError::Signal { signal, pid: self.0.pid, source: errno.into() }),
        }
    }

    /// Signals it and all that it started and that stayed in its session's first group; for one that was started in a
    /// session of its own and has not ended.
    pub fn signal_session(&self, signal: Signal) -> Result<(), ProcessError> {
        let group = i32::try_from(self.0.pid).ok().and_then(Pid::from_raw);
        match group.map_or(Err(Errno::SRCH), |group| kill_process_group(group, signal)) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(ProcessError::Signal { signal, pid: self.0.pid, source: errno.into() }),
        }
    }

    fn new(pid: u32, pidfd: OwnedFd) -> Self {
        Self(Arc::new(Inner { pid, pidfd, ended: Mutex::new(None), bell: Condvar::new() }))
    }

    fn set_ended(&self, status: ExitStatus) {
        *self.lock() = Some(status);
        self.0.bell.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The descriptor of the process, readable when it has ended; [`Process::ended`] may tell a moment later.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests;
