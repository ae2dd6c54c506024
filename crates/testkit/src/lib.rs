//! For tests only: targets in memory, scenarios, and the lab of network namespaces.

mod target;

pub use target::{Dice, FakeTarget, Fault, FaultyTarget};
