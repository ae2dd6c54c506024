//! Facts: what is known of Services, endpoints and this node, and what a change of them touches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::claims::Claims;
use crate::few::Few;
use crate::names::{Family, Mark, NodePort, Port, Protocol, Seconds, ServiceName, SliceName, Weight};
use crate::plan::EndpointComments;

/// One thing that became known. The first hop of the line.
#[derive(Clone, Debug)]
pub enum FactChange {
    /// A Service as it now is, or its end.
    Service(ServiceName, Option<Arc<Service>>),
    /// An EndpointSlice as it now is, or its end.
    EndpointSlice(SliceName, Option<Arc<EndpointSlice>>),
    /// This node as it now is.
    Node(Node),
    /// What the operator decided, as it now is.
    Settings(Settings),
    /// The ranges that cluster IPs are allocated from (ServiceCIDR objects).
    ServiceRanges(Vec<IpNet>),
}

/// What a change touched, and hence what must be planned again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// These Services, also those that are gone.
    pub(crate) services: BTreeSet<ServiceName>,
    /// Whether it is only they.
    pub(crate) scope: Scope,
}

/// How far a change reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// To the Services that it names.
    #[default]
    Named,
    /// To the node itself, and the Services that it names.
    Node,
    /// To every Service, and the node itself.
    Everything,
}

/// A Service, reduced to what a packet can notice (core/v1 `ServiceSpec` and `ServiceStatus`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// metadata.creationTimestamp in seconds since 1970; the oldest owner of an address keeps it.
    pub created: Option<i64>,
    /// spec.type
    pub kind: ServiceKind,
    /// The cluster IPs, at most one a family.
    pub cluster_ips: Vec<IpAddr>,
    /// spec.ports
    pub ports: Vec<ServicePort>,
    /// spec.externalIPs
    pub external_ips: Vec<IpAddr>,
    /// status.loadBalancer.ingress[].ip of ipMode VIP
    pub load_balancer_ips: Vec<IpAddr>,
    /// spec.loadBalancerSourceRanges
    pub source_ranges: Vec<IpNet>,
    /// spec.sessionAffinity `ClientIP`, with its timeout
    pub affinity: Option<Seconds>,
    /// spec.externalTrafficPolicy
    pub external_policy: Policy,
    /// spec.internalTrafficPolicy
    pub internal_policy: Policy,
    /// spec.healthCheckNodePort
    pub health_check_node_port: Option<NodePort>,
    /// Annotation `fairlead.dev/weights`: of endpoints, by the name of their node or zone.
    pub weights: BTreeMap<Arc<str>, Weight>,
    /// Annotation `fairlead.dev/ipvs-scheduler`
    pub scheduler: Option<Arc<str>>,
    /// Annotation `fairlead.dev/proxy-protocol`
    pub header: ClientHeader,
}

/// What an endpoint is told of its client by whoever relays a connection to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientHeader {
    /// Nothing.
    #[default]
    None,
    /// The header of the PROXY protocol's version 2.
    ProxyV2,
}

/// spec.type of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceKind {
    /// `ClusterIP`
    #[default]
    ClusterIp,
    /// `NodePort`
    NodePort,
    /// `LoadBalancer`
    LoadBalancer,
}

/// A traffic policy of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// All endpoints.
    #[default]
    Cluster,
    /// Those on this node.
    Local,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// name, empty if the Service has but one and gives it none
    pub name: Arc<str>,
    /// protocol
    pub protocol: Protocol,
    /// port
    pub port: Port,
    /// nodePort
    pub node_port: Option<NodePort>,
}

/// An EndpointSlice of one Service (discovery.k8s.io/v1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The Service that the label `kubernetes.io/service-name` names.
    pub service: ServiceName,
    /// addressType
    pub family: Family,
    /// ports that have both a name and a number
    pub ports: Vec<SlicePort>,
    /// endpoints that have an address
    pub endpoints: Vec<SliceEndpoint>,
}

/// One port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// name
    pub name: Arc<str>,
    /// protocol
    pub protocol: Protocol,
    /// port
    pub port: Port,
}

/// One endpoint of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// addresses[0]
    pub address: IpAddr,
    /// conditions
    pub health: Health,
    /// nodeName
    pub node: Option<Arc<str>>,
    /// zone
    pub zone: Option<Arc<str>>,
    /// Annotation `fairlead.dev/weights` of its slice
    pub weight: Option<Weight>,
    /// hints
    pub hints: Option<Box<Hints>>,
}

/// The conditions of an endpoint, as far as they select it. Better ones sort first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// ready; it may terminate all the same (`publishNotReadyAddresses`)
    Ready,
    /// serving and terminating, and not ready: used when nothing is ready
    Terminating,
    /// never used
    Unready,
}

/// The hints of an endpoint: where it should be used. An empty list is no hint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// forZones[].name
    pub zones: Vec<Arc<str>>,
    /// forNodes[].name
    pub nodes: Vec<Arc<str>>,
}

/// This node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, trimmed and in lower case.
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`; empty if it has none.
    pub zone: Arc<str>,
    /// The node's own address of each family, where known.
    pub ips: Vec<IpAddr>,
    /// All addresses of its interfaces; node ports are served on those that the settings select.
    pub interface_addresses: Vec<IpAddr>,
    /// spec.podCIDRs
    pub pod_ranges: Vec<IpNet>,
}

/// What the operator decided (`KubeProxyConfiguration`), as far as a plan depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// masqueradeAll
    pub masquerade_all: MasqueradeAll,
    /// masqueradeBit, as a mark
    pub mark: Mark,
    /// detectLocalMode and what it needs
    pub local_pods: LocalPodsSetting,
    /// nodePortAddresses
    pub node_ports: NodePortSetting,
    /// iptables.localhostNodePorts, or what nodePortAddresses say of localhost in the nftables mode
    pub localhost_node_ports: LocalhostNodePorts,
}

/// Whether all traffic to cluster IPs is masqueraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasqueradeAll {
    /// All of it.
    Yes,
    /// Only what comes from outside the cluster.
    No,
}

/// Whether node ports are served on localhost, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalhostNodePorts {
    /// On 127.0.0.0/8 by rules, in the modes that can.
    Serve,
    /// On 127.0.0.1 and `::1` by listeners, which need no route: TCP alone, and where a range names loopback.
    Relay,
    /// Left alone.
    Ignore,
}

/// How traffic of local pods is told from the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalPodsSetting {
    /// By these pod ranges; the first of each family counts.
    Ranges(Vec<IpNet>),
    /// By the node's own pod ranges; the first of each family counts.
    NodeRanges,
    /// By this interface.
    Interface(Arc<str>),
    /// By interfaces whose names start so.
    InterfacePrefix(Arc<str>),
}

/// The addresses that node ports are served on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortSetting {
    /// The node's own address of each family, and those within these ranges.
    Primary(Vec<IpNet>),
    /// Those within these ranges; a family without a range, or with /0, is served on all.
    Ranges(Vec<IpNet>),
}

/// Everything that is known, and the indexes across it.
#[derive(Debug)]
pub struct Facts {
    pub(crate) settings: Settings,
    pub(crate) node: Node,
    pub(crate) service_ranges: Vec<IpNet>,
    pub(crate) services: BTreeMap<ServiceName, Arc<Service>>,
    pub(crate) slices: BTreeMap<ServiceName, Few<SliceName, Arc<EndpointSlice>>>,
    pub(crate) claims: Claims,
    owners: BTreeMap<SliceName, ServiceName>,
    endpoint_count: usize,
}

/// From here on nobody reads rules one by one, and the comments of endpoints cost more than they tell. It is
/// kube-proxy's own limit.
const COMMENTED_ENDPOINTS: usize = 1000;

impl Facts {
    /// Nothing known yet but the settings and the node.
    pub fn new(settings: Settings, node: Node) -> Self {
        Self {
            settings,
            node,
            service_ranges: Vec::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            claims: Claims::default(),
            owners: BTreeMap::new(),
            endpoint_count: 0,
        }
    }

    /// Takes a change in, and tells what it touched.
    pub fn apply(&mut self, change: FactChange) -> Touched {
        match change {
            FactChange::Service(name, service) => self.apply_service(name, service),
            FactChange::EndpointSlice(name, slice) => self.apply_slice(name, slice),
            FactChange::Node(node) => {
                Touched::everything_if(std::mem::replace(&mut self.node, node) != self.node)
            }
            FactChange::Settings(settings) => {
                Touched::everything_if(std::mem::replace(&mut self.settings, settings) != self.settings)
            }
            FactChange::ServiceRanges(ranges) => Touched::everything_if(
                std::mem::replace(&mut self.service_ranges, ranges) != self.service_ranges,
            ),
        }
    }

    /// How many Services are known.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Whether there is such a Service.
    pub fn has_service(&self, name: &ServiceName) -> bool {
        self.services.contains_key(name)
    }

    /// The Services that were touched, each by its name.
    pub fn touched_services(&self, touched: &Touched) -> BTreeSet<ServiceName> {
        let mut names = touched.services.clone();
        if touched.is_everything() {
            names.extend(self.services.keys().cloned());
        }
        names
    }

    /// Whether endpoints are worth a comment.
    pub(crate) fn endpoint_comments(&self) -> EndpointComments {
        if self.endpoint_count > COMMENTED_ENDPOINTS { EndpointComments::No } else { EndpointComments::Yes }
    }

    fn apply_service(&mut self, name: ServiceName, service: Option<Arc<Service>>) -> Touched {
        if self.services.get(&name) == service.as_ref() {
            return Touched::nothing();
        }
        let before = self.services.get(&name).map(|service| &**service);
        let mut touched = self.claims.replace(&name, before, service.as_deref());
        touched.insert(name.clone());
        match service {
            Some(service) => self.services.insert(name, service),
            None => self.services.remove(&name),
        };
        Touched::services(touched)
    }

    fn apply_slice(&mut self, name: SliceName, slice: Option<Arc<EndpointSlice>>) -> Touched {
        let mut touched = BTreeSet::new();
        let before = self.owners.remove(&name).and_then(|owner| {
            let slices = self.slices.get_mut(&owner)?;
            let before = slices.remove(&name);
            if slices.is_empty() {
                self.slices.remove(&owner);
            }
            touched.insert(owner);
            before
        });
        let same = before == slice;
        let comments = self.endpoint_comments();
        let count =
            |slice: &Option<Arc<EndpointSlice>>| slice.as_ref().map_or(0, |slice| slice.endpoint_count());
        self.endpoint_count = self.endpoint_count + count(&slice) - count(&before);
        if let Some(slice) = slice {
            touched.insert(slice.service.clone());
            self.owners.insert(name.clone(), slice.service.clone());
            self.slices.entry(slice.service.clone()).or_default().insert(name, slice);
        }
        if same {
            return Touched::nothing();
        }
        Touched::services(touched).and(Touched::everything_if(self.endpoint_comments() != comments))
    }
}

impl EndpointSlice {
    /// How many endpoints it gives to the ports of its Service, all together.
    fn endpoint_count(&self) -> usize {
        self.endpoints.len() * self.ports.len()
    }
}

impl Touched {
    /// No Service, and not the node.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// The node itself, but no Service.
    pub fn node() -> Self {
        Self { services: BTreeSet::new(), scope: Scope::Node }
    }

    /// Every Service, and the node itself.
    pub fn everything() -> Self {
        Self { services: BTreeSet::new(), scope: Scope::Everything }
    }

    /// These Services alone.
    pub fn services(services: BTreeSet<ServiceName>) -> Self {
        Self { services, scope: Scope::Named }
    }

    /// Whether there is nothing to plan.
    pub fn is_nothing(&self) -> bool {
        self.services.is_empty() && self.scope == Scope::Named
    }

    /// Whether every Service is touched, named or not.
    pub fn is_everything(&self) -> bool {
        self.scope == Scope::Everything
    }

    /// What both touched together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.services.extend(other.services);
        self.scope = self.scope.max(other.scope);
        self
    }

    fn everything_if(changed: bool) -> Self {
        if changed { Self::everything() } else { Self::nothing() }
    }
}

#[cfg(test)]
mod tests;
