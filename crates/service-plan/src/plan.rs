//! The plan: what each service port should do on this node, in no mode's words.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use thiserror::Error;

use crate::claims::Claim;
use crate::facts::{ClientHeader, LocalhostNodePorts, MasqueradeAll};
use crate::names::{Family, Mark, NodePort, Port, Seconds, ServiceName, ServicePortName, Weight};

/// What follows from the facts for one IP family, as far as they were touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// This node; every Service that is not in `services` is as it was, unless `node` differs from before.
    pub node: Arc<NodePlan>,
    /// The touched Services. One without service ports has nothing in this family, or is gone.
    pub services: Vec<(ServiceName, Vec<ServicePlan>)>,
}

/// The node's part of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// The family.
    pub family: Family,
    /// How traffic of local pods is told from the rest; without it nothing is.
    pub local_pods: Option<LocalPods>,
    /// Whether all traffic to cluster IPs is masqueraded.
    pub masquerade_all: MasqueradeAll,
    /// The mark that asks for masquerade.
    pub mark: Mark,
    /// Its interfaces' own addresses of this family, sorted; without loopback and those of one link alone.
    pub addresses: Vec<IpAddr>,
    /// Where node ports are served.
    pub node_ports: NodePortAddresses,
    /// Whether node ports are served on localhost too, by the modes that can.
    pub localhost_node_ports: LocalhostNodePorts,
    /// Whether endpoints are worth a comment.
    pub endpoint_comments: EndpointComments,
    /// The ranges that cluster IPs come from, as far as known.
    pub service_ranges: Vec<IpNet>,
}

/// Whether a mode comments what it writes for each endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointComments {
    /// Somebody may read them.
    Yes,
    /// There are too many.
    No,
}

/// How a packet of a local pod is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalPods {
    /// By its source.
    Range(IpNet),
    /// By the interface that it came in on.
    Interface(Arc<str>),
    /// By the beginning of that interface's name.
    InterfacePrefix(Arc<str>),
}

/// The local addresses on which node ports are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// All of them, localhost only as [`NodePlan::localhost_node_ports`] says.
    All,
    /// These alone, sorted.
    Only(Vec<IpAddr>),
}

/// One service port, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    /// Which one.
    pub name: ServicePortName,
    /// Endpoints for traffic with a Cluster policy; empty if no entrance uses them.
    pub cluster: Pool,
    /// Endpoints for traffic with a Local policy; empty if no entrance uses them.
    pub local: Pool,
    /// How long a client keeps its endpoint.
    pub affinity: Option<Seconds>,
    /// Who chooses the endpoint in the modes that leave it to somebody, if the Service says so.
    pub scheduler: Option<Arc<str>>,
    /// What endpoints are told of a client by a mode that relays. Only connections have a beginning to say it at.
    pub header: ClientHeader,
    /// The addresses at which it can be reached.
    pub entrances: Vec<Entrance>,
    /// The node's addresses on which some Service names this port as its own, so that it is no node port there.
    pub named_on_node: Vec<IpAddr>,
    /// Where UDP flows may stay: all endpoints that serve, wherever they are and whatever the policies say, sorted.
    pub serving: Vec<SocketAddr>,
    /// What a load balancer may ask of this node about the Service.
    pub health_check: Option<HealthCheck>,
}

/// The endpoints of one policy, in the order of their text.
pub type Pool = Vec<Endpoint>;

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its address and port.
    pub at: SocketAddr,
    /// Whether it runs on this node.
    pub locality: Locality,
    /// Its share of new connections; never 0.
    pub weight: Weight,
}

/// Where an endpoint runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locality {
    /// On this node.
    Local,
    /// Elsewhere, or nobody said where.
    Remote,
}

/// An address of a service port, and what happens to whom there. The first source that fits decides; the
/// last one fits anyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// The address.
    pub at: Address,
    /// From whom, and then what.
    pub verdicts: Vec<(Source, Verdict)>,
}

/// Where a service port can be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A cluster IP and port.
    ClusterIp(IpAddr, Port),
    /// An external IP and port.
    ExternalIp(IpAddr, Port),
    /// A load balancer's IP and port.
    LoadBalancerIp(IpAddr, Port),
    /// A port on the node's own addresses, as [`NodePlan::node_ports`] says.
    NodePort(NodePort),
}

/// From whom a packet comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From none of these ranges.
    Outside(Vec<IpNet>),
    /// From a local pod, as [`NodePlan::local_pods`] tells.
    Pod,
    /// From one of the node's own addresses.
    Node,
    /// From anywhere.
    Anyone,
}

/// What happens to a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to one endpoint of a pool.
    Forward {
        /// Which pool.
        pool: PoolName,
        /// Under whose address.
        masquerade: Masquerade,
    },
    /// It is refused with an ICMP port unreachable.
    Reject,
    /// It is lost without a word.
    Drop,
}

/// A pool of a [`ServicePlan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolName {
    /// [`ServicePlan::cluster`]
    Cluster,
    /// [`ServicePlan::local`]
    Local,
}

/// Whether the endpoint sees the node in place of the client. Whoever is sent to itself is always masqueraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// It sees the node.
    Yes,
    /// It sees the client.
    No,
}

/// A health check node port and what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The port.
    pub port: NodePort,
    /// How many distinct addresses of ready endpoints the Service has on this node.
    pub local_ready: usize,
}

/// An input that is refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Problem {
    /// Two Services name the same address and port.
    #[error(
        "Service {loser}: {field} {address} is already taken by Service {winner}, which is older or first by name; the address is not served for {loser}"
    )]
    AddressTaken {
        /// Who does not get it.
        loser: ServicePortName,
        /// By which field it asked.
        field: &'static str,
        /// What it asked for.
        address: String,
        /// Who has it.
        winner: ServiceName,
    },
    /// Two ports of one Service have the same number and protocol.
    #[error(
        "Service {loser}: {field} {address} is already taken by another port of the same Service, the first one keeps it"
    )]
    PortTaken {
        /// The port that does not get it.
        loser: ServicePortName,
        /// By which field it asked.
        field: &'static str,
        /// What it asked for.
        address: String,
    },
}

impl Address {
    pub(crate) fn claim(self, name: &ServicePortName) -> Claim {
        match self {
            Self::ClusterIp(ip, port) | Self::ExternalIp(ip, port) | Self::LoadBalancerIp(ip, port) => {
                Claim::Address(ip, port, name.protocol)
            }
            Self::NodePort(port) => Claim::NodePort(port, name.protocol),
        }
    }

    /// The field of a Service that gives such an address.
    pub fn field(self) -> &'static str {
        match self {
            Self::ClusterIp(..) => "spec.clusterIP",
            Self::ExternalIp(..) => "spec.externalIPs",
            Self::LoadBalancerIp(..) => "status.loadBalancer.ingress",
            Self::NodePort(_) => "spec.ports.nodePort",
        }
    }
}

impl Problem {
    /// The Service whose input is refused.
    pub fn service(&self) -> &ServiceName {
        match self {
            Self::AddressTaken { loser, .. } | Self::PortTaken { loser, .. } => &loser.service,
        }
    }
}

impl ServicePlan {
    /// The endpoints of a pool.
    pub fn pool(&self, name: PoolName) -> &Pool {
        match name {
            PoolName::Cluster => &self.cluster,
            PoolName::Local => &self.local,
        }
    }
}
