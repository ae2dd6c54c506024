//! A container of a pod.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::volume::{FieldRef, Need, ResourceRef};

/// A container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its name within the pod.
    pub name: String,
    /// How it is run.
    pub kind: Kind,
    /// Where its files come from.
    pub image: String,
    /// Whether a registry is asked.
    pub pull: PullPolicy,
    /// Replaces the image's entry point.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    /// Replaces the image's working directory.
    pub working_dir: Option<PathBuf>,
    /// Ports that it says it listens on.
    pub ports: Vec<ContainerPort>,
    /// Whole objects as environment, before `env`.
    pub env_from: Vec<EnvFrom>,
    /// Its environment, over the image's.
    pub env: Vec<EnvVar>,
    /// What it may use.
    pub resources: Resources,
    /// What it mounts.
    pub mounts: Vec<Mount>,
    /// Whether it is well; else it is started again.
    pub liveness: Option<Probe>,
    /// Whether it may be sent requests.
    pub readiness: Option<Probe>,
    /// Whether it has started; the other probes wait for it.
    pub startup: Option<Probe>,
    /// Done right after it has started.
    pub post_start: Option<Action>,
    /// Done before it is stopped.
    pub pre_stop: Option<Action>,
    /// What it may do.
    pub security: Security,
    /// A file whose text tells why it ended.
    pub termination_message: PathBuf,
}

/// How a container is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Beside the others, for as long as the pod.
    Main,
    /// To its end, before the next.
    Init,
    /// Started before the next, for as long as the pod, and always started again.
    Sidecar,
}

/// Whether a registry is asked for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// If the image is not here.
    IfNotPresent,
    /// It must be here.
    Never,
}

/// A port that a container says it listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// By which probes and Services may speak of it.
    pub name: Option<String>,
    /// Its number.
    pub port: u16,
    /// Of which protocol.
    pub protocol: Protocol,
    /// A port of the node that leads to it.
    pub node: Option<NodePort>,
}

/// A port of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePort {
    /// Its number.
    pub port: u16,
    /// At this address of the node alone.
    pub ip: Option<IpAddr>,
}

/// The protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A whole object as environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFrom {
    /// Put before each name.
    pub prefix: String,
    /// Whether it is a Secret or a `ConfigMap`.
    pub kind: &'static str,
    /// The object's name.
    pub name: String,
    /// Whether it must be there.
    pub need: Need,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    pub source: EnvSource,
}

/// Where the value of a variable comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvSource {
    /// A text in which `$(NAME)` is replaced.
    Text(String),
    /// A field of the pod.
    Field(FieldRef),
    /// A limit or request of a container.
    Resource(ResourceRef),
    /// An entry of an object.
    Key {
        /// Whether it is a Secret or a `ConfigMap`.
        kind: &'static str,
        /// The object's name.
        name: String,
        /// The entry's name.
        key: String,
        /// Whether it must be there.
        need: Need,
    },
}

/// What a container may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes of memory, at most.
    pub memory_limit: Option<u64>,
    /// Bytes of memory that it is promised.
    pub memory_request: Option<u64>,
    /// Thousandths of a CPU, at most.
    pub cpu_limit: Option<u64>,
    /// Thousandths of a CPU that it is promised.
    pub cpu_request: Option<u64>,
}

/// A volume in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The volume.
    pub volume: String,
    /// Where in the container.
    pub path: PathBuf,
    /// What of the volume; `$(NAME)` is replaced in it.
    pub sub_path: Option<String>,
    /// Whether it may be written to.
    pub writing: Leave,
}

/// A question that is asked of a container again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is done.
    pub action: Action,
    /// Seconds before the first time.
    pub initial_delay: u32,
    /// Seconds from one time to the next.
    pub period: u32,
    /// Seconds after which no answer is a bad answer.
    pub timeout: u32,
    /// So many good answers after a bad one make it good.
    pub successes: u32,
    /// So many bad answers after a good one make it bad.
    pub failures: u32,
    /// How long a container that failed may take to stop, in seconds, if not as the pod's.
    pub grace: Option<u32>,
}

/// Something that is done to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A program run in it; good if it ends with 0.
    Exec(Vec<String>),
    /// A request; good if the status is 200 to 399.
    Http {
        /// Over what.
        scheme: Scheme,
        /// Of which port.
        port: Number,
        /// Of whom, if not of the pod.
        host: Option<String>,
        /// For what.
        path: String,
        /// What else is said in it.
        headers: Vec<Header>,
    },
    /// A connection; good if it can be made.
    Tcp {
        /// To which port.
        port: Number,
        /// To whom, if not to the pod.
        host: Option<String>,
    },
    /// The health protocol of gRPC; good if the service says that it serves.
    Grpc {
        /// At which port.
        port: u16,
        /// Which service, or all of the server if it is empty.
        service: String,
    },
    /// Nothing, for so many seconds.
    Sleep(u32),
}

/// Over what a request is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// TCP as it is.
    #[default]
    Http,
    /// TLS; whose certificate it is does not matter.
    Https,
}

/// The port of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Number {
    /// By its number.
    Port(u16),
    /// By the name of a port of the container.
    Named(String),
}

/// A line at the head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What a container may do: the pod's settings with the container's over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// The user's number, if not the image's.
    pub user: Option<u32>,
    /// The group's number, if not the image's.
    pub group: Option<u32>,
    /// Whether the user may be root.
    pub root: Leave,
    /// More groups.
    pub groups: Vec<u32>,
    /// Capabilities beside or without the usual ones.
    pub capabilities: Capabilities,
    /// Whether it is walled in at all.
    pub privileges: Privileges,
    /// Whether it may write to its own files.
    pub root_fs: Leave,
    /// Whether a program may have more rights than who started it.
    pub escalation: Leave,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
}

/// Whether something may be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leave {
    /// It may.
    #[default]
    Given,
    /// It may not.
    Refused,
}

/// Capabilities beside or without the usual ones: names without `CAP_`, or `ALL`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// More.
    pub add: Vec<String>,
    /// Less.
    pub drop: Vec<String>,
}

/// Whether a container is walled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privileges {
    /// It is.
    #[default]
    Usual,
    /// It has all capabilities and devices.
    All,
}

/// Which system calls a container may make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Those that containers need.
    #[default]
    RuntimeDefault,
    /// All.
    Unconfined,
    /// Those of a profile in this file.
    File(PathBuf),
}

impl Container {
    /// The number of a port that is given by number or name.
    pub fn port(&self, number: &Number) -> Option<u16> {
        match number {
            Number::Port(port) => Some(*port),
            Number::Named(name) => {
                self.ports.iter().find(|port| port.name.as_deref() == Some(name)).map(|port| port.port)
            }
        }
    }
}
