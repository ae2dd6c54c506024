//! What a sandbox shall be. No Kubernetes type is here; whoever reads Pods turns them into this.

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use kernel_io::cgroup::Resources;
use serde::{Deserialize, Serialize};

/// What a sandbox shall be. [`SandboxSpec::new`] is a pod in which nothing was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// What the sandbox is called on this node, in its cgroup and its directory: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Whose sandbox it is; CNI plugins are told.
    pub pod: PodName,
    /// The host name that the pod sees, unless it shares the node's network.
    pub hostname: Hostname,
    /// Who sees whose processes.
    pub pids: PidSharing,
    /// Whose shared memory, semaphores and message queues the pod has.
    pub ipc: Whose,
    /// Whose user and group numbers the pod has: `hostUsers: false` is [`Whose::Pod`].
    pub users: Whose,
    /// Whose links the pod has.
    pub network: Network,
    /// Settings of the pod's own namespaces, such as `net.ipv4.ip_unprivileged_port_start`.
    pub sysctls: BTreeMap<String, String>,
    /// What the pod's processes may use together.
    pub resources: Resources,
    /// The most that /dev/shm may hold, in bytes.
    pub shm_size: u64,
    /// Lines for /etc/hosts.
    pub host_aliases: Vec<HostAlias>,
    /// What /etc/resolv.conf says.
    pub dns: Dns,
}

/// Whose sandbox it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// The pod's namespace in Kubernetes.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
}

/// A pod's host name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hostname {
    /// The name itself: `hostname`, or the pod's name.
    pub name: String,
    /// What comes behind it, if the pod has a subdomain: `SUBDOMAIN.NAMESPACE.svc.DOMAIN`.
    pub domain: Option<String>,
    /// Which of the two the kernel's host name is.
    pub shown: Shown,
}

/// How the kernel's host name is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shown {
    /// The name alone.
    #[default]
    Name,
    /// With its domain: `setHostnameAsFQDN: true`.
    Full,
}

/// Who sees whose processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidSharing {
    /// All of the pod see each other; `pause` is process 1, reaps their orphans, and they end with it.
    Pod,
    /// Each process that joins is process 1 of a PID namespace of its own.
    Container,
    /// They see the node's, and the node's see them.
    Node,
}

/// The pod's own, or the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whose {
    /// The pod has its own.
    Pod,
    /// The pod has the node's.
    Node,
}

/// Whose links the pod has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Its own.
    Pod(PodNetwork),
    /// The node's, and its host name.
    Node,
}

/// A pod's own network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    /// The ports of the node that lead to it.
    pub ports: Vec<HostPort>,
    /// The addresses that it shall have, of either family or both; without any, the network gives it some.
    pub addresses: Vec<IpAddr>,
}

/// A port of the node that leads to the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// The protocol.
    pub protocol: Protocol,
    /// The node's port.
    pub node_port: u16,
    /// The pod's port.
    pub pod_port: u16,
    /// At this address of the node alone.
    pub node_ip: Option<IpAddr>,
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its name, as CNI plugins have it.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// A line for /etc/hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAlias {
    /// The address.
    pub ip: IpAddr,
    /// Its names.
    pub names: Vec<String>,
}

/// What /etc/resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Where the pod's name servers come from.
    pub policy: DnsPolicy,
    /// Name servers, behind those of the policy.
    pub servers: Vec<IpAddr>,
    /// Domains to search, behind those of the policy.
    pub searches: Vec<String>,
    /// Options, which win over those of the policy: a name, and a value for some.
    pub options: Vec<(String, Option<String>)>,
}

/// Where the pod's name servers come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsPolicy {
    /// From the cluster, unless the pod shares the node's network; from the node where the cluster has none.
    #[default]
    ClusterFirst,
    /// From the cluster in any case.
    ClusterFirstWithHostNet,
    /// From the node.
    Default,
    /// From the pod's own `dnsConfig` alone.
    None,
}

/// What the kubelet's container runtimes give /dev/shm.
const SHM_SIZE: u64 = 64 << 20;
/// Where a Pod asks for ports of the node.
pub(crate) const HOST_PORT: &str = "spec.containers[].ports[].hostPort";
/// The most bytes that the kernel takes for a host name.
const LONGEST_HOSTNAME: usize = 64;

/// Something that a sandbox cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct Problem {
    /// Where, in the words of a Pod.
    pub field: &'static str,
    /// Why.
    pub what: String,
}

impl SandboxSpec {
    /// A pod's sandbox with everything of its own but user numbers, and containers that do not see each other.
    pub fn new(name: &str, pod: PodName) -> Self {
        Self {
            name: name.to_owned(),
            hostname: Hostname { name: short(&pod.name), ..Hostname::default() },
            pod,
            pids: PidSharing::Container,
            ipc: Whose::Pod,
            users: Whose::Node,
            network: Network::Pod(PodNetwork::default()),
            sysctls: BTreeMap::new(),
            resources: Resources::default(),
            shm_size: SHM_SIZE,
            host_aliases: Vec::new(),
            dns: Dns::default(),
        }
    }

    /// What it cannot be on any node, told before anything is done.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut tell = |field, what: String| problems.push(Problem { field, what });
        let fine = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(fine) {
            tell("metadata.name", format!("{:?} cannot be the name of a sandbox", self.name));
        }
        let hostname = self.hostname.kernel();
        if hostname.is_empty() || hostname.len() > LONGEST_HOSTNAME {
            let field = match self.hostname.shown {
                Shown::Name => "spec.hostname",
                Shown::Full => "spec.setHostnameAsFQDN",
            };
            tell(field, format!("{hostname:?} has not between 1 and {LONGEST_HOSTNAME} bytes"));
        }
        if self.users == Whose::Pod {
            let nodes = [
                ("spec.hostNetwork", self.network == Network::Node),
                ("spec.hostIPC", self.ipc == Whose::Node),
                ("spec.hostPID", self.pids == PidSharing::Node),
            ];
            for (field, _) in nodes.iter().filter(|(_, is_nodes)| *is_nodes) {
                tell(field, "cannot be together with spec.hostUsers: false".to_owned());
            }
        }
        problems
    }

    /// The ports of the node that lead to it.
    pub fn host_ports(&self) -> &[HostPort] {
        match &self.network {
            Network::Pod(network) => &network.ports,
            Network::Node => &[],
        }
    }
}

impl Hostname {
    /// What the kernel is told.
    pub fn kernel(&self) -> String {
        match (&self.shown, &self.domain) {
            (Shown::Full, Some(_)) => self.full().unwrap_or_default(),
            (Shown::Full | Shown::Name, _) => self.name.clone(),
        }
    }

    /// The name with its domain, if it has one.
    pub fn full(&self) -> Option<String> {
        self.domain.as_ref().map(|domain| format!("{}.{domain}", self.name))
    }
}

/// A pod's name cut to what may be one part of a domain name.
fn short(name: &str) -> String {
    const LONGEST_LABEL: usize = 63;
    let cut: String = name.chars().take(LONGEST_LABEL).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests;
