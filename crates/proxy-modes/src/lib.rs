//! The plan, said in the words of each mode: one file a mode.
//!
//! A mode decides nothing. It renders what the plan decided as kernel objects, and what it renders for one
//! Service depends on that Service's plan and the node's alone.

use kernel_state::{Objects, State};
use service_plan::{NodePlan, ServicePlan};

mod iptables;
mod ipvs;
mod localhost;
mod names;
mod nftables;
mod relayed;
mod userspace;

pub use iptables::{InvalidPackets, Iptables};
pub use ipvs::{DEVICE as IPVS_DEVICE, Ipvs, IpvsObjects, LocalFallback};
pub use localhost::Localhost;
pub use nftables::{Nftables, SourceRanges};
pub use userspace::{Transparency, Userspace, UserspaceObjects};

/// A way to say a plan.
pub trait Mode {
    /// The vocabulary that it is said in.
    type Objects: Objects;

    /// What is there whatever Services there are.
    fn skeleton(&self, node: &NodePlan) -> State<Self::Objects>;

    /// What one service port adds.
    fn render(&self, plan: &ServicePlan, node: &NodePlan) -> State<Self::Objects>;

    /// Whether it is better to leave an object that nobody wants any more than to make it again, where there are many.
    fn is_dear(_key: &<Self::Objects as Objects>::Key) -> bool {
        false
    }
}
