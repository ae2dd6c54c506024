//! The only door to the kernel: whatever Fairlead reads from it or writes to it goes through here.
//!
//! This crate does not know what a Service or a Pod is. It speaks of links, namespaces, processes and control
//! groups in the kernel's own words, and every error names the verb and the thing.
//!
//! It is also the only library of the workspace with `unsafe` in it: one operation a block, each behind a
//! wrapper that is safe to call.

pub mod cgroup;
pub mod conntrack;
pub mod datagrams;
pub mod ipset;
pub mod ipvs;
pub mod link;
pub mod listeners;
pub mod memory;
pub mod mounts;
pub mod namespaces;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod overlay;
mod pipeline;
pub mod process;
pub mod socket_options;
mod sum;
pub mod sysctl;
mod target;
pub mod xtables;

pub use sum::SumTarget;
pub use target::{Applied, Drift, ReadError, Refused, Target, Unwritten, WriteError};
