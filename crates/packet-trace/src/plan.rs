//! What the plan says of a packet, before any mode has said it in its own words.

use std::net::{IpAddr, SocketAddr};

use service_plan::{
    Address, Entrance, LocalPods, LocalhostNodePorts, Masquerade, NodePlan, NodePortAddresses, Protocol,
    ServicePlan, Source, Verdict,
};

use crate::{Host, Next, Outcome, Packet, Puzzle, SeenAs};

/// The plan of one IP family: the node's, and those of all service ports.
#[derive(Clone, Copy, Debug)]
pub struct PlanReader<'a> {
    /// The node's part.
    pub node: &'a NodePlan,
    /// All service ports.
    pub services: &'a [ServicePlan],
    /// The node itself.
    pub host: &'a Host,
}

impl PlanReader<'_> {
    /// What happens to a packet.
    pub fn outcome(&self, packet: &Packet) -> Result<Outcome, Puzzle> {
        let Some((service, entrance)) = self.entrance(packet) else { return Ok(Outcome::Untouched) };
        let fitting = entrance.verdicts.iter().find(|(source, _)| self.fits(source, packet));
        let (_, verdict) = fitting.ok_or_else(|| Puzzle::NoVerdict(entrance.at.to_string()))?;
        match verdict {
            Verdict::Reject => Ok(Outcome::Rejected),
            Verdict::Drop => Ok(Outcome::Dropped),
            Verdict::Forward { pool, masquerade } => {
                let endpoints = service.pool(*pool).iter().map(|endpoint| endpoint.at);
                let to = endpoints.map(|at| (at, seen_as(packet, at, *masquerade))).collect();
                let next = if service.affinity.is_some() { Next::Same } else { Next::Anywhere };
                Ok(Outcome::Forwarded { to, next })
            }
        }
    }

    /// Where the packet enters: an address that is named wins over a node port.
    fn entrance(&self, packet: &Packet) -> Option<(&ServicePlan, &Entrance)> {
        let of_protocol = || self.services.iter().filter(|service| service.name.protocol == packet.protocol);
        let entrances =
            || of_protocol().flat_map(|service| service.entrances.iter().map(move |each| (service, each)));
        entrances()
            .find(|(_, entrance)| named_address(entrance.at) == Some(packet.to))
            .or_else(|| entrances().find(|(_, entrance)| self.is_node_port(entrance.at, packet)))
    }

    fn is_node_port(&self, at: Address, packet: &Packet) -> bool {
        matches!(at, Address::NodePort(port) if port.get() == packet.to.port())
            && self.serves_node_ports(&packet.to.ip(), packet.protocol)
    }

    fn serves_node_ports(&self, ip: &IpAddr, protocol: Protocol) -> bool {
        let is_first = *ip == self.node.family.localhost();
        match (&self.node.node_ports, self.node.localhost_node_ports) {
            (_, LocalhostNodePorts::Ignore) if ip.is_loopback() => false,
            (_, LocalhostNodePorts::Relay) if ip.is_loopback() => is_first && protocol == Protocol::Tcp,
            (NodePortAddresses::All, _) => self.host.has(ip) && (ip.is_ipv4() || !ip.is_loopback()),
            // Localhost is one of them as its first address alone.
            (NodePortAddresses::Only(_), LocalhostNodePorts::Serve) if ip.is_loopback() => {
                is_first && ip.is_ipv4()
            }
            (NodePortAddresses::Only(addresses), _) => addresses.contains(ip),
        }
    }

    fn fits(&self, source: &Source, packet: &Packet) -> bool {
        let ip = packet.from.ip();
        match source {
            Source::Outside(ranges) => !ranges.iter().any(|range| range.contains(&ip)),
            Source::Pod => self.is_local_pod(packet),
            Source::Node => self.host.has(&ip),
            Source::Anyone => true,
        }
    }

    fn is_local_pod(&self, packet: &Packet) -> bool {
        let interface = self.host.interface_of(packet.from);
        match &self.node.local_pods {
            None => false,
            Some(LocalPods::Range(range)) => range.contains(&packet.from.ip()),
            Some(LocalPods::Interface(name)) => interface == Some(&**name),
            Some(LocalPods::InterfacePrefix(prefix)) => {
                interface.is_some_and(|name| name.starts_with(&**prefix))
            }
        }
    }
}

fn named_address(at: Address) -> Option<SocketAddr> {
    match at {
        Address::ClusterIp(ip, port) | Address::ExternalIp(ip, port) | Address::LoadBalancerIp(ip, port) => {
            Some(SocketAddr::new(ip, port.get()))
        }
        Address::NodePort(_) => None,
    }
}

/// Whoever is sent to itself is masqueraded, or it would answer itself directly.
fn seen_as(packet: &Packet, endpoint: SocketAddr, masquerade: Masquerade) -> SeenAs {
    match masquerade {
        Masquerade::Yes => SeenAs::Node,
        Masquerade::No if endpoint.ip() == packet.from.ip() => SeenAs::Node,
        Masquerade::No => SeenAs::Itself,
    }
}

#[cfg(test)]
mod tests;
