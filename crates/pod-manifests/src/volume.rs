//! Volumes: what stands behind a directory that containers mount.

use std::path::PathBuf;

/// A volume of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name within the pod.
    pub name: String,
    /// What it holds.
    pub source: VolumeSource,
}

/// What a volume holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// Nothing at first; it goes with the pod.
    EmptyDir {
        /// On what.
        medium: Medium,
        /// No more bytes than this.
        limit: Option<u64>,
    },
    /// Something of the node.
    HostPath {
        /// Where.
        path: PathBuf,
        /// What must be there.
        kind: HostPathKind,
    },
    /// Files made from objects and from the pod itself, one projection over the other.
    Projected {
        /// The files.
        sources: Vec<Projection>,
        /// Their permissions, where an item does not tell its own.
        mode: u32,
    },
}

/// What an empty directory is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Where the state of pods is kept.
    Disk,
    /// Memory.
    Memory,
}

/// What must be at a path of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPathKind {
    /// Whatever is there; if there is nothing, a directory is made.
    Anything,
    /// A directory, made if there is none.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file, made empty if there is none.
    FileOrCreate,
    /// A file.
    File,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Files of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projection {
    /// The entries of a `ConfigMap`.
    ConfigMap {
        /// Its name.
        name: String,
        /// Which entries; all if none are named.
        items: Vec<Item<String>>,
        /// Whether it must be there.
        need: Need,
    },
    /// The entries of a Secret.
    Secret {
        /// Its name.
        name: String,
        /// Which entries; all if none are named.
        items: Vec<Item<String>>,
        /// Whether it must be there.
        need: Need,
    },
    /// Fields of the pod.
    Field(Item<FieldRef>),
    /// Limits and requests of a container.
    Resource(Item<ResourceRef>),
}

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<S> {
    /// What is in it.
    pub source: S,
    /// Where it is within the volume.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: Option<u32>,
}

/// Whether something must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Need {
    /// It must.
    #[default]
    Required,
    /// If it is not, we do without.
    Optional,
}

/// A field of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldRef {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// `metadata.uid`
    Uid,
    /// `metadata.labels['KEY']`
    Label(String),
    /// `metadata.annotations['KEY']`
    Annotation(String),
    /// `metadata.labels`, a line each; in volumes only.
    Labels,
    /// `metadata.annotations`, a line each; in volumes only.
    Annotations,
    /// `spec.nodeName`
    NodeName,
    /// `spec.serviceAccountName`
    ServiceAccount,
    /// `status.hostIP`
    HostIp,
    /// `status.hostIPs`
    HostIps,
    /// `status.podIP`
    PodIp,
    /// `status.podIPs`
    PodIps,
}

/// A limit or request of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRef {
    /// Whose; the container that asks if none is named.
    pub container: Option<String>,
    /// `limits.memory` and the like.
    pub resource: String,
    /// The unit in which it is told: thousandths of a CPU, or bytes.
    pub divisor: u64,
}
