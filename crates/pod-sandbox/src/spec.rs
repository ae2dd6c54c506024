//! What a sandbox shall be.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// What a sandbox shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    /// The pod's name, which is its cgroup's as well.
    pub name: String,
    /// The host name that the pod sees, unless it shares the node's network.
    pub hostname: String,
    /// Who sees whose processes.
    pub pids: PidSharing,
    /// Whose links the pod has.
    pub network: Network,
    /// Settings of the pod's own namespaces, such as `net.ipv4.ip_unprivileged_port_start`.
    pub sysctls: BTreeMap<String, String>,
    /// What the pod's processes may use together.
    pub limits: Limits,
    /// The program that holds the namespaces.
    pub pause: PathBuf,
}

/// Who sees whose processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidSharing {
    /// All of the pod see each other; `pause` is process 1, reaps their orphans, and they end with it.
    Pod,
    /// Each process that joins is process 1 of a PID namespace of its own.
    Container,
    /// They see the node's, and the node's see them.
    Node,
}

/// Whose links the pod has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Its own.
    Pod(PodNetwork),
    /// The node's, and its host name.
    Node,
}

/// A pod's own network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// The name of the node's end of the pod's link.
    pub node_link: String,
    /// The pod's addresses, of either family or both.
    pub addresses: Vec<IpAddr>,
}

/// What the pod's processes may use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}
