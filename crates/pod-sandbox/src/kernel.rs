//! The door through which steps are done and undone.

use kernel_io::cgroup::CgroupError;
use kernel_io::link::LinkError;
use kernel_io::namespaces::NamespaceError;
use kernel_io::netns::NetnsError;
use kernel_io::process::ProcessError;
use kernel_io::sysctl::SysctlError;
use thiserror::Error;

use crate::steps::Step;

/// What does and undoes steps: [`crate::Linux`], or a fake.
pub trait Kernel {
    /// Does a step, wholly or not at all.
    fn apply(&mut self, step: &Step) -> Result<(), StepError>;

    /// Undoes a step that was done, after all that were done after it are undone. What is gone already, be it
    /// because its process ended or its link was deleted, is no error.
    fn undo(&mut self, step: &Step) -> Result<(), StepError>;
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
    /// Of a setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// A setting that is not the pod's alone, so that setting it would change the node.
    #[error("sysctl {name} is not the pod's own")]
    NotThePods {
        /// The setting.
        name: String,
    },
    /// An earlier step that makes what this one needs was not done.
    #[error("there is no {missing} yet")]
    TooEarly {
        /// What is needed.
        missing: &'static str,
    },
    /// The process that holds the pod did not end when it was killed.
    #[error("process {pid} does not end")]
    DoesNotEnd {
        /// The process.
        pid: u32,
    },
}
