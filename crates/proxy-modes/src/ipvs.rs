//! The ipvs mode: a virtual server for each address of a Service, sets that say what kind of address it is, and a
//! constant number of iptables rules around them, in kube-proxy's own layout.
//!
//! `docs/modes/ipvs.md` draws the path of a packet. A virtual server knows addresses alone, not who asks: it has
//! one pool for everybody. Who may not have it is turned away before, by rules that look an address up in a set.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use kernel_state::ipset::{self, Ipset, Member};
use kernel_state::ipvs::{
    self, Destination, Forwarding, Ipvs as Servers, Scheduler, SchedulerFlags, Server, Service,
};
use kernel_state::links::{self, Links};
use kernel_state::xtables::{Protocol, Xtables, XtablesState};
use kernel_state::{State, Sum};
use service_plan::{
    Address, Endpoint, Entrance, Locality, NodePlan, NodePortAddresses, PoolName, ServicePlan, Source,
    Verdict,
};

use crate::Mode;

mod layout;
mod rules;
mod sets;

pub use layout::DEVICE;
use sets::Set;

/// What the mode speaks, in the order in which it is written: sets, then virtual servers, then rules, and at last
/// the addresses that bring packets in.
pub type IpvsObjects = Sum<Ipset, Sum<Servers, Sum<Xtables, Links>>>;

/// The mode, with what it depends on besides the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipvs {
    /// Who chooses the endpoint.
    pub scheduler: Scheduler,
    /// Who gets an endpoint elsewhere where the policy is Local and none is here.
    pub local_fallback: LocalFallback,
}

/// What becomes of those outside when a Service with a Local policy has no endpoint on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalFallback {
    /// They are turned away, as the other modes do.
    Drop,
    /// They get any endpoint, as kube-proxy's ipvs mode does.
    Cluster,
}

impl Mode for Ipvs {
    type Objects = IpvsObjects;

    fn skeleton(&self, node: &NodePlan) -> State<IpvsObjects> {
        let mut sets = State::new();
        for set in Set::ALL {
            let kind = ipset::Value::Set(set.kind(node.family));
            sets.put(ipset::Key::Set(set.name(node.family)), kind);
        }
        let mut links = State::new();
        links.put(links::Key::Link(DEVICE.into()), links::Value::Link(links::DUMMY.into()));
        sum(sets, State::new(), rules::skeleton(node), links)
    }

    fn render(&self, plan: &ServicePlan, node: &NodePlan) -> State<IpvsObjects> {
        let mut rendering = Rendering::new(self, plan, node);
        for entrance in &plan.entrances {
            match entrance.at {
                Address::ClusterIp(ip, port) => {
                    let at = SocketAddr::new(ip, port.get());
                    rendering.add_address(Set::ClusterIp, at);
                    rendering.enter(entrance, at);
                    rendering.bind(ip);
                }
                Address::ExternalIp(ip, port) => {
                    let at = SocketAddr::new(ip, port.get());
                    let local = is_local(entrance);
                    rendering.add_address(if local { Set::ExternalIpLocal } else { Set::ExternalIp }, at);
                    rendering.enter(entrance, at);
                    rendering.bind(ip);
                }
                Address::LoadBalancerIp(ip, port) => {
                    let at = SocketAddr::new(ip, port.get());
                    rendering.load_balancer_ip(entrance, at);
                    rendering.enter(entrance, at);
                    rendering.bind(ip);
                }
                Address::NodePort(port) => rendering.node_port(entrance, port.get()),
            }
        }
        rendering.hairpins();
        if let Some(check) = plan.health_check {
            rendering.add(Set::HealthCheckNodePort, Member::Port(check.port.get()));
        }
        sum(rendering.sets, rendering.servers, XtablesState::new(), rendering.links)
    }
}

/// One service port on its way into sets, servers and addresses.
struct Rendering<'a> {
    mode: &'a Ipvs,
    plan: &'a ServicePlan,
    node: &'a NodePlan,
    protocol: Protocol,
    sets: State<Ipset>,
    servers: State<Servers>,
    links: State<Links>,
}

impl<'a> Rendering<'a> {
    fn new(mode: &'a Ipvs, plan: &'a ServicePlan, node: &'a NodePlan) -> Self {
        let protocol = match plan.name.protocol {
            service_plan::Protocol::Tcp => Protocol::Tcp,
            service_plan::Protocol::Udp => Protocol::Udp,
            service_plan::Protocol::Sctp => Protocol::Sctp,
        };
        let (sets, servers, links) = (State::new(), State::new(), State::new());
        Self { mode, plan, node, protocol, sets, servers, links }
    }

    /// A virtual server with the pool that an entrance leads to, and what keeps out who may not have it.
    fn enter(&mut self, entrance: &Entrance, at: SocketAddr) {
        let (pool, turned_away) = self.pool(entrance);
        if let Some(set) = turned_away {
            self.add_address(set, at);
        }
        let server = Server { protocol: self.protocol, at };
        let service = ipvs::Value::Server(self.service(pool));
        self.servers.put(ipvs::Key::Server(server), service);
        for endpoint in pool.into_iter().flat_map(|name| self.plan.pool(name)) {
            let weight = endpoint.weight.get().into();
            let destination = Destination { weight, forwarding: Forwarding::Masquerade };
            let key = ipvs::Key::Destination(server, endpoint.at);
            self.servers.put(key, ipvs::Value::Destination(destination));
        }
    }

    /// The pool of whoever gets one, and the set of those entrances at which somebody gets none. The verdict for
    /// anyone goes first: it is the one for clients. Without an endpoint the virtual server rejects by itself.
    fn pool(&self, entrance: &Entrance) -> (Option<PoolName>, Option<Set>) {
        let forwards = |(_, verdict): &(Source, Verdict)| match verdict {
            Verdict::Forward { pool, .. } => Some(*pool),
            Verdict::Reject | Verdict::Drop => None,
        };
        let anyone = entrance.verdicts.iter().find(|(source, _)| *source == Source::Anyone);
        let inside = entrance.verdicts.iter().find_map(forwards);
        match anyone {
            Some((_, Verdict::Forward { pool, .. })) => (Some(*pool), None),
            Some((_, Verdict::Drop)) => match self.mode.local_fallback {
                LocalFallback::Cluster => (Some(PoolName::Cluster), None),
                LocalFallback::Drop if inside.is_some() => (inside, Some(Set::DropOutside)),
                LocalFallback::Drop => (None, Some(Set::DropAll)),
            },
            Some((_, Verdict::Reject)) | None => (None, None),
        }
    }

    /// The one that the Service names, else the proxy's; one that knows no weights makes way for its twin that does.
    fn scheduler(&self, pool: Option<PoolName>) -> Scheduler {
        let named = self.plan.scheduler.as_deref().and_then(Scheduler::new);
        let mut weights =
            pool.into_iter().flat_map(|name| self.plan.pool(name)).map(|endpoint| endpoint.weight);
        let first = weights.next();
        let differ = weights.any(|weight| Some(weight) != first);
        match (named, self.mode.scheduler.as_str()) {
            (None, "rr") if differ => Scheduler::new("wrr").unwrap_or(self.mode.scheduler),
            (None, "lc") if differ => Scheduler::new("wlc").unwrap_or(self.mode.scheduler),
            (named, _) => named.unwrap_or(self.mode.scheduler),
        }
    }

    fn service(&self, pool: Option<PoolName>) -> Service {
        let scheduler = self.scheduler(pool);
        // A real server of weight 0 drains: its clients are to find another one, not to be refused.
        let flags = match scheduler.as_str() {
            "mh" => SchedulerFlags::FALLBACK.or(SchedulerFlags::PORT),
            "sh" => SchedulerFlags::FALLBACK,
            _ => SchedulerFlags::default(),
        };
        Service { scheduler, persistence: self.plan.affinity.map(|seconds| seconds.0), flags }
    }

    fn load_balancer_ip(&mut self, entrance: &Entrance, at: SocketAddr) {
        self.add_address(Set::LoadBalancer, at);
        if is_local(entrance) {
            self.add_address(Set::LoadBalancerLocal, at);
        }
        let admitted = entrance.verdicts.iter().find_map(|(source, _)| match source {
            Source::Outside(ranges) => Some(ranges),
            Source::Pod | Source::Node | Source::Anyone => None,
        });
        let Some(ranges) = admitted else { return };
        self.add_address(Set::LoadBalancerFw, at);
        for range in ranges {
            let (ip, port, protocol) = (at.ip(), at.port(), self.protocol);
            if *range == IpNet::from(ip) {
                self.add(Set::LoadBalancerSourceIp, Member::IpPortIp(ip, protocol, port, ip));
            } else {
                let member = Member::IpPortNet(ip, protocol, port, range.trunc());
                self.add(Set::LoadBalancerSourceCidr, member);
            }
        }
    }

    /// A virtual server on each address of the node that serves node ports, unless that address is named there.
    fn node_port(&mut self, entrance: &Entrance, port: u16) {
        let serving = match &self.node.node_ports {
            NodePortAddresses::All => &self.node.addresses,
            NodePortAddresses::Only(addresses) => addresses,
        };
        let local = is_local(entrance);
        for ip in serving.iter().filter(|ip| !self.plan.named_on_node.contains(ip)) {
            let at = SocketAddr::new(*ip, port);
            if self.protocol == Protocol::Sctp {
                self.add_address(Set::NodePortSctp, at);
                if local {
                    self.add_address(Set::NodePortLocalSctp, at);
                }
            }
            self.enter(entrance, at);
        }
        let (all, of_local_policy) = match self.protocol {
            Protocol::Tcp => (Set::NodePortTcp, Set::NodePortLocalTcp),
            Protocol::Udp => (Set::NodePortUdp, Set::NodePortLocalUdp),
            Protocol::Sctp => return,
        };
        self.add(all, Member::Port(port));
        if local {
            self.add(of_local_policy, Member::Port(port));
        }
    }

    /// An endpoint of this node that is sent to itself would answer itself directly.
    fn hairpins(&mut self) {
        let pools = [PoolName::Cluster, PoolName::Local];
        let local: Vec<Endpoint> = pools
            .into_iter()
            .flat_map(|name| self.plan.pool(name))
            .copied()
            .filter(|endpoint| endpoint.locality == Locality::Local)
            .collect();
        for Endpoint { at, .. } in local {
            self.add(Set::LoopBack, Member::IpPortIp(at.ip(), self.protocol, at.port(), at.ip()));
        }
    }

    /// Makes an address one of the node's own, unless an interface has it already.
    fn bind(&mut self, ip: IpAddr) {
        if self.node.addresses.contains(&ip) {
            return;
        }
        self.add(Set::IpvsIps, Member::Ip(ip));
        self.links.put(links::Key::Address(DEVICE.into(), ip), links::Value::Address);
    }

    fn add_address(&mut self, set: Set, at: SocketAddr) {
        self.add(set, Member::IpPort(at.ip(), self.protocol, at.port()));
    }

    fn add(&mut self, set: Set, member: Member) {
        self.sets.put(ipset::Key::Member(set.name(self.node.family), member), ipset::Value::Member);
    }
}

/// Whether outside traffic at an entrance has a Local policy: then who is inside is told from the rest.
fn is_local(entrance: &Entrance) -> bool {
    entrance.verdicts.iter().any(|(source, _)| *source == Source::Node)
}

fn sum(
    sets: State<Ipset>,
    servers: State<Servers>,
    rules: XtablesState,
    links: State<Links>,
) -> State<IpvsObjects> {
    State::of(sets, State::of(servers, State::of(rules, links)))
}

#[cfg(test)]
mod tests;
