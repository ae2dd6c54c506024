//! Facts about Services and this node, and the plan that follows from them.
//!
//! ```text
//! FactChange ──▶ Facts::apply ──▶ Touched ──▶ plan ──▶ Plan + problems
//! ```
//!
//! Everything that kube-proxy decides is decided here, once, for all modes: which endpoints a service port
//! uses on this node, who may enter by which address, and what happens to them. Nothing in this crate
//! knows a Kubernetes type, a kernel object, a clock or a file.

mod claims;
mod decide;
mod endpoints;
mod facts;
mod few;
mod names;
mod plan;
mod print;
#[cfg(test)]
mod samples;
mod shares;
mod stale_flows;

pub use decide::plan;
pub use facts::{
    ClientHeader, EndpointSlice, FactChange, Facts, Health, Hints, LocalPodsSetting, LocalhostNodePorts,
    MasqueradeAll, Node, NodePortSetting, Policy, Service, ServiceKind, ServicePort, Settings, SliceEndpoint,
    SlicePort, Touched,
};
pub use names::{
    Family, Mark, NodePort, Port, Protocol, Seconds, ServiceName, ServicePortName, SliceName, Weight,
};
pub use plan::{
    Address, Endpoint, EndpointComments, Entrance, HealthCheck, LocalPods, Locality, Masquerade, NodePlan,
    NodePortAddresses, Plan, Pool, PoolName, Problem, ServicePlan, Source, Verdict,
};
pub use shares::{chances, equal_shares};
pub use stale_flows::{Flows, SentOn, StaleFlows, stale_flows};
