//! A pod as a whole.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::container::Container;
use crate::manifests::ObjectName;
use crate::volume::Volume;

/// A pod, or the template of pods.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its namespace and name.
    pub name: ObjectName,
    /// `metadata.uid`, if somebody gave it one.
    pub uid: Option<String>,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`
    pub annotations: BTreeMap<String, String>,
    /// What it shall be.
    pub spec: PodSpec,
    /// The object as it was written, to be kept and read again.
    pub manifest: Map<String, Value>,
}

/// What a pod shall be.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSpec {
    /// Run to their end one after another, before the others; those of [`crate::Kind::Sidecar`] go on.
    pub init_containers: Vec<Container>,
    /// Run together.
    pub containers: Vec<Container>,
    /// What happens when a container ends.
    pub restart: RestartPolicy,
    /// Directories that containers may mount.
    pub volumes: Vec<Volume>,
    /// What the pod shares with the node, and its containers with each other.
    pub shared: Shared,
    /// The host name, if it is not the pod's name.
    pub hostname: Option<String>,
    /// The domain below which the pod has its full name.
    pub subdomain: Option<String>,
    /// More lines of the hosts file.
    pub host_aliases: Vec<HostAlias>,
    /// How names are resolved.
    pub dns: Dns,
    /// How long a pod that is told to stop may take, in seconds.
    pub grace: u32,
    /// After so many seconds it is stopped and has failed.
    pub deadline: Option<u32>,
    /// The group that owns volumes and that all processes have beside their own.
    pub fs_group: Option<u32>,
    /// Settings of the pod's own namespaces.
    pub sysctls: Sysctls,
    /// `nodeName`
    pub node_name: Option<String>,
    /// `serviceAccountName`, which nobody but the downward API asks for.
    pub service_account: String,
}

/// Settings by name.
pub type Sysctls = BTreeMap<String, String>;

/// What happens when a container ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It is started again.
    #[default]
    Always,
    /// It is started again unless it ended with 0.
    OnFailure,
    /// It stays as it is.
    Never,
}

/// What the pod shares with the node, and its containers with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Links, addresses and ports.
    pub network: Network,
    /// Processes.
    pub pids: Pids,
    /// System V and POSIX shared memory, queues and semaphores.
    pub ipc: Network,
    /// User numbers.
    pub users: Users,
}

/// Whose links, or whose shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// The pod's own.
    #[default]
    Pod,
    /// The node's.
    Node,
}

/// Whose processes a container sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pids {
    /// Its own.
    #[default]
    Container,
    /// Those of all of the pod.
    Pod,
    /// The node's.
    Node,
}

/// Whose user numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Users {
    /// The node's: root is root.
    #[default]
    Node,
    /// The pod's own: root is nobody on the node.
    Pod,
}

/// A line of the hosts file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAlias {
    /// The address.
    pub ip: IpAddr,
    /// Its names.
    pub hostnames: Vec<String>,
}

/// How names are resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Where the settings come from.
    pub policy: DnsPolicy,
    /// Servers, before those of the policy.
    pub nameservers: Vec<IpAddr>,
    /// Domains to search, before those of the policy.
    pub searches: Vec<String>,
    /// Options, as they are written into resolv.conf.
    pub options: Vec<String>,
}

/// Where the settings of the resolver come from. There is no cluster, so `ClusterFirst` is the node's as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsPolicy {
    /// The node's resolv.conf.
    #[default]
    Node,
    /// `dnsConfig` alone.
    None,
}

impl PodSpec {
    /// All containers, in the order in which they are started.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }
}

impl Pod {
    /// The same pod under another name, as a Deployment makes it from its template.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let mut pod = self.clone();
        name.clone_into(&mut pod.name.name);
        let metadata = pod.manifest.entry("metadata").or_insert_with(|| Map::new().into());
        if let Value::Object(metadata) = metadata {
            metadata.insert("name".to_owned(), name.into());
            metadata.insert("namespace".to_owned(), pod.name.namespace.clone().into());
        }
        pod
    }

    /// The host name that the pod sees.
    pub fn hostname(&self) -> &str {
        let name = self.spec.hostname.as_deref().unwrap_or(&self.name.name);
        name.get(..63).unwrap_or(name).trim_end_matches(['-', '.'])
    }
}
