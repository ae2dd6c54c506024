//! What a person sees of a directory that is up.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything, as it is at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The directory.
    pub directory: PathBuf,
    /// How the proxy says it in the kernel.
    pub mode: String,
    /// Whether everything is as the files want it.
    pub settled: bool,
    /// The pods, in the order of their names.
    pub pods: Vec<PodRow>,
    /// The Services, in the order of their names.
    pub services: Vec<ServiceRow>,
    /// What cannot be as the files want it, and why.
    pub problems: Vec<String>,
    /// What was last found wrong in the files.
    pub reports: Vec<String>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The Deployment that it is of, if it is of one.
    pub deployment: Option<String>,
    /// In a word, what it does.
    pub status: String,
    /// Whether it may be sent requests.
    pub ready: bool,
    /// How often its containers were started again.
    pub restarts: u32,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its addresses; none if it is headless, or cannot be served.
    pub ips: Vec<IpAddr>,
    /// Its ports as `80:30080/TCP`, the second only if the node has one.
    pub ports: Vec<String>,
    /// How many of its endpoints get requests.
    pub ready: usize,
    /// How many finish what they have.
    pub terminating: usize,
    /// How many are not ready.
    pub unready: usize,
}
