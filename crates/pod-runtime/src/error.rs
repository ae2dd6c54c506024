//! What can go wrong with pods.

use std::io;
use std::path::{Path, PathBuf};

use pod_manifests::Missing;
use thiserror::Error;

/// Something that could not be done with a pod.
#[derive(Debug, Error)]
pub enum PodError {
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
    /// A file of ours holds something else than it should.
    #[error("read {}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// There is a pod of that name.
    #[error("pod {pod} is there already; remove it first (fairlead pod rm)")]
    Exists {
        /// The pod.
        pod: String,
    },
    /// There is no pod of that name.
    #[error("there is no pod {pod}")]
    Unknown {
        /// The pod.
        pod: String,
    },
    /// The pod has no such container, or more than one and none was named.
    #[error("pod {pod} has containers {has}; {wanted}")]
    Container {
        /// The pod.
        pod: String,
        /// Its containers.
        has: String,
        /// What was asked.
        wanted: String,
    },
    /// The container does not run.
    #[error("container {container} of pod {pod} does not run: {state}")]
    NotRunning {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// What it does.
        state: String,
    },
    /// Pods run, and may not be removed.
    #[error("pod {pod} runs; stop it first, or remove it by force")]
    Runs {
        /// The pod.
        pod: String,
    },
    /// Nothing that runs containers is installed.
    #[error("no OCI runtime: install crun or runc, or name one with --runtime (looked for {looked_for})")]
    NoRuntime {
        /// The programs that were looked for.
        looked_for: String,
    },
    /// The OCI runtime refused.
    #[error("container {container}: {program} {verb}: {message}")]
    Oci {
        /// The container.
        container: String,
        /// The OCI runtime.
        program: String,
        /// What it was told.
        verb: &'static str,
        /// What it said.
        message: String,
    },
    /// The image of a container cannot be had.
    #[error("container {container}: {message}")]
    Image {
        /// The container.
        container: String,
        /// Why not.
        message: String,
    },
    /// A container cannot be what its manifest says.
    #[error("container {container}: {message}")]
    Impossible {
        /// The container.
        container: String,
        /// Why not.
        message: String,
    },
    /// A volume cannot be what its manifest says.
    #[error("volume {volume}: {message}")]
    Volume {
        /// The volume.
        volume: String,
        /// Why not.
        message: String,
    },
    /// An object that the pod asks for is not there.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The sandbox could not be made or removed.
    #[error("{0}")]
    Sandbox(String),
    /// The process that holds the pod could not be started or has ended too early.
    #[error("the holder of pod {pod}: {message}")]
    Holder {
        /// The pod.
        pod: String,
        /// What happened.
        message: String,
    },
    /// The pod ended before it was ready.
    #[error("pod {pod} is not ready: {message}")]
    NotReady {
        /// The pod.
        pod: String,
        /// What happened.
        message: String,
    },
}

/// Says which file refused what.
pub(crate) fn file(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PodError {
    let path = path.to_path_buf();
    move |source| PodError::File { verb, path, source }
}

impl PodError {
    /// The error and its cause in one line.
    pub fn told(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) if !matches!(self, Self::Missing(_)) => format!("{self}: {cause}"),
            Some(_) | None => self.to_string(),
        }
    }
}
