//! A pod's sandbox: its namespaces, its network, its cgroup and its files; everything of a pod but its containers.
//!
//! [`Sandbox::create`] makes what a [`SandboxSpec`] says on a [`Node`]. It is a list of [`Step`]s, which a pure function
//! decides and which can be read line by line before anything happens; when one fails, what was done is undone
//! backwards. What stands is a [`Sandbox`]: it tells a container runtime which namespaces to join, below which cgroup
//! to put a container and which files to mount, and it outlives this process.
//!
//! Before each thing that is made a line is written to the sandbox's journal under the node's root. So whoever dies, at
//! whatever moment, leaves behind what [`Sandbox::adopt`] needs: it takes over a sandbox that stands, and removes what
//! is left of one that does not.
//!
//! Network, IPC and UTS namespaces are held by files and need no process. Only a pod whose containers share their
//! processes has one of ours, `pause`, which is process 1 in it and sees no file of the node.
//!
//! ```no_run
//! use kernel_io::namespaces::Namespace;
//! use pod_sandbox::{Adopted, Node, NodeSettings, PodName, Sandbox, SandboxSpec};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = NodeSettings::at("/run/fairlead".as_ref());
//! settings.ranges = vec!["10.244.0.0/24".parse()?, "fd00:244::/64".parse()?];
//! let node = Node::open(settings)?;
//! for (name, adopted) in Sandbox::adopt_all(&node)? {
//!     if let Adopted::Removed(broken) = adopted? {
//!         eprintln!("{name} was removed: {broken}");
//!     }
//! }
//! let pod = PodName { namespace: "default".into(), name: "web".into(), uid: "1".into() };
//! let mut sandbox = Sandbox::create(&SandboxSpec::new("default_web_1", pod), &node)?;
//! println!("{:?} {:?}", sandbox.addresses(), sandbox.namespace(Namespace::Net));
//! sandbox.remove()?;
//! # Ok(()) }
//! ```
//!
//! A pod's link is routed, not bridged: the pod has single addresses and a default route to a gateway that exists
//! nowhere, the node has a route to each address, and both ends are told each other's Ethernet address for good. So no
//! ARP or neighbour discovery is needed, and a pod can be reached the moment it is ready. Forwarding and `rp_filter` on
//! the node are the caller's. With a CNI configuration, its plugins make the links instead.

mod cni;
mod files;
mod journal;
mod kernel;
mod linux;
mod node;
mod pool;
mod ports;
mod sandbox;
mod spec;
mod steps;
mod sysctls;

pub use cni::{CniError, NetworkList};
pub use journal::{JournalError, Known, Record, Stage};
pub use kernel::{Kernel, StepError};
pub use linux::Linux;
pub use node::{ClusterDns, CniSettings, IDS_PER_POD, Node, NodeError, NodeSettings};
pub use pool::PoolError;
pub use sandbox::{Adopted, Broken, CreateError, Left, RemoveError, Sandbox, make, unmake};
pub use spec::{
    Dns, DnsPolicy, HostAlias, HostPort, Hostname, Network, PidSharing, PodName, PodNetwork, Problem,
    Protocol, Resources, SandboxSpec, Shown, Whose,
};
pub use steps::{Side, Step, Trace, VethEnd, Wiring, reservations, steps};

/// The program `pause` itself, as it ships: carried inside, so that a pod needs no image to be held.
pub const PAUSE: &[u8] = include_bytes!(env!("FAIRLEAD_PAUSE"));
