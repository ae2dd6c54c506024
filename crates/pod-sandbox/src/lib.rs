//! A pod's sandbox: the namespaces that `pause` holds, the link and addresses in them, and the cgroup.
//!
//! [`steps`] turns a [`SandboxSpec`] into a list of [`Step`]s, a pure function whose result can be read line by
//! line before anything happens. [`run`] does them on a [`Kernel`] and undoes backwards what it did when one
//! fails. What comes out is a [`Sandbox`]: processes join it, and removing or dropping it undoes everything.
//!
//! The pod's link is routed, not bridged: the pod has single addresses and a default route to a gateway that
//! exists nowhere, the node has a route to each address, and both ends are told each other's Ethernet address
//! for good. So no ARP or neighbour discovery is needed, and a pod can be reached the moment it is ready.
//! Forwarding and `rp_filter` on the node are the caller's.

mod kernel;
mod linux;
mod sandbox;
mod spec;
mod steps;

pub use kernel::{Kernel, StepError};
pub use linux::Linux;
pub use sandbox::{Left, RemoveError, RunError, Sandbox, run};
pub use spec::{Limits, Network, PidSharing, PodNetwork, SandboxSpec};
pub use steps::{Side, Step, VethEnd, steps};

/// The program `pause` itself, as it ships: carried inside, so that a pod needs no image to be held.
pub const PAUSE: &[u8] = include_bytes!(env!("FAIRLEAD_PAUSE"));
