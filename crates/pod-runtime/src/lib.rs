//! Pods that run. Each has a holder, a small process that nobody waits for: it makes the sandbox, runs the containers
//! in order, asks them how they are, starts them again, keeps their logs, and writes down what it knows. A [`Root`] is
//! where all of that is kept; it starts holders, asks them to stop, and reads what they wrote.
//!
//! Whoever dies, no pod is lost: a holder does not need who started it, and containers do not need the holder. The next
//! who opens the root gives them another.

mod bundle;
mod clock;
mod error;
mod holder;
mod image;
mod logs;
mod oci;
mod order;
mod probes;
mod root;
mod sandbox;
mod status;
mod volumes;

pub use error::PodError;
pub use holder::hold;
pub use logs::{Follow, Line, Stream};
pub use order::NodeFacts;
pub use root::{Adoption, Root};
pub use status::{ContainerKind, ContainerStatus, Ended, Phase, PodStatus, State};
