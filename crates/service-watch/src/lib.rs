//! Kubernetes objects as changes of facts.
//!
//! ```text
//! DIR/*.yaml ──▶ documents ──▶ wire ──▶ convert ──▶ store ──▶ Batch of events and reports
//! API server ──▶ list, watch ─▶ wire ──▶ convert ──▶ known ──▶ Batch of events and reports
//! Feed       ────────────────────────────────────────────────▶ Batch of events and reports
//! ```
//!
//! The shapes of the Kubernetes API end here: what leaves this crate is made of `service_plan`'s types. An
//! object that is wrong is reported, and counts as it last was.

mod api;
mod convert;
mod feed;
mod lenient;
mod manifests;
mod objects;
mod shared_names;
mod store;
mod tree;
mod vocabulary;
mod watcher;
mod wire;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ipnet::IpNet;
use service_plan::{EndpointSlice, Service, ServiceName, SliceName};

pub use api::{
    Access, Api, ApiError, ConnectError, Exchange, Exchanges, Following, Importance, NodeNeeds, Notice,
    Notices, Patience, Subject,
};
pub use feed::Feed;
pub use manifests::{Directory, Manifests, OpenError, WatchError, Watching};
pub use objects::{Fact, Key, Services};
pub use vocabulary::{About, Changes, Claim, Lists, Statement, Vocabulary};

/// Something that is now known, and was not before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A Service as it now is, or its end. One that is none of our business has ended.
    Service(ServiceName, Option<Arc<Service>>),
    /// An EndpointSlice as it now is, or its end.
    EndpointSlice(SliceName, Option<Arc<EndpointSlice>>),
    /// What the next event tells happened then.
    Triggered(SystemTime),
    /// Our own Node object as it now is, or its end.
    Node(Option<NodeObject>),
    /// The ranges of all `ServiceCIDR` objects, sorted.
    ServiceRanges(Vec<IpNet>),
    /// The first full lists have been given; from now on every event is news.
    Listed,
    /// Somebody waits until what was told so far is written. It is dropped then, and so is a weak reference to it.
    Awaited(Arc<Awaited>),
}

/// What is dropped once the kernel is as the events before it say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Awaited;

/// What the Node object tells of our node. Its name and its interfaces are known from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeObject {
    /// Label `topology.kubernetes.io/zone`; empty if it has none.
    pub zone: Arc<str>,
    /// The first address of each family, an `InternalIP` before an `ExternalIP`; the primary one first.
    pub ips: Vec<IpAddr>,
    /// spec.podCIDRs
    pub pod_ranges: Vec<IpNet>,
    /// Whether load balancers may send traffic to it.
    pub eligibility: Eligibility,
}

/// Whether a node is to get traffic. Whether pods may be scheduled to it does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// It is.
    Eligible,
    /// It is being deleted, or an autoscaler is about to.
    Leaving,
}

/// A problem in the input that a person should read. It takes one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Report {
    /// The file or directory, with `:LINE` or `:LINE:COLUMN` where known.
    pub place: String,
    /// What is wrong there, and with which field of which object.
    pub message: String,
}

/// What changed since the batch before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes.
    pub events: Vec<Event>,
    /// The problems that are new.
    pub reports: Vec<Report>,
    /// When the first of it arrived here, where that was seen.
    pub received: Option<Instant>,
}

impl Batch {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.reports.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in_one_line(&self.place, out)?;
        out.write_str(": ")?;
        write_in_one_line(&self.message, out)
    }
}

/// Texts of files and parsers may hold anything, and a log line must stay one.
fn write_in_one_line(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for part in text.split_inclusive(char::is_control) {
        let clean = part.trim_end_matches(char::is_control);
        out.write_str(clean)?;
        if clean.len() < part.len() {
            out.write_str(" ")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
