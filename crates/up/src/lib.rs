//! A directory of manifests that is up on this machine: its Pods run, its Deployments are kept in number and rolled, its
//! Services lead to those of them that are ready. It is the one room that knows pods and the proxy both.
//!
//! ```text
//! DIR/*.yaml ──▶ Objects ──▶ pods, rolling ──▶ actions ──▶ pod-runtime ──▶ holders ──▶ status.json
//!                   │                                                                     │
//!                   └──▶ allocation ──▶ Services ─┬─▶ Feed ──▶ proxy ──▶ kernel           │
//!                                      slices ────┘◀──────────────────────────────────────┘
//! ```
//!
//! What is decided is decided by pure functions: [`rolling`], [`pods`], [`slices`], [`allocation`]. Nothing that counts is
//! in this process: pods have their holders, rules are in the kernel, and what Services were given is in a file. So it
//! may end at any moment, and the next one goes on.

mod allocation;
mod conduct;
mod crew;
mod detach;
mod down;
mod error;
mod known;
mod made;
mod node;
mod objects;
mod pods;
mod proxying;
mod publish;
mod revision;
mod rolling;
mod services;
mod slices;
mod snapshot;
mod state;
mod trouble;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

pub use allocation::Ranges;
pub use conduct::up;
pub use detach::detach;
pub use down::down;
pub use error::UpError;
pub use snapshot::{PodRow, ServiceRow, Snapshot};

/// What is to be up, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of manifests.
    pub directory: PathBuf,
    /// Where everything about pods is kept.
    pub root: PathBuf,
    /// The command line that holds a pod, see [`pod_runtime::Root::open`].
    pub holder: Vec<OsString>,
    /// What makes containers; the first that is found if none is named.
    pub runtime: Option<String>,
    /// The proxy's mode, as its own flag has it.
    pub mode: String,
    /// The node's name.
    pub node_name: String,
    /// The ranges from which pods have their addresses, one of a family.
    pub pod_ranges: Vec<IpNet>,
    /// The directory of CNI configurations.
    pub cni: PathBuf,
    /// What Services are given from.
    pub ranges: Ranges,
}

/// Whether something keeps a root in step with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// This process does.
    Process(u32),
    /// Nothing does.
    Nothing,
}

/// What is up under a root, as it was last seen by whoever kept it in step.
pub fn shown(root: &Path) -> Result<Option<(Snapshot, Running)>, UpError> {
    let place = state::Place::of(root);
    let running = place.holder().map_or(Running::Nothing, Running::Process);
    Ok(state::read(&place.shown())?.map(|snapshot| (snapshot, running)))
}
