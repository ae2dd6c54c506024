//! The decisions: who may enter where, and what happens to whom.
//!
//! [`Context::verdicts`] is the decision table. Everything that kube-proxy's booleans say about policies,
//! ranges and endpoints ends there as a list of sources and verdicts.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::claims::Claim;
use crate::endpoints::{Anywhere, Selection, Uses, candidates, is_local_and_ready, select, serving};
use crate::facts::{
    ClientHeader, Facts, LocalPodsSetting, LocalhostNodePorts, MasqueradeAll, NodePortSetting, Policy,
    Service, ServiceKind, ServicePort, Touched,
};
use crate::few::Few;
use crate::names::{Family, Port, Protocol, ServiceName, ServicePortName};
use crate::plan::{
    Address, Entrance, HealthCheck, LocalPods, Masquerade, NodePlan, NodePortAddresses, Plan, PoolName,
    Problem, ServicePlan, Source, Verdict,
};

/// Plans what was touched. Cannot fail: what is refused is left out and told.
pub fn plan(facts: &Facts, touched: &Touched, family: Family) -> (Plan, Vec<Problem>) {
    let node = Arc::new(node_plan(facts, family));
    let mut problems = Vec::new();
    let mut services = Vec::new();
    for name in facts.touched_services(touched) {
        let ports = service_plans(facts, &node, &name, &mut problems);
        services.push((name, ports));
    }
    (Plan { node, services }, problems)
}

fn node_plan(facts: &Facts, family: Family) -> NodePlan {
    let settings = &facts.settings;
    let of_family = |ranges: &[IpNet]| ranges.iter().copied().find(|range| family.has(&range.addr()));
    let local_pods = match &settings.local_pods {
        LocalPodsSetting::Ranges(ranges) => of_family(ranges).map(LocalPods::Range),
        LocalPodsSetting::NodeRanges => of_family(&facts.node.pod_ranges).map(LocalPods::Range),
        LocalPodsSetting::Interface(name) => Some(LocalPods::Interface(Arc::clone(name))),
        LocalPodsSetting::InterfacePrefix(prefix) => Some(LocalPods::InterfacePrefix(Arc::clone(prefix))),
    };
    NodePlan {
        family,
        local_pods,
        masquerade_all: settings.masquerade_all,
        mark: settings.mark,
        addresses: node_addresses(facts, family),
        node_ports: node_port_addresses(facts, family),
        localhost_node_ports: localhost_node_ports(facts, family),
        endpoint_comments: facts.endpoint_comments(),
        service_ranges: facts
            .service_ranges
            .iter()
            .copied()
            .filter(|range| family.has(&range.addr()))
            .collect(),
    }
}

fn node_addresses(facts: &Facts, family: Family) -> Vec<IpAddr> {
    let of_one_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let all = facts.node.interface_addresses.iter().copied();
    let own: BTreeSet<IpAddr> =
        all.filter(|ip| family.has(ip) && !ip.is_loopback() && !of_one_link(ip)).collect();
    own.into_iter().collect()
}

fn node_port_addresses(facts: &Facts, family: Family) -> NodePortAddresses {
    let ranges = node_port_ranges(facts, family);
    if ranges.iter().all(|range| range.prefix_len() != 0) && !ranges.is_empty() {
        let selected = |ip: &IpAddr| ranges.iter().any(|range| range.contains(ip)) && !ip.is_loopback();
        let selected: BTreeSet<_> = facts.node.interface_addresses.iter().copied().filter(selected).collect();
        NodePortAddresses::Only(selected.into_iter().collect())
    } else {
        NodePortAddresses::All
    }
}

/// By rules localhost is served for IPv4 alone (`::1` cannot be routed), and only where the ranges leave it in; by
/// listeners for both, where a range of loopback has it.
fn localhost_node_ports(facts: &Facts, family: Family) -> LocalhostNodePorts {
    let ranges = node_port_ranges(facts, family);
    let localhost = family.localhost();
    let is_served = match facts.settings.localhost_node_ports {
        LocalhostNodePorts::Ignore => false,
        LocalhostNodePorts::Serve => {
            let left_in = |range: &IpNet| range.addr().is_loopback() || range.contains(&localhost);
            family == Family::V4 && (ranges.is_empty() || ranges.iter().any(left_in))
        }
        LocalhostNodePorts::Relay => {
            ranges.iter().any(|range| range.addr().is_loopback() && range.contains(&localhost))
        }
    };
    if is_served { facts.settings.localhost_node_ports } else { LocalhostNodePorts::Ignore }
}

/// The ranges that select node port addresses of a family; none for all.
fn node_port_ranges(facts: &Facts, family: Family) -> Vec<IpNet> {
    let own = facts.node.ips.iter().filter(|ip| !ip.is_loopback()).copied().map(IpNet::from);
    let ranges = match &facts.settings.node_ports {
        NodePortSetting::Primary(ranges) => own.chain(ranges.iter().copied()).collect(),
        NodePortSetting::Ranges(ranges) => ranges.clone(),
    };
    ranges.into_iter().filter(|range| family.has(&range.addr())).collect()
}

fn service_plans(
    facts: &Facts,
    node: &NodePlan,
    name: &ServiceName,
    problems: &mut Vec<Problem>,
) -> Vec<ServicePlan> {
    let Some(service) = facts.services.get(name) else { return Vec::new() };
    let Some(cluster_ip) = service.cluster_ips.iter().copied().find(|ip| node.family.has(ip)) else {
        return Vec::new();
    };
    let mut taken = BTreeSet::new();
    let health_check = health_check(facts, node, name, service);
    let context = Context { facts, node, name, service, cluster_ip, health_check };
    service.ports.iter().map(|port| context.service_plan(port, &mut taken, problems)).collect()
}

/// What the ports of one Service are planned from.
struct Context<'a> {
    facts: &'a Facts,
    node: &'a NodePlan,
    name: &'a ServiceName,
    service: &'a Service,
    cluster_ip: IpAddr,
    health_check: Option<HealthCheck>,
}

impl Context<'_> {
    fn service_plan(
        &self,
        port: &ServicePort,
        taken: &mut BTreeSet<Claim>,
        problems: &mut Vec<Problem>,
    ) -> ServicePlan {
        let name = ServicePortName {
            service: self.name.clone(),
            port: Arc::clone(&port.name),
            protocol: port.protocol,
        };
        let addresses = self.owned(&name, self.addresses(port), taken, problems);
        let slices = self.facts.slices.get(self.name).into_iter().flat_map(Few::values).map(|slice| &**slice);
        let weights = &self.service.weights;
        let candidates = candidates(slices, &name, self.node.family, &self.facts.node, weights);
        let selection = select(&candidates, self.uses(port), &self.facts.node);
        let serving = match port.protocol {
            Protocol::Udp => serving(&candidates),
            Protocol::Tcp | Protocol::Sctp => Vec::new(),
        };
        let entrances = addresses
            .into_iter()
            .map(|at| Entrance { at, verdicts: self.verdicts(at, &selection) })
            .collect();
        ServicePlan {
            name,
            cluster: selection.cluster,
            local: selection.local,
            affinity: self.service.affinity,
            scheduler: self.service.scheduler.clone(),
            header: match port.protocol {
                Protocol::Tcp => self.service.header,
                Protocol::Udp | Protocol::Sctp => ClientHeader::None,
            },
            entrances,
            named_on_node: self.named_on_node(port),
            serving,
            health_check: self.health_check,
        }
    }

    fn addresses(&self, port: &ServicePort) -> Vec<Address> {
        let of_family = |ips: &'_ [IpAddr]| -> Vec<IpAddr> {
            ips.iter().copied().filter(|ip| self.node.family.has(ip)).collect()
        };
        let load_balancer_ips = of_family(&self.service.load_balancer_ips);
        let external_ips = of_family(&self.service.external_ips);
        std::iter::once(Address::ClusterIp(self.cluster_ip, port.port))
            .chain(load_balancer_ips.into_iter().map(|ip| Address::LoadBalancerIp(ip, port.port)))
            .chain(external_ips.into_iter().map(|ip| Address::ExternalIp(ip, port.port)))
            .chain(port.node_port.map(Address::NodePort))
            .collect()
    }

    /// Leaves out what an older Service or an earlier port has, and what is named twice.
    fn owned(
        &self,
        name: &ServicePortName,
        addresses: Vec<Address>,
        taken: &mut BTreeSet<Claim>,
        problems: &mut Vec<Problem>,
    ) -> Vec<Address> {
        let mut own = BTreeSet::new();
        let mut owned = Vec::new();
        for address in addresses {
            let claim = address.claim(name);
            let (field, loser) = (address.field(), name.clone());
            match self.facts.claims.owner(&claim) {
                Some(winner) if winner != self.name => {
                    let (address, winner) = (format!("{address}/{}", name.protocol), winner.clone());
                    problems.push(Problem::AddressTaken { loser, field, address, winner });
                }
                Some(_) | None if own.contains(&claim) => {}
                Some(_) | None if taken.contains(&claim) => {
                    let address = format!("{address}/{}", name.protocol);
                    problems.push(Problem::PortTaken { loser, field, address });
                }
                Some(_) | None => {
                    own.insert(claim);
                    owned.push(address);
                }
            }
        }
        taken.extend(own);
        owned
    }

    fn named_on_node(&self, port: &ServicePort) -> Vec<IpAddr> {
        let Some(number) = port.node_port.and_then(|port| Port::new(port.get())) else { return Vec::new() };
        let is_named =
            |ip: &IpAddr| self.facts.claims.owner(&Claim::Address(*ip, number, port.protocol)).is_some();
        self.node.addresses.iter().copied().filter(is_named).collect()
    }

    fn is_external(&self, port: &ServicePort) -> bool {
        let of_family = |ips: &[IpAddr]| ips.iter().any(|ip| self.node.family.has(ip));
        port.node_port.is_some()
            || of_family(&self.service.load_balancer_ips)
            || of_family(&self.service.external_ips)
    }

    fn uses(&self, port: &ServicePort) -> Uses {
        let external = self.is_external(port);
        match (self.service.internal_policy, self.external_policy()) {
            (Policy::Local, _) if !external => Uses::Local,
            (Policy::Cluster, _) if !external => Uses::Cluster,
            (Policy::Cluster, Policy::Cluster) => Uses::Cluster,
            (Policy::Local, _) | (_, Policy::Local) => Uses::Both,
        }
    }

    /// The external policy; a Service of type ClusterIP has one only if it has external IPs.
    fn external_policy(&self) -> Policy {
        match self.service.kind {
            ServiceKind::ClusterIp if self.service.external_ips.is_empty() => Policy::Cluster,
            ServiceKind::ClusterIp | ServiceKind::NodePort | ServiceKind::LoadBalancer => {
                self.service.external_policy
            }
        }
    }

    fn verdicts(&self, at: Address, selection: &Selection) -> Vec<(Source, Verdict)> {
        match at {
            Address::ClusterIp(..) => self.internal_verdicts(selection),
            Address::ExternalIp(..) | Address::NodePort(_) => self.external_verdicts(selection),
            Address::LoadBalancerIp(..) => {
                let mut verdicts = self.external_verdicts(selection);
                if let Some(ranges) = self.admitted_ranges() {
                    verdicts.insert(0, (Source::Outside(ranges), Verdict::Drop));
                }
                verdicts
            }
        }
    }

    fn internal_verdicts(&self, selection: &Selection) -> Vec<(Source, Verdict)> {
        let pool = match (selection.anywhere, self.service.internal_policy) {
            (Anywhere::None, _) => return vec![(Source::Anyone, Verdict::Reject)],
            (Anywhere::Some, Policy::Local) if selection.local.is_empty() => {
                return vec![(Source::Anyone, Verdict::Drop)];
            }
            (Anywhere::Some, Policy::Local) => PoolName::Local,
            (Anywhere::Some, Policy::Cluster) => PoolName::Cluster,
        };
        let forward = |masquerade| Verdict::Forward { pool, masquerade };
        match (self.node.masquerade_all, &self.node.local_pods) {
            (MasqueradeAll::Yes, _) => vec![(Source::Anyone, forward(Masquerade::Yes))],
            (MasqueradeAll::No, Some(_)) => {
                vec![(Source::Pod, forward(Masquerade::No)), (Source::Anyone, forward(Masquerade::Yes))]
            }
            (MasqueradeAll::No, None) => vec![(Source::Anyone, forward(Masquerade::No))],
        }
    }

    fn external_verdicts(&self, selection: &Selection) -> Vec<(Source, Verdict)> {
        let forward = |pool, masquerade| Verdict::Forward { pool, masquerade };
        if selection.anywhere == Anywhere::None {
            return vec![(Source::Anyone, Verdict::Reject)];
        }
        if self.external_policy() == Policy::Cluster {
            return vec![(Source::Anyone, forward(PoolName::Cluster, Masquerade::Yes))];
        }
        // Whoever is inside already asks for the Service, not for this node's part of it.
        let pods =
            self.node.local_pods.iter().map(|_| (Source::Pod, forward(PoolName::Cluster, Masquerade::No)));
        let others =
            if selection.local.is_empty() { Verdict::Drop } else { forward(PoolName::Local, Masquerade::No) };
        pods.chain([(Source::Node, forward(PoolName::Cluster, Masquerade::Yes)), (Source::Anyone, others)])
            .collect()
    }

    /// The sources that a load balancer IP admits, or none for all. When the node itself is admitted, so is the
    /// load balancer IP as a source: that is what the node's own traffic to it carries.
    fn admitted_ranges(&self) -> Option<Vec<IpNet>> {
        let of_family = |range: &IpNet| self.node.family.has(&range.addr());
        let mut ranges: Vec<IpNet> = self.service.source_ranges.iter().copied().filter(of_family).collect();
        if ranges.is_empty() || ranges.iter().any(|range| range.prefix_len() == 0) {
            return None;
        }
        let node_ip = self.facts.node_ip(self.node.family);
        if ranges.iter().any(|range| range.contains(&node_ip)) {
            let vips = self.service.load_balancer_ips.iter().filter(|ip| self.node.family.has(ip));
            ranges.extend(vips.copied().map(IpNet::from));
        }
        Some(ranges)
    }
}

/// What a load balancer may ask of this node, the same for all ports of a Service.
fn health_check(
    facts: &Facts,
    node: &NodePlan,
    name: &ServiceName,
    service: &Service,
) -> Option<HealthCheck> {
    let port = match (service.kind, service.external_policy) {
        (ServiceKind::LoadBalancer, Policy::Local) => service.health_check_node_port?,
        (ServiceKind::LoadBalancer, Policy::Cluster)
        | (ServiceKind::ClusterIp | ServiceKind::NodePort, _) => {
            return None;
        }
    };
    let slices = facts.slices.get(name).into_iter().flat_map(Few::values);
    let addresses: BTreeSet<IpAddr> = slices
        .filter(|slice| slice.family == node.family && !slice.ports.is_empty())
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| is_local_and_ready(endpoint, &facts.node))
        .map(|endpoint| endpoint.address)
        .collect();
    Some(HealthCheck { port, local_ready: addresses.len() })
}

impl Facts {
    /// The node's own address of a family, loopback if unknown.
    fn node_ip(&self, family: Family) -> IpAddr {
        self.node.ips.iter().copied().find(|ip| family.has(ip)).unwrap_or(family.localhost())
    }
}

#[cfg(test)]
mod tests;
