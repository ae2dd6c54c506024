//! Namespaces of every kind that a pod has: hold those of a process or of files, work inside them.

mod pinned;
mod user;

pub use pinned::{Identity, NamespaceFiles};
pub use user::IdRange;
pub(crate) use user::{become_root, unshare_in_child};

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::netns::Netns;

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Namespace {
    /// User and group numbers, and what root may do. First in the order: it gives the right to enter the others.
    /// A thread of ours cannot enter one, only a process that is being started.
    User,
    /// Links, addresses, routes, rules and sockets.
    Net,
    /// System V and POSIX message queues, semaphores and shared memory.
    Ipc,
    /// The host name.
    Uts,
    /// Process numbers; the first process started in it is number 1 and the others end with it.
    Pid,
    /// Mounts. Last in the order, so that the others are entered while /proc is still ours.
    Mount,
}

/// Namespaces that are held open and can be entered.
#[derive(Debug, Default)]
pub struct Namespaces(Vec<(Namespace, OwnedFd)>);

/// A namespace that could not be made, found or entered.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// The namespace of a process could not be opened.
    #[error("open the {kind} namespace of process {pid}")]
    Open {
        /// Which.
        kind: Namespace,
        /// Whose.
        pid: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error("enter the {kind} namespace")]
    Enter {
        /// Which.
        kind: Namespace,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file could not be made to stand for a namespace, or no longer so.
    #[error("{verb} the {kind} namespace at {}", path.display())]
    Pin {
        /// What was tried.
        verb: &'static str,
        /// Which.
        kind: Namespace,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A user namespace could not be made, or its numbers could not be mapped.
    #[error("make a user namespace: {verb}")]
    User {
        /// What was tried.
        verb: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// New ones could not be made.
    #[error("make new namespaces")]
    Create(#[source] io::Error),
    /// The host name could not be set.
    #[error("set the host name to {name:?}")]
    Hostname {
        /// The name that was refused.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread that should have entered them could not be started.
    #[error("start a thread for a namespace")]
    Thread(#[source] io::Error),
}

impl Namespaces {
    /// The namespaces of a process, of these kinds.
    pub fn of_process(pid: u32, kinds: &[Namespace]) -> Result<Self, NamespaceError> {
        let mut kinds = kinds.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        let open = |kind: Namespace| match File::open(format!("/proc/{pid}/ns/{}", kind.file())) {
            Ok(file) => Ok((kind, file.into())),
            Err(source) => Err(NamespaceError::Open { kind, pid, source }),
        };
        kinds.into_iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// A network namespace alone.
    pub fn network(netns: &Netns) -> Result<Self, NamespaceError> {
        let fd = netns.as_fd().try_clone_to_owned();
        let fd = fd.map_err(|source| NamespaceError::Enter { kind: Namespace::Net, source })?;
        Ok(Self(vec![(Namespace::Net, fd)]))
    }

    /// These and others together.
    #[must_use]
    pub fn and(mut self, others: Namespaces) -> Self {
        self.0.extend(others.0);
        self.0.sort_by_key(|(kind, _)| *kind);
        self
    }

    /// Each with its kind, in the order in which they are entered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Namespace, BorrowedFd<'_>)> {
        self.0.iter().map(|(kind, fd)| (*kind, fd.as_fd()))
    }

    /// Whether one of this kind is held.
    pub fn has(&self, kind: Namespace) -> bool {
        self.0.iter().any(|(held, _)| *held == kind)
    }

    /// Runs `work` in a thread inside the namespaces and returns its result; a panic in it goes on here.
    ///
    /// With a PID namespace among them, only processes that `work` starts are in it, never the thread itself.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        in_own_thread(|| self.enter().map(|()| work())).map_err(NamespaceError::Thread)?
    }

    /// Sets the host name of the UTS namespace among these.
    pub fn set_hostname(&self, name: &str) -> Result<(), NamespaceError> {
        if !self.has(Namespace::Uts) {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "no UTS namespace is held");
            return Err(NamespaceError::Hostname { name: name.to_owned(), source });
        }
        let set = self.run(|| rustix::system::sethostname(name.as_bytes()))?;
        set.map_err(|errno| NamespaceError::Hostname { name: name.to_owned(), source: errno.into() })
    }

    /// Takes the calling thread into the namespaces; there is no way back.
    pub(crate) fn enter(&self) -> Result<(), NamespaceError> {
        for (kind, fd) in &self.0 {
            let kind = *kind;
            if kind == Namespace::Mount {
                // A thread that shares its root and working directory with others may not change its mounts.
                unshare_flags(UnshareFlags::FS)?;
            }
            move_into_link_name_space(fd.as_fd(), Some(kind.link()))
                .map_err(|errno| NamespaceError::Enter { kind, source: errno.into() })?;
        }
        Ok(())
    }
}

/// Takes the calling thread into new namespaces; there is no way back.
pub(crate) fn unshare(kinds: &[Namespace]) -> Result<(), NamespaceError> {
    let flags = kinds.iter().fold(UnshareFlags::empty(), |flags, kind| flags | kind.flag());
    if flags.is_empty() { Ok(()) } else { unshare_flags(flags) }
}

/// Runs `work` in a thread of its own: one that changes its namespaces is thrown away, never given back.
pub(crate) fn in_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, work)?;
        Ok(worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[expect(unsafe_code, reason = "unshare can take file descriptors from a thread; not with our flags")]
pub(crate) fn unshare_flags(flags: UnshareFlags) -> Result<(), NamespaceError> {
    debug_assert!(!flags.contains(UnshareFlags::FILES), "descriptors stay shared");
    // SAFETY: without the FILES flag the table of file descriptors stays shared between the threads.
    unsafe { unshare_unsafe(flags) }.map_err(|errno| NamespaceError::Create(errno.into()))
}

impl Namespace {
    /// Its name below /proc/PID/ns.
    pub fn file(self) -> &'static str {
        match self {
            Namespace::User => "user",
            Namespace::Net => "net",
            Namespace::Ipc => "ipc",
            Namespace::Uts => "uts",
            Namespace::Pid => "pid",
            Namespace::Mount => "mnt",
        }
    }

    pub(crate) fn link(self) -> LinkNameSpaceType {
        match self {
            Namespace::User => LinkNameSpaceType::User,
            Namespace::Net => LinkNameSpaceType::Network,
            Namespace::Ipc => LinkNameSpaceType::InterProcessCommunication,
            Namespace::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            Namespace::Pid => LinkNameSpaceType::ProcessID,
            Namespace::Mount => LinkNameSpaceType::Mount,
        }
    }

    pub(crate) fn flag(self) -> UnshareFlags {
        match self {
            Namespace::User => UnshareFlags::NEWUSER,
            Namespace::Net => UnshareFlags::NEWNET,
            Namespace::Ipc => UnshareFlags::NEWIPC,
            Namespace::Uts => UnshareFlags::NEWUTS,
            Namespace::Pid => UnshareFlags::NEWPID,
            Namespace::Mount => UnshareFlags::NEWNS,
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Namespace::User => "user",
            Namespace::Net => "network",
            Namespace::Ipc => "IPC",
            Namespace::Uts => "UTS",
            Namespace::Pid => "PID",
            Namespace::Mount => "mount",
        })
    }
}

#[cfg(test)]
mod tests;
