//! Network namespaces: make them without a name, find those of processes, work inside them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use thiserror::Error;

use crate::link::{LinkError, Links};
use crate::namespaces::{Namespace, NamespaceError, in_own_thread, unshare};

/// A network namespace, held open by a descriptor: it lives as long as a clone of this value, a process or a
/// socket lives in it, and has no name under /run/netns that could be left behind.
#[derive(Clone, Debug)]
pub struct Netns(Arc<OwnedFd>);

/// A network namespace that could not be made, found or entered.
#[derive(Debug, Error)]
pub enum NetnsError {
    /// No new namespace could be made.
    #[error("make a network namespace")]
    Create(#[source] NamespaceError),
    /// The namespace of a thread or process could not be opened.
    #[error("open the network namespace {path}")]
    Open {
        /// The file that stands for it.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error("enter a network namespace")]
    Enter(#[source] io::Error),
    /// The thread that should have entered it could not be started.
    #[error("start a thread for a network namespace")]
    Thread(#[source] io::Error),
    /// The loopback link of a new namespace could not be set up.
    #[error("set up the loopback link of a new network namespace")]
    Loopback(#[source] Box<LinkError>),
}

/// How the loopback link of a new namespace shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    /// Up, with 127.0.0.1 and `::1`.
    Up,
    /// As the kernel makes it: there, but down.
    Down,
}

impl Netns {
    /// Makes a namespace whose loopback link is up.
    pub fn new() -> Result<Self, NetnsError> {
        Self::create(Loopback::Up)
    }

    /// Makes a namespace.
    pub fn create(loopback: Loopback) -> Result<Self, NetnsError> {
        in_own_thread(|| {
            unshare(&[Namespace::Net]).map_err(NetnsError::Create)?;
            if loopback == Loopback::Up {
                let up = Links::here().and_then(|mut links| links.set_up("lo"));
                up.map_err(|error| NetnsError::Loopback(Box::new(error)))?;
            }
            Self::current()
        })
        .map_err(NetnsError::Thread)?
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open("/proc/thread-self/ns/net".to_owned())
    }

    /// The namespace of a process.
    pub fn of_process(pid: u32) -> Result<Self, NetnsError> {
        Self::open(format!("/proc/{pid}/ns/net"))
    }

    /// The namespace that a file stands for.
    pub fn at(path: &Path) -> Result<Self, NetnsError> {
        Self::open(path.display().to_string())
    }

    /// Runs `work` in a thread inside the namespace and returns its result; a panic in it goes on here.
    ///
    /// Sockets opened in `work` stay in the namespace wherever they are taken, and processes started in it with
    /// [`std::process::Command`] are in it. Two traps: `/proc/net` shows the namespace of the process's first
    /// thread (read `/proc/thread-self/net`), and a process that asked to die with its parent dies when `work`
    /// ends.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        in_own_thread(|| {
            move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| NetnsError::Enter(errno.into()))?;
            Ok(work())
        })
        .map_err(NetnsError::Thread)?
    }

    fn open(path: String) -> Result<Self, NetnsError> {
        match File::open(&path) {
            Ok(file) => Ok(Self(Arc::new(file.into()))),
            Err(source) => Err(NetnsError::Open { path, source }),
        }
    }
}

/// Two values are the same namespace if their descriptors are the same file.
impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        match (rustix::fs::fstat(self), rustix::fs::fstat(other)) {
            (Ok(one), Ok(two)) => (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino),
            _ => false,
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
