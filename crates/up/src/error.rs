//! Why a directory cannot be up, or down.

use std::io;
use std::path::PathBuf;

use pod_runtime::PodError;
use thiserror::Error;

/// Why a directory cannot be up, or down.
#[derive(Debug, Error)]
pub enum UpError {
    /// A file or directory refused.
    #[error("{verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process is at it.
    #[error("{} is kept in step by process {pid} already", root.display())]
    Busy {
        /// The root.
        root: PathBuf,
        /// The process.
        pid: u32,
    },
    /// Another directory is up.
    #[error(
        "{} is up under {}; take it down first (fairlead down {0}), or give this one another --root",
        other.display(), root.display()
    )]
    Other {
        /// The root.
        root: PathBuf,
        /// The directory that is up there.
        other: PathBuf,
    },
    /// The root does not open.
    #[error("{}", .0.told())]
    Pods(PodError),
    /// Pods could not be removed.
    #[error("{0}")]
    Left(String),
    /// The manifests cannot be read.
    #[error(transparent)]
    Open(#[from] service_watch::OpenError),
    /// The manifests cannot be watched.
    #[error(transparent)]
    Watch(#[from] service_watch::WatchError),
    /// What the proxy is told cannot be.
    #[error(transparent)]
    Configuration(#[from] proxy::Invalid),
    /// The proxy cannot do its work.
    #[error(transparent)]
    Proxy(#[from] proxy::ProxyError),
    /// A setting of the kernel cannot be read or written.
    #[error(transparent)]
    Sysctl(#[from] kernel_io::sysctl::SysctlError),
    /// It went into the background and ended there.
    #[error("it ended in the background: {0}")]
    Ended(String),
    /// A thread could not be started.
    #[error("start a thread")]
    Thread(#[source] io::Error),
}

impl From<PodError> for UpError {
    fn from(error: PodError) -> Self {
        Self::Pods(error)
    }
}
