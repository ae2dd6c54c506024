//! Pods and what goes with them, from the text of manifests to values that say what shall be.
//!
//! [`Manifests::read`] takes texts in and answers Pods, Deployments, `ConfigMaps` and Secrets. A field that this
//! crate does not know, or that no single machine can honour, refuses its object and is named by its path; a
//! field that has no meaning without a cluster is passed over with a remark. What is in a [`Pod`] is decided:
//! defaults are filled in, and a container's security is that of its pod with its own over it.
//!
//! [`Values`] answers what a manifest leaves to be looked up: environments, arguments and the files of volumes.

mod container;
mod fields;
mod manifests;
mod pod;
mod quantity;
mod read;
mod values;
mod volume;

pub use container::{
    Action, Capabilities, Container, ContainerPort, EnvFrom, EnvSource, EnvVar, Header, Kind, Leave, Mount,
    NodePort, Number, Privileges, Probe, Protocol, PullPolicy, Resources, Scheme, Seccomp, Security,
};
pub use manifests::{Deployment, Manifests, ObjectName};
pub use pod::{
    Dns, DnsPolicy, HostAlias, Network, Pids, Pod, PodSpec, RestartPolicy, Shared, Sysctls, Users,
};
pub use values::{Facts, Missing, Values, VolumeFile, expanded};
pub use volume::{FieldRef, HostPathKind, Item, Medium, Need, Projection, ResourceRef, Volume, VolumeSource};
