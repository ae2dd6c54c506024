//! Processes that another program has started for us and left: once we adopt orphans, they become our children.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpid, set_child_subreaper, waitid,
};

use super::{Birth, Found, ProcessError};

/// From now on, whatever loses its parent below us becomes our child, and is ours to reap.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Reaps adopted children that nobody waits for.
#[derive(Debug, Default)]
pub struct Reaper {
    seen: BTreeSet<u32>,
}

impl Reaper {
    /// Reaps children that had ended at the last look already, but for these: whoever waits for one is faster.
    pub fn reap_others(&mut self, ours: &[u32]) {
        let ended: BTreeSet<u32> =
            children().into_iter().filter(|pid| !ours.contains(pid) && Birth::of(*pid).is_none()).collect();
        for pid in ended.intersection(&self.seen) {
            if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG); // or it is gone
            }
        }
        self.seen = ended;
    }
}

/// The children of all our threads.
fn children() -> Vec<u32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// A process that may be our child by adoption.
#[derive(Debug)]
pub struct Orphan(Found);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this status.
    Status(ExitStatus),
    /// It was another's child, who alone was told.
    Unknown,
}

impl Orphan {
    /// The process of this number, which was told to us by who started it, so that it is our child, or about to be.
    pub fn left(pid: u32) -> Option<Self> {
        Found::whatever(pid).map(Self)
    }

    /// The process of this number, if it is the one that began then.
    pub fn known(pid: u32, birth: Birth) -> Option<Self> {
        Found::new(pid, birth).map(Self)
    }

    /// Its number as we see it.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Signals it; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        self.0.signal(signal)
    }

    /// Waits until it has ended, but no longer than this, and reaps it.
    pub fn wait_for(&self, limit: Duration) -> Option<End> {
        self.0.ends_within(limit).then(|| self.reaped())
    }

    fn reaped(&self) -> End {
        match waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => End::Status(exit_status(&status)),
            Ok(None) | Err(_) => End::Unknown,
        }
    }
}

fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::from_raw((code & 0xff) << 8),
        (None, Some(signal)) => ExitStatus::from_raw(signal & 0x7f),
        (None, None) => ExitStatus::from_raw(0xff00),
    }
}
