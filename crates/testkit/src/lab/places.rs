//! Which address is where in the lab, and which ports are served.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use packet_trace::Sender;
use service_plan::Protocol;

use crate::{Replayed, Scenario};

/// Every address is in one place.
#[derive(Debug)]
pub(super) struct Places {
    /// The node's own.
    pub(super) node: BTreeSet<IpAddr>,
    /// Pods on the node that are endpoints.
    pub(super) endpoint_pods: BTreeSet<IpAddr>,
    /// Pods on the node that only ask.
    pub(super) asking_pods: BTreeSet<IpAddr>,
    /// Whoever asks from outside.
    pub(super) clients: BTreeSet<IpAddr>,
    /// All others: endpoints elsewhere, and addresses that nobody rewrites.
    pub(super) world: BTreeSet<IpAddr>,
    /// The ports that somebody is asked for.
    pub(super) ports: BTreeSet<u16>,
    /// Where the proxy itself takes connections.
    pub(super) relayed: BTreeSet<SocketAddr>,
    /// Whether somebody asks in SCTP.
    pub(super) sctp: bool,
}

impl Places {
    pub(super) fn of(scenario: &Scenario, steps: &[Replayed], relayed: BTreeSet<SocketAddr>) -> Self {
        let packets = || scenario.steps.iter().flat_map(|step| &step.packets).map(|each| each.packet);
        let node_name = scenario.node_name();
        let mut places = Self {
            node: scenario.stage.addresses.iter().copied().collect(),
            endpoint_pods: BTreeSet::new(),
            asking_pods: BTreeSet::new(),
            clients: BTreeSet::new(),
            world: BTreeSet::new(),
            ports: packets().map(|packet| packet.to.port()).collect(),
            relayed,
            sctp: packets().any(|packet| packet.protocol == Protocol::Sctp),
        };
        places.node.extend(packets().map(|packet| packet.to.ip()).filter(IpAddr::is_loopback));
        for packet in packets() {
            match packet.from {
                Sender::Pod(ip) => places.asking_pods.insert(ip),
                Sender::Outside(ip) => places.clients.insert(ip),
                Sender::Node(ip) => places.node.insert(ip),
            };
        }
        let mut others: BTreeSet<IpAddr> = packets().map(|packet| packet.to.ip()).collect();
        for slice in steps.iter().flat_map(|step| &step.slices) {
            places.ports.extend(slice.ports.iter().map(|port| port.port.get()));
            for endpoint in &slice.endpoints {
                let is_local = endpoint.node.as_deref() == Some(&*node_name);
                if is_local && !places.node.contains(&endpoint.address) {
                    places.endpoint_pods.insert(endpoint.address);
                }
                others.insert(endpoint.address);
            }
        }
        places.asking_pods.retain(|ip| !places.endpoint_pods.contains(ip));
        places.world = others.into_iter().filter(|ip| !places.has(ip)).collect();
        places
    }

    /// Every address in one of these ranges, at every port.
    pub(super) fn served(&self, addresses: &BTreeSet<IpAddr>) -> Vec<SocketAddr> {
        let at = |ip: &IpAddr| self.ports.iter().map(|port| SocketAddr::new(*ip, *port)).collect::<Vec<_>>();
        addresses.iter().flat_map(at).collect()
    }

    fn has(&self, ip: &IpAddr) -> bool {
        [&self.node, &self.endpoint_pods, &self.asking_pods, &self.clients]
            .iter()
            .any(|each| each.contains(ip))
    }
}
