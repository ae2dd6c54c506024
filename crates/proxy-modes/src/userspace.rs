//! The userspace mode: a service port has a listener, rules redirect to it, and a process relays every byte.
//!
//! `docs/modes/userspace.md` draws the path of a packet. Rules decide who comes in and to which pool, before a
//! connection is accepted; a service port has one listener for each pool that a rule leads to. Who else meets what
//! at an address is in a chain of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;
use kernel_state::listeners::{self, Caller, Listener, Listeners, ListenersState, Transport};
use kernel_state::routing::{Routing, RoutingState};
use kernel_state::xtables::{
    ChainName, ConnectionStates, Key, Layout, Match, Part, Protocol, RejectWith, Rule, Rules, Sense, Table,
    Target, Xtables, XtablesState, rule_set,
};
use kernel_state::{State, Sum};
use service_plan::{
    Address, Entrance, Family, LocalPods, Masquerade, NodePlan, NodePort, PoolName, ServicePlan, Source,
    Verdict,
};

use crate::names::service_chain;
use crate::{Mode, relayed};

mod skeleton;

use skeleton::node_port_matches;

/// The mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Userspace {
    /// Whether endpoints see their clients.
    pub transparency: Transparency,
}

/// Whether endpoints see their clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transparency {
    /// They see the node.
    #[default]
    Off,
    /// They see the client, unless the plan masquerades it.
    On,
}

const PORTALS: [&str; 2] = ["KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST"];
const NODE_PORTS: [&str; 2] = ["KUBE-NODEPORT-CONTAINER", "KUBE-NODEPORT-HOST"];
const NON_LOCAL: &str = "KUBE-NODEPORT-NON-LOCAL";
const PORTAL: &str = "KUBE-PORTAL-";
const ANSWERS: &str = "KUBE-PORTALS-ANSWERS";
const REFUSED: &str = "KUBE-PORTALS-REFUSED";

/// What the mode is said in: the way back of answers to clients' own addresses, listeners, and rules that lead there.
pub type UserspaceObjects = Sum<Routing, Sum<Listeners, Xtables>>;

impl Userspace {
    /// The routing table of answers to clients' own addresses. Whatever is in it is ours.
    pub const ANSWERS_TABLE: u32 = 7253;

    /// By which names a chain or rule is ours, also where a kube-proxy left it.
    pub fn layout() -> Layout {
        skeleton::layout()
    }
}

impl Mode for Userspace {
    type Objects = UserspaceObjects;

    fn skeleton(&self, node: &NodePlan) -> State<Self::Objects> {
        let rules = skeleton::skeleton(node, self.transparency);
        let rest = State::<Sum<Listeners, Xtables>>::of(ListenersState::new(), rules);
        State::<Self::Objects>::of(skeleton::routing(node, self.transparency), rest)
    }

    fn render(&self, plan: &ServicePlan, node: &NodePlan) -> State<Self::Objects> {
        // A process cannot relay SCTP without losing what it is for, several addresses and streams.
        let Some(transport) = transport(plan.name.protocol) else { return State::new() };
        let mut rendering = Rendering {
            transparency: self.transparency,
            plan,
            node,
            name: plan.name.to_string(),
            transport,
            protocol: protocol(transport),
            portals: Vec::new(),
            node_ports: Vec::new(),
            refused: Vec::new(),
            chains: Vec::new(),
            listeners: BTreeMap::new(),
        };
        for entrance in &plan.entrances {
            rendering.entrance(entrance);
        }
        rendering.into_state()
    }
}

/// One service port on its way into listeners and rules.
struct Rendering<'a> {
    transparency: Transparency,
    plan: &'a ServicePlan,
    node: &'a NodePlan,
    name: String,
    transport: Transport,
    protocol: Protocol,
    /// Its runs of rules in the chains that are shared.
    portals: Vec<Rule>,
    node_ports: Vec<Rule>,
    refused: Vec<Rule>,
    /// Chains of its own.
    chains: Vec<(Key, Rules)>,
    listeners: BTreeMap<listeners::Key, Listener>,
}

impl Rendering<'_> {
    fn entrance(&mut self, entrance: &Entrance) {
        let at = entrance.at;
        let lines = lines(entrance, self.node, |verdict| self.way(verdict));
        let last = lines.iter().rposition(|(_, verdict)| matches!(verdict, Verdict::Forward { .. }));
        // Behind the last one that is forwarded nothing needs to be kept from it.
        let until_last = &lines[..last.map_or(0, |last| last + 1)];
        let targets = until_last.iter().map(|(who, verdict)| {
            let target = match verdict {
                Verdict::Forward { pool, masquerade } => {
                    Target::Listener(self.listener(*pool, self.caller(*masquerade)))
                }
                Verdict::Reject | Verdict::Drop => Target::Accept,
            };
            (who.clone(), target)
        });
        let targets = targets.collect();
        let rules = self.rules(Table::Nat, at, vec![Vec::new()], targets);
        if matches!(at, Address::NodePort(_)) { &mut self.node_ports } else { &mut self.portals }
            .extend(rules);
        let refusals = lines.into_iter().filter_map(|(who, verdict)| match verdict {
            Verdict::Forward { .. } => None,
            Verdict::Reject => Some((who, Target::Reject(self.reject()))),
            Verdict::Drop => Some((who, Target::Drop)),
        });
        let refusals = refusals.collect();
        let rules = self.rules(Table::Filter, at, self.places(at), refusals);
        self.refused.extend(rules);
    }

    /// The rules for an address in chains that are shared. There rules have no order; where it matters who comes
    /// first, because not all meet the same, they lead to a chain of the address's own.
    fn rules(
        &mut self,
        table: Table,
        at: Address,
        places: Vec<Vec<Match>>,
        targets: Vec<(Vec<Match>, Target)>,
    ) -> Vec<Rule> {
        let is_even = targets.windows(2).all(|pair| pair[0].1 == pair[1].1);
        let lines = if is_even {
            targets
        } else {
            let chain = service_chain(PORTAL, &self.plan.name, socket(at));
            let described = [Match::comment(&self.name), Match::Protocol(self.protocol)];
            let rule =
                |(who, target): (Vec<Match>, Target)| Rule::new(described.iter().cloned().chain(who), target);
            let rules = targets.into_iter().map(rule);
            self.chains.push((Key::chain(table, chain), rules.collect()));
            vec![(Vec::new(), Target::Jump(chain))]
        };
        let of_place = |place: Vec<Match>| {
            let matches = self.described(at).chain(place).collect::<Vec<_>>();
            let rule = move |(who, target): &(Vec<Match>, Target)| {
                Rule::new(matches.iter().chain(who).cloned(), target.clone())
            };
            lines.iter().map(rule).collect::<Vec<_>>()
        };
        places.into_iter().flat_map(of_place).collect()
    }

    /// Under whose address endpoints are called.
    fn caller(&self, masquerade: Masquerade) -> Caller {
        match (self.transparency, masquerade) {
            (Transparency::On, Masquerade::No) => Caller::Client,
            (Transparency::On, Masquerade::Yes) | (Transparency::Off, _) => Caller::Relay,
        }
    }

    /// What a client can notice of a verdict.
    fn way(&self, verdict: Verdict) -> Way {
        match verdict {
            Verdict::Forward { pool, masquerade } => Way::In(pool, self.caller(masquerade)),
            Verdict::Reject => Way::Refused,
            Verdict::Drop => Way::Nowhere,
        }
    }

    /// The listener of a pool, which is there from now on.
    fn listener(&mut self, pool: PoolName, caller: Caller) -> listeners::Key {
        let suffix = match pool {
            PoolName::Cluster => "cluster",
            PoolName::Local => "local",
        };
        let name = format!("{}@{suffix}", self.name);
        let key = listeners::Key { caller, ..listeners::Key::new(&name, self.transport) };
        self.listeners.entry(key.clone()).or_insert_with(|| relayed::listener(self.plan, pool));
        key
    }

    /// The comment, and what every packet to an address has.
    fn described(&self, at: Address) -> impl Iterator<Item = Match> + use<> {
        let (kind, ip, port) = match at {
            Address::ClusterIp(ip, port) => (" cluster IP", Some(ip), port.get()),
            Address::ExternalIp(ip, port) => (" external IP", Some(ip), port.get()),
            Address::LoadBalancerIp(ip, port) => (" loadbalancer IP", Some(ip), port.get()),
            Address::NodePort(port) => ("", None, port.get()),
        };
        let comment = Match::comment(&format!("{}{kind}", self.name));
        let to = [comment, Match::Protocol(self.protocol), Match::Transport(self.protocol, Some(port))];
        let destination = ip.map(|ip| Match::Destination(Sense::Is, IpNet::from(ip)));
        to.into_iter().chain(destination)
    }

    /// Where an address is, beside what [`Self::described`] says: the matches of one rule each.
    fn places(&self, at: Address) -> Vec<Vec<Match>> {
        match at {
            Address::ClusterIp(..) | Address::ExternalIp(..) | Address::LoadBalancerIp(..) => {
                vec![Vec::new()]
            }
            Address::NodePort(_) => node_port_matches(self.node),
        }
    }

    fn reject(&self) -> RejectWith {
        match self.node.family {
            Family::V4 => RejectWith::IcmpPortUnreachable,
            Family::V6 => RejectWith::Icmp6PortUnreachable,
        }
    }

    /// What was redirected to a listener may come in; who calls at its own port passes by all the rules, so nobody
    /// may.
    fn non_local(&self) -> Vec<Rule> {
        let rules = |key: &listeners::Key| {
            let matches = || {
                let comment = Match::comment(&self.name);
                [Match::Protocol(self.protocol), comment, Match::Listener(key.clone())].into_iter()
            };
            let redirected = |sense| [Match::ConnectionState(sense, ConnectionStates::DNAT)];
            [
                Rule::new(matches().chain(redirected(Sense::Is)), Target::Accept),
                Rule::new(matches().chain(redirected(Sense::Not)), Target::Drop),
            ]
        };
        let health_check = self.plan.health_check.map(|check| self.health_check(check.port));
        self.listeners.keys().flat_map(rules).chain(health_check).collect()
    }

    fn health_check(&self, port: NodePort) -> Rule {
        let comment = Match::comment(&format!("{} health check node port", self.name));
        let to = [Match::Protocol(Protocol::Tcp), Match::Transport(Protocol::Tcp, Some(port.get()))];
        Rule::new([comment].into_iter().chain(to), Target::Accept)
    }

    fn into_state(self) -> State<UserspaceObjects> {
        let part = Part::Of(self.name.as_str().into(), self.protocol);
        let (container, host) = (0, 1);
        let mut rules = XtablesState::new();
        let non_local = self.non_local();
        let runs = [
            (Table::Filter, NON_LOCAL, non_local),
            (Table::Filter, REFUSED, self.refused),
            (Table::Nat, PORTALS[container], self.portals.clone()),
            (Table::Nat, PORTALS[host], self.portals),
            (Table::Nat, NODE_PORTS[container], self.node_ports.clone()),
            (Table::Nat, NODE_PORTS[host], self.node_ports),
        ];
        for (table, chain, run) in runs.into_iter().filter(|(_, _, run)| !run.is_empty()) {
            rules.put(Key::run(table, ChainName::of(chain), part.clone()), rule_set(run));
        }
        for (key, chain) in self.chains {
            rules.put(key, chain);
        }
        let mut sockets = ListenersState::new();
        for (key, listener) in self.listeners {
            sockets.put(key, listener);
        }
        let rest = State::<Sum<Listeners, Xtables>>::of(sockets, rules);
        State::<UserspaceObjects>::of(RoutingState::new(), rest)
    }
}

/// What a client can notice of a verdict.
#[derive(PartialEq, Eq)]
enum Way {
    In(PoolName, Caller),
    Refused,
    Nowhere,
}

/// Who meets which verdict at an entrance, as the matches of one rule each; the first that fits decides.
fn lines(entrance: &Entrance, node: &NodePlan, way: impl Fn(Verdict) -> Way) -> Vec<(Vec<Match>, Verdict)> {
    let mut lines = Vec::new();
    let mut admitted: Option<(&[IpNet], Verdict)> = None;
    for (source, verdict) in &entrance.verdicts {
        let mut add = |who| lines.push((who, *verdict));
        match (source, admitted) {
            (Source::Outside(ranges), _) => admitted = Some((ranges, *verdict)),
            (Source::Pod, _) if node.local_pods.is_none() => {}
            (_, None) => add(senders(source, node)),
            (_, Some((ranges, _))) => {
                ranges.iter().filter_map(|range| within(*range, senders(source, node))).for_each(add);
            }
        }
    }
    // Those inside the ranges have met their verdicts.
    lines.extend(admitted.map(|(_, verdict)| (Vec::new(), verdict)));
    without_idle(lines, way)
}

/// A line does nothing if the next one takes everybody to where it leads.
fn without_idle(
    lines: Vec<(Vec<Match>, Verdict)>,
    way: impl Fn(Verdict) -> Way,
) -> Vec<(Vec<Match>, Verdict)> {
    let mut kept: Vec<(Vec<Match>, Verdict)> = Vec::new();
    for (who, verdict) in lines.into_iter().rev() {
        let is_idle = kept.last().is_some_and(|(next, after)| next.is_empty() && way(verdict) == way(*after));
        if !is_idle {
            kept.push((who, verdict));
        }
    }
    kept.reverse();
    kept
}

/// How the senders of a source are told.
fn senders(source: &Source, node: &NodePlan) -> Vec<Match> {
    match (source, &node.local_pods) {
        (Source::Pod, Some(LocalPods::Range(range))) => vec![Match::Source(Sense::Is, *range)],
        (Source::Pod, Some(LocalPods::Interface(name))) => vec![Match::InInterface(Sense::Is, name.clone())],
        (Source::Pod, Some(LocalPods::InterfacePrefix(prefix))) => {
            vec![Match::InInterface(Sense::Is, format!("{prefix}+").into())]
        }
        (Source::Node, _) => vec![Match::SourceIsLocal],
        (Source::Pod, None) | (Source::Anyone | Source::Outside(_), _) => Vec::new(),
    }
}

/// Those of the senders who are in a range; a rule has one `-s`, but of two ranges that meet one is in the other.
fn within(range: IpNet, senders: Vec<Match>) -> Option<Vec<Match>> {
    let other = senders.iter().find_map(|condition| {
        if let Match::Source(Sense::Is, other) = condition { Some(*other) } else { None }
    });
    match other {
        None => Some(senders.into_iter().chain([Match::Source(Sense::Is, range)]).collect()),
        Some(other) if range.contains(&other) => Some(senders),
        Some(other) if other.contains(&range) => Some(vec![Match::Source(Sense::Is, range)]),
        Some(_) => None,
    }
}

/// An address and port, where there is one.
fn socket(at: Address) -> Option<SocketAddr> {
    match at {
        Address::ClusterIp(ip, port) | Address::ExternalIp(ip, port) | Address::LoadBalancerIp(ip, port) => {
            Some(SocketAddr::new(ip, port.get()))
        }
        Address::NodePort(_) => None,
    }
}

fn transport(protocol: service_plan::Protocol) -> Option<Transport> {
    match protocol {
        service_plan::Protocol::Tcp => Some(Transport::Tcp),
        service_plan::Protocol::Udp => Some(Transport::Udp),
        service_plan::Protocol::Sctp => None,
    }
}

fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    }
}
