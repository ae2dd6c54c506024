//! What is known: the source's events as facts, this node's own addresses, and the problems already told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use kernel_io::link::{AddressScope, Links};
use proxy_modes::IPVS_DEVICE;
use service_plan::{
    FactChange, Facts, Family, LocalhostNodePorts, Node, Plan, Problem, ServiceName, Settings, Touched, plan,
};
use service_watch::{Batch, Eligibility, Event, NodeObject};
use tracing::{info, warn};

use crate::witness::News;

/// The facts, and what else one thread must remember between two batches.
pub(crate) struct Knowledge {
    facts: Facts,
    /// This node as far as it is known without its Node object.
    bare_node: Node,
    /// The address by which the operator knows the node; unspecified if he does not say.
    bind_address: IpAddr,
    /// The addresses by which the node is known.
    node_ips: Vec<IpAddr>,
    /// The Node object as it was last told.
    node_object: Option<NodeObject>,
    eligibility: Option<Eligibility>,
    listed: Listed,
    /// Services that were touched before the first lists were whole, and are not planned since.
    unplanned: BTreeSet<ServiceName>,
    news: News,
    /// What the next event tells happened then.
    trigger: Option<SystemTime>,
    /// What happened before was none of our doing.
    started: SystemTime,
    told: BTreeMap<Family, BTreeSet<Problem>>,
}

/// Whether the first full lists are in. Nothing is written before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    Yes,
    NotYet,
}

impl Knowledge {
    pub(crate) fn new(settings: Settings, node_name: Arc<str>, bind_address: IpAddr) -> Self {
        let mut bare_node = bare_node(node_name);
        bare_node.ips = with_bind_address(&bare_node.ips, bind_address);
        Self {
            facts: Facts::new(settings, bare_node.clone()),
            node_ips: bare_node.ips.clone(),
            bare_node,
            bind_address,
            node_object: None,
            eligibility: None,
            listed: Listed::NotYet,
            unplanned: BTreeSet::new(),
            news: News::default(),
            trigger: None,
            started: SystemTime::now(),
            told: BTreeMap::new(),
        }
    }

    /// Takes a batch in and tells its problems. Answers what is to be planned now.
    ///
    /// Before the first lists are whole that is what need not wait for them: a Service whose endpoints have come. So
    /// most is planned and rendered while the server is still listing. Everything else waits.
    pub(crate) fn take(&mut self, batch: Batch) -> Touched {
        for report in &batch.reports {
            warn!(place = %report.place, "{}", report.message);
        }
        let listed = self.listed;
        let mut touched = Touched::nothing();
        for event in batch.events {
            let brings_endpoints = matches!(event, Event::EndpointSlice(..));
            let by_event = self.take_event(event);
            touched = touched.and(if brings_endpoints { self.early(by_event) } else { self.due(by_event) });
        }
        // What belongs to the first lists waits for the rest of them.
        if listed == Listed::Yes && !touched.is_nothing() {
            self.news.received = batch.received;
        }
        touched
    }

    /// Plans by another configuration from now on. Answers what is to be planned again.
    pub(crate) fn configure(&mut self, settings: Settings, bind_address: IpAddr) -> Touched {
        self.bind_address = bind_address;
        let touched = self.facts.apply(FactChange::Settings(settings));
        self.due(touched).and(self.look_at_addresses())
    }

    /// Reads the interfaces again. Answers what is to be planned again.
    pub(crate) fn look_at_addresses(&mut self) -> Touched {
        self.bare_node = bare_node(Arc::clone(&self.bare_node.name));
        let node = self.node();
        let touched = self.facts.apply(FactChange::Node(node));
        self.due(touched)
    }

    /// What was taken in since this was last asked.
    pub(crate) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// What the Node object told of our node, if there ever was one.
    pub(crate) fn eligibility(&self) -> Option<Eligibility> {
        self.eligibility
    }

    pub(crate) fn listed(&self) -> Listed {
        self.listed
    }

    /// The address of a family by which the node is known.
    pub(crate) fn node_ip(&self, family: Family) -> Option<IpAddr> {
        self.node_ips.iter().copied().find(|ip| family.has(ip))
    }

    pub(crate) fn service_count(&self) -> usize {
        self.facts.service_count()
    }

    /// Whether node ports are served on localhost by rules, which only those of IPv4 can.
    pub(crate) fn localhost_node_ports(&self) -> LocalhostNodePorts {
        let (plan, _) = plan(&self.facts, &Touched::nothing(), Family::V4);
        plan.node.localhost_node_ports
    }

    /// Plans one family, and tells the problems that are new.
    pub(crate) fn plan(&mut self, touched: &Touched, family: Family) -> Plan {
        let (plan, problems) = plan(&self.facts, touched, family);
        let planned: BTreeSet<&ServiceName> = plan.services.iter().map(|(name, _)| name).collect();
        let told = self.told.entry(family).or_default();
        let before = std::mem::take(told);
        told.extend(before.iter().filter(|problem| !planned.contains(problem.service())).cloned());
        for problem in problems {
            if !before.contains(&problem) {
                warn!(%family, "{problem}");
            }
            told.insert(problem);
        }
        plan
    }

    fn take_event(&mut self, event: Event) -> Touched {
        let trigger = self.trigger.take();
        let change = match event {
            Event::Service(name, service) => {
                self.news.services += 1;
                FactChange::Service(name, service)
            }
            Event::EndpointSlice(name, slice) => {
                self.news.endpoint_slices += 1;
                let touched = self.facts.apply(FactChange::EndpointSlice(name, slice));
                let is_news = |trigger: &SystemTime| !touched.is_nothing() && *trigger >= self.started;
                self.news.triggers.extend(trigger.filter(is_news));
                return touched;
            }
            Event::Triggered(at) => {
                self.trigger = Some(at);
                return Touched::nothing();
            }
            Event::Node(object) => {
                // One that is gone says nothing of the machine.
                self.eligibility = object.as_ref().map(|object| object.eligibility).or(self.eligibility);
                self.node_object = object;
                FactChange::Node(self.node())
            }
            Event::ServiceRanges(ranges) => FactChange::ServiceRanges(ranges),
            Event::Awaited(awaited) => {
                self.news.awaited.push(awaited);
                return Touched::nothing();
            }
            Event::Listed => {
                self.listed = Listed::Yes;
                return Touched::services(std::mem::take(&mut self.unplanned)).and(Touched::node());
            }
        };
        self.facts.apply(change)
    }

    /// What is to be planned now of what was touched: nothing before the first lists are whole.
    fn due(&mut self, touched: Touched) -> Touched {
        match self.listed {
            Listed::Yes => touched,
            Listed::NotYet => {
                self.unplanned.extend(self.facts.touched_services(&touched));
                Touched::nothing()
            }
        }
    }

    /// The same of what endpoints touched, which do not come before their Service is known, or seldom.
    fn early(&mut self, touched: Touched) -> Touched {
        if self.listed == Listed::Yes || touched.is_everything() {
            return self.due(touched);
        }
        let names = self.facts.touched_services(&touched);
        let (known, unknown): (BTreeSet<_>, BTreeSet<_>) =
            names.into_iter().partition(|name| self.facts.has_service(name));
        self.unplanned.extend(unknown);
        for name in &known {
            self.unplanned.remove(name);
        }
        Touched::services(known)
    }

    /// Says by which addresses the node is known from now on, where that is news.
    fn tell_ips(&mut self, ips: &[IpAddr]) {
        if self.node_ips != ips {
            let now = ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            info!(ips = now, "this node is known by other addresses");
            self.node_ips = ips.to_vec();
        }
    }

    fn node(&mut self) -> Node {
        let mut node = self.bare_node.clone();
        if let Some(object) = &self.node_object {
            node.zone = Arc::clone(&object.zone);
            node.pod_ranges.clone_from(&object.pod_ranges);
            if !object.ips.is_empty() {
                node.ips.clone_from(&object.ips);
            }
        }
        node.ips = with_bind_address(&node.ips, self.bind_address);
        self.tell_ips(&node.ips);
        node
    }
}

/// The addresses of a node, of which the one that the operator knows it by is the first.
fn with_bind_address(ips: &[IpAddr], bind_address: IpAddr) -> Vec<IpAddr> {
    if bind_address.is_unspecified() {
        return ips.to_vec();
    }
    let others = ips.iter().filter(|ip| ip.is_ipv4() != bind_address.is_ipv4());
    [bind_address].iter().chain(others).copied().collect()
}

/// What the interfaces tell. Its own address of a family is the first one that others can reach.
fn bare_node(name: Arc<str>) -> Node {
    let addresses = Links::here().and_then(|mut links| links.addresses()).unwrap_or_else(|error| {
        warn!(%error, "this node's addresses are not known");
        Vec::new()
    });
    // These are ours to give; the node has them by our doing alone.
    let addresses: Vec<_> = addresses.into_iter().filter(|address| address.link != IPVS_DEVICE).collect();
    let reachable: Vec<IpAddr> = addresses
        .iter()
        .filter(|address| address.scope == AddressScope::Global)
        .map(|address| address.address.addr())
        .collect();
    let first = |family: Family| reachable.iter().copied().find(|ip| family.has(ip));
    Node {
        name,
        zone: Arc::from(""),
        ips: Family::BOTH.into_iter().filter_map(first).collect(),
        interface_addresses: addresses
            .iter()
            // Nobody asks a link's own addresses for a Service, and each new pod brings some.
            .filter(|address| address.scope != AddressScope::Link)
            .map(|address| address.address.addr())
            .collect(),
        pod_ranges: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
