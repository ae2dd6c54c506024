//! For tests only: targets in memory, scenarios, and the lab of network namespaces.
//!
//! A scenario is a folder below `scenarios/`; its README says what is in it. [`Scenario`] reads it, [`replayed`]
//! goes through its steps, [`rendered`] says them in a mode's words, [`golden`] compares what comes out with
//! what was blessed, and [`packet_checks`] compares what becomes of packets with what should.
//! The [`lab`] sends them. [`images`] are made by hand, honest and hostile ones; [`containerd`] runs them as a node of a
//! cluster would, asked through [`cri`], and [`podman`] as a person does. A [`registry`] gives
//! them out.

pub mod cni;
pub mod containerd;
pub mod cri;
pub mod debian;
pub mod golden;
pub mod images;
pub mod lab;
pub mod packet_checks;
mod packets;
pub mod podman;
pub mod registry;
mod render;
mod replay;
mod scenario;
mod target;

pub use packets::{
    Expectation, Heavier, PacketError, of_mode, parse_packets, relayed, relayed_transparently,
};
pub use render::{Rendered, changes_text, rendered, state_text};
pub use replay::{FamilyStep, ReplayError, Replayed, replayed};
pub use scenario::{Scenario, ScenarioError, Stage, Step};
pub use target::{Dice, FakeTarget, Fault, FaultyTarget};
