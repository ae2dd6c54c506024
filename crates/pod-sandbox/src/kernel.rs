//! The door through which steps are done and undone.

use std::io;
use std::path::PathBuf;

use kernel_io::cgroup::CgroupError;
use kernel_io::link::LinkError;
use kernel_io::mounts::MountError;
use kernel_io::namespaces::NamespaceError;
use kernel_io::netns::NetnsError;
use kernel_io::process::ProcessError;
use kernel_io::sysctl::SysctlError;
use thiserror::Error;

use crate::cni::CniError;
use crate::journal::{JournalError, Record};
use crate::pool::PoolError;
use crate::spec::Problem;
use crate::steps::{Step, Trace, Wiring};

/// What does and undoes steps: [`crate::Linux`], or a fake.
pub trait Kernel {
    /// What is known of the sandbox.
    fn record(&self) -> &Record;

    /// How its pod gets its links.
    fn wiring(&self) -> Wiring;

    /// Remembers, beyond our own end, that something is about to be made.
    fn begin(&mut self, trace: Trace) -> Result<(), StepError>;

    /// Does a step.
    fn apply(&mut self, step: &Step) -> Result<(), StepError>;

    /// Undoes what was begun, be it done, half done or gone already.
    fn undo(&mut self, trace: &Trace) -> Result<(), StepError>;

    /// Remembers that all is done.
    fn finish(&mut self) -> Result<(), StepError>;

    /// Remembers that all is about to be undone.
    fn leave(&mut self) -> Result<(), StepError>;

    /// Forgets a sandbox of which all is undone.
    fn forget(&mut self) -> Result<(), StepError>;
}

/// A step that could not be done or undone.
#[derive(Debug, Error)]
pub enum StepError {
    /// In the cgroup tree.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Of a process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Of a namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// Of a network namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Of a link, an address or a route.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Of a mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Of tables of nftables.
    #[error(transparent)]
    Nft(#[from] kernel_io::nft::OpenError),
    /// Of what is in them.
    #[error(transparent)]
    Ports(#[from] kernel_io::WriteError),
    /// Of a setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// Of a CNI network.
    #[error(transparent)]
    Cni(#[from] CniError),
    /// Of addresses or user numbers.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Of the sandbox's state.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It was asked for what this node does not give.
    #[error(transparent)]
    Refused(#[from] Problem),
    /// A file could not be read or written.
    #[error("{verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The process that holds the pod ended at once.
    #[error("pause ended as soon as it was started: {status}")]
    Ended {
        /// How.
        status: String,
    },
    /// The process that holds the pod did not end when it was killed.
    #[error("process {pid} does not end")]
    DoesNotEnd {
        /// The process.
        pid: u32,
    },
}
