//! What a pod is doing, as its holder keeps it in a file for everybody to read.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;

use pod_manifests::{Container, Kind, Pod};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::{PodError, file};

/// What a pod is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its own number, unless its manifest has one.
    pub uid: String,
    /// How far it is.
    pub phase: Phase,
    /// Whether it may be sent requests.
    pub ready: bool,
    /// Whether it was told to stop.
    pub terminating: bool,
    /// In a word, why it is as it is.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub reason: String,
    /// In a sentence, why it is as it is.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub message: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// The process that holds it.
    pub holder: u32,
    /// The program that runs its containers.
    pub runtime: String,
    /// When it was made.
    pub created: String,
    /// Its containers, init containers first.
    pub containers: Vec<ContainerStatus>,
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not all of its containers have been started.
    Pending,
    /// They run, or will again.
    Running,
    /// All have ended well and stay so.
    Succeeded,
    /// All have ended, one of them badly, and stay so.
    Failed,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// How it is run.
    pub kind: ContainerKind,
    /// Where its files come from.
    pub image: String,
    /// What it does.
    pub state: State,
    /// How it ended the last time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last: Option<Ended>,
    /// Whether it may be sent requests.
    pub ready: bool,
    /// Whether it has started, as far as its startup probe tells.
    pub started: bool,
    /// How often it was started again.
    pub restarts: u32,
}

/// How a container is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerKind {
    /// For as long as the pod.
    Main,
    /// To its end, before the next.
    Init,
    /// For as long as the pod, and started before the next.
    Sidecar,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It does not run yet, or not again.
    Waiting {
        /// In a word.
        reason: String,
        /// In a sentence.
        #[serde(skip_serializing_if = "String::is_empty", default)]
        message: String,
    },
    /// It runs.
    Running {
        /// Its process, as the node sees it.
        pid: u32,
        /// When that process began, in the kernel's own ticks.
        birth: u64,
        /// Since when.
        since: String,
    },
    /// It has ended.
    Terminated(Ended),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Its exit status; 128 and the signal's number if a signal ended it.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, or why nobody knows.
    pub reason: String,
    /// What it left as its last words.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub message: String,
    /// Since when it had run.
    pub since: String,
    /// When it ended.
    pub at: String,
}

impl PodStatus {
    /// A pod of which nothing is done yet.
    pub(crate) fn of(pod: &Pod, uid: String, runtime: String) -> Self {
        Self {
            namespace: pod.name.namespace.clone(),
            name: pod.name.name.clone(),
            uid,
            phase: Phase::Pending,
            ready: false,
            terminating: false,
            reason: String::new(),
            message: String::new(),
            ips: Vec::new(),
            holder: std::process::id(),
            runtime,
            created: clock::now(),
            containers: pod.spec.all_containers().map(ContainerStatus::of).collect(),
        }
    }

    /// Reads what [`PodStatus::write`] wrote.
    pub(crate) fn read(path: &Path) -> Result<Self, PodError> {
        let text = fs::read(path).map_err(file("read", path))?;
        serde_json::from_slice(&text)
            .map_err(|error| PodError::Content { path: path.to_path_buf(), message: error.to_string() })
    }

    /// Writes it so that a reader sees the old or the new, never a part.
    pub(crate) fn write(&self, path: &Path) -> Result<(), PodError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| PodError::Content { path: path.to_path_buf(), message: error.to_string() })?;
        write_whole(path, &text)
    }

    /// A container by its name.
    pub fn container(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The pod's namespace and name.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// In a word, what it does.
    pub fn in_a_word(&self) -> String {
        if self.terminating && !self.is_over() {
            return "Terminating".to_owned();
        }
        let waiting = self.containers.iter().find_map(|container| match &container.state {
            State::Waiting { reason, .. } if reason != "PodInitializing" => Some(reason.clone()),
            State::Waiting { .. } | State::Running { .. } | State::Terminated(_) => None,
        });
        match waiting {
            Some(reason) if !self.is_over() => reason,
            _ if !self.reason.is_empty() => self.reason.clone(),
            _ if self.is_over() => self.why_ended().unwrap_or_else(|| format!("{:?}", self.phase)),
            _ => format!("{:?}", self.phase),
        }
    }

    /// Why the first container ended that ended badly.
    fn why_ended(&self) -> Option<String> {
        self.containers.iter().find_map(|container| match &container.state {
            State::Terminated(ended) if ended.exit_code != 0 => Some(ended.reason.clone()),
            State::Terminated(_) | State::Waiting { .. } | State::Running { .. } => None,
        })
    }

    /// Whether nothing of it will run again.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }
}

impl ContainerStatus {
    fn of(container: &Container) -> Self {
        Self {
            name: container.name.clone(),
            kind: match container.kind {
                Kind::Main => ContainerKind::Main,
                Kind::Init => ContainerKind::Init,
                Kind::Sidecar => ContainerKind::Sidecar,
            },
            image: container.image.clone(),
            state: State::Waiting { reason: "PodInitializing".to_owned(), message: String::new() },
            last: None,
            ready: false,
            started: false,
            restarts: 0,
        }
    }
}

impl State {
    /// In a few words.
    pub fn told(&self) -> String {
        match self {
            Self::Waiting { reason, message } if message.is_empty() => reason.clone(),
            Self::Waiting { reason, message } => format!("{reason}: {message}"),
            Self::Running { .. } => "Running".to_owned(),
            Self::Terminated(ended) => format!("{} ({})", ended.reason, ended.exit_code),
        }
    }
}

/// Writes a file so that a reader sees the old or the new, never a part.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<(), PodError> {
    let beside = path.with_extension("new");
    let written = File::create(&beside).and_then(|mut file| file.write_all(content));
    written.and_then(|()| fs::rename(&beside, path)).map_err(file("write", path))
}
