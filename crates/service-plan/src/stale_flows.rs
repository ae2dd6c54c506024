//! Which UDP flows the kernel's connection tracker must forget, since they lead where nobody serves any more.
//!
//! Rules judge the first packet of a flow alone; where it was sent then the tracker sends all that follow. A TCP
//! client notices and connects again. One of UDP, that asks from one port for as long as it lives, does not.
//!
//! More is forgotten than kube-proxy does: also the flows of a service port that lost all its endpoints, that is
//! gone, or that has another node port (kubernetes issues 139629, 141371). And less: a node port is one on the
//! node's own addresses only, and what changed nothing for a flow never ends it (issue 122740).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::names::{Family, NodePort, Protocol};
use crate::plan::{Address, NodePlan, NodePortAddresses, ServicePlan};

/// Where the UDP flows of some Services may lead, by the address that their clients ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows(BTreeMap<Asked, Served>);

/// Who sends the packets of a flow on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentOn {
    /// The kernel, to an endpoint.
    ByKernel,
    /// A relay on this node, to which the kernel sends them.
    ByRelay,
}

/// The flows to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleFlows {
    by_address: BTreeMap<Asked, Spared>,
    /// What is local, as far as node ports go.
    local: Vec<IpNet>,
}

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    At(SocketAddr),
    NodePort(NodePort),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Served {
    By(BTreeSet<SocketAddr>),
    ByRelay,
}

/// The flows to an address that may stay.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Spared {
    /// Those that one of these answers.
    AnsweredBy(BTreeSet<SocketAddr>),
    /// Those that were never sent elsewhere: the address is no Service's, so they are not ours to judge.
    NotSentOn,
}

impl Flows {
    /// Those of these service ports.
    pub fn of<'a>(ports: impl IntoIterator<Item = &'a ServicePlan>, sent_on: SentOn) -> Self {
        let mut flows = BTreeMap::new();
        for port in ports.into_iter().filter(|port| port.name.protocol == Protocol::Udp) {
            let served = match sent_on {
                SentOn::ByKernel => Served::By(port.serving.iter().copied().collect()),
                SentOn::ByRelay => Served::ByRelay,
            };
            flows.extend(port.entrances.iter().map(|entrance| (Asked::of(entrance.at), served.clone())));
        }
        Self(flows)
    }

    /// Whether there is nothing that UDP can ask.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in those of other Services.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend(others.0.iter().map(|(asked, served)| (*asked, served.clone())));
    }
}

/// What went stale between two plans of the same Services. With nothing before, all that cannot be right.
pub fn stale_flows(before: &Flows, after: &Flows, node: &NodePlan) -> StaleFlows {
    let gone = before.0.keys().filter(|asked| !after.0.contains_key(asked));
    let gone = gone.map(|asked| (*asked, Spared::NotSentOn));
    let still = after.0.iter().filter_map(|(asked, served)| {
        Some((*asked, Spared::AnsweredBy(allowed(before.0.get(asked), served)?)))
    });
    StaleFlows { by_address: gone.chain(still).collect(), local: local(node) }
}

/// Who may answer, unless nobody is less allowed to than before.
fn allowed(before: Option<&Served>, after: &Served) -> Option<BTreeSet<SocketAddr>> {
    match (before, after) {
        // What was not there before may have been asked before, and the packets went astray.
        (None | Some(Served::ByRelay), Served::By(now)) => Some(now.clone()),
        // No relay outlives its process, and another's port is not ours.
        (None | Some(Served::By(_)), Served::ByRelay) => Some(BTreeSet::new()),
        (Some(Served::ByRelay), Served::ByRelay) => None,
        (Some(Served::By(then)), Served::By(now)) => {
            let was_refused = then.is_empty() && !now.is_empty();
            (was_refused || !then.is_subset(now)).then(|| now.clone())
        }
    }
}

impl StaleFlows {
    /// Whether no flow can be stale.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// The one address that all of them ask, if there is but one.
    pub fn only_address(&self) -> Option<SocketAddr> {
        match self.by_address.first_key_value() {
            Some((Asked::At(address), _)) if self.by_address.len() == 1 => Some(*address),
            Some(_) | None => None,
        }
    }

    /// Whether a UDP flow is stale, by what its client asks and who answers it.
    pub fn contains(&self, asked: SocketAddr, answered_by: SocketAddr) -> bool {
        let at_address = self.by_address.get(&Asked::At(asked));
        let is_local = || self.local.iter().any(|range| range.contains(&asked.ip()));
        let at_node_port = || {
            let port = NodePort::new(asked.port())?;
            self.by_address.get(&Asked::NodePort(port)).filter(|_| is_local())
        };
        match at_address.or_else(at_node_port) {
            Some(Spared::AnsweredBy(endpoints)) => !endpoints.contains(&answered_by),
            Some(Spared::NotSentOn) => asked != answered_by,
            None => false,
        }
    }
}

impl Asked {
    fn of(address: Address) -> Self {
        match address {
            Address::ClusterIp(ip, port)
            | Address::ExternalIp(ip, port)
            | Address::LoadBalancerIp(ip, port) => Self::At(SocketAddr::new(ip, port.get())),
            Address::NodePort(port) => Self::NodePort(port),
        }
    }
}

/// The addresses on which a node port may have been asked.
fn local(node: &NodePlan) -> Vec<IpNet> {
    let own = match &node.node_ports {
        NodePortAddresses::All => &node.addresses,
        NodePortAddresses::Only(addresses) => addresses,
    };
    own.iter().copied().map(IpNet::from).chain(unlisted(node.family)).collect()
}

/// What every node has of its own, and no plan lists: loopback, and the addresses of one link.
fn unlisted(family: Family) -> Vec<IpNet> {
    match family {
        Family::V4 => {
            let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
            vec![loopback.into()]
        }
        Family::V6 => {
            let link = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
            vec![IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)), link.into()]
        }
    }
}

#[cfg(test)]
mod tests;
