//! The iptables mode: chains with rules that are searched one by one, in kube-proxy's own layout.
//!
//! `docs/modes/iptables.md` draws the path of a packet. Chains that all services share hold a run of rules for
//! each service port; the chains of one service port are wholly its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use kernel_state::xtables::{
    ChainName, GuardedChain, Key, Layout, Match, Part, Probability, Protocol, RejectWith, Rule, Rules, Sense,
    Table, Target, Xtables, XtablesState, rule_set,
};
use service_plan::{
    Address, Endpoint, EndpointComments, Entrance, Family, LocalPods, LocalhostNodePorts, Masquerade,
    NodePlan, NodePort, NodePortAddresses, PoolName, ServicePlan, Source, Verdict, chances,
};

use crate::Mode;
use crate::names::service_chain;

mod skeleton;

/// The mode, with what it depends on besides the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iptables {
    /// What happens to packets that the connection tracker calls invalid.
    pub invalid_packets: InvalidPackets,
}

/// Whether invalid packets are dropped before they are forwarded: they would escape the translation of addresses
/// and make the other side reset the connection (kubernetes issue 74839). Not needed where the tracker is liberal
/// (sysctl `nf_conntrack_tcp_be_liberal`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPackets {
    /// Dropped.
    Drop,
    /// Let through.
    Forward,
}

const SERVICES: &str = "KUBE-SERVICES";
const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
const NODE_PORTS: &str = "KUBE-NODEPORTS";
const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
const MARK_MASQUERADE: &str = "KUBE-MARK-MASQ";

impl Iptables {
    /// By which names a chain or rule is ours, also where a kube-proxy left it.
    pub fn layout(guarded_chain: GuardedChain) -> Layout {
        skeleton::layout(guarded_chain)
    }
}

impl Mode for Iptables {
    type Objects = Xtables;

    fn skeleton(&self, node: &NodePlan) -> XtablesState {
        skeleton::skeleton(*self, node)
    }

    fn render(&self, plan: &ServicePlan, node: &NodePlan) -> XtablesState {
        let mut rendering = Rendering::new(plan, node);
        for entrance in &plan.entrances {
            match entrance.at {
                Address::ClusterIp(ip, port) => {
                    rendering.cluster_ip(entrance, SocketAddr::new(ip, port.get()));
                }
                Address::ExternalIp(ip, port) => {
                    rendering.external_ip(entrance, SocketAddr::new(ip, port.get()));
                }
                Address::LoadBalancerIp(ip, port) => {
                    rendering.load_balancer_ip(entrance, SocketAddr::new(ip, port.get()));
                }
                Address::NodePort(port) => rendering.node_port(entrance, port),
            }
        }
        rendering.health_check();
        rendering.external_chain();
        for pool in [PoolName::Cluster, PoolName::Local] {
            rendering.pool_chain(pool);
        }
        rendering.endpoint_chains();
        rendering.into_state()
    }
}

/// One service port on its way into rules.
struct Rendering<'a> {
    plan: &'a ServicePlan,
    node: &'a NodePlan,
    name: String,
    protocol: Protocol,
    /// Its runs of rules in the chains that are shared.
    services: Vec<Rule>,
    node_ports: Vec<Rule>,
    refused_services: Vec<Rule>,
    refused_external: Vec<Rule>,
    firewall: Vec<Rule>,
    /// The rule that stands first in the chain of the pool that cluster IP traffic goes to.
    masquerade_cluster_ip: Option<(PoolName, Rule)>,
    state: XtablesState,
}

impl<'a> Rendering<'a> {
    fn new(plan: &'a ServicePlan, node: &'a NodePlan) -> Self {
        Self {
            plan,
            node,
            name: plan.name.to_string(),
            protocol: protocol(plan.name.protocol),
            services: Vec::new(),
            node_ports: Vec::new(),
            refused_services: Vec::new(),
            refused_external: Vec::new(),
            firewall: Vec::new(),
            masquerade_cluster_ip: None,
            state: XtablesState::new(),
        }
    }

    fn cluster_ip(&mut self, entrance: &Entrance, at: SocketAddr) {
        let comment = format!("{} cluster IP", self.name);
        if let Some(refusal) = self.refusal(entrance, self.to(at)) {
            self.refused_services.push(refusal);
        }
        let forwards = |(source, verdict): &(Source, Verdict)| match verdict {
            Verdict::Forward { pool, masquerade } => Some((source.clone(), *pool, *masquerade)),
            Verdict::Reject | Verdict::Drop => None,
        };
        let Some((_, pool, _)) = entrance.verdicts.iter().find_map(forwards) else { return };
        self.services.push(Rule::jump(described(&comment, self.to(at)), self.pool_chain_name(pool)));
        if entrance
            .verdicts
            .iter()
            .filter_map(forwards)
            .any(|(_, _, masquerade)| masquerade == Masquerade::Yes)
        {
            let spared =
                entrance.verdicts.iter().filter_map(forwards).any(|(source, ..)| source == Source::Pod);
            let others = if spared { local_pods(self.node, Sense::Not) } else { None };
            let matches = described(&comment, self.to(at)).into_iter().chain(others);
            self.masquerade_cluster_ip = Some((pool, Rule::jump(matches, ChainName::of(MARK_MASQUERADE))));
        }
    }

    fn external_ip(&mut self, entrance: &Entrance, at: SocketAddr) {
        if forwards_someone(entrance) {
            let matches = described(&format!("{} external IP", self.name), self.to(at));
            self.services.push(Rule::jump(matches, self.chain_name("KUBE-EXT-")));
        }
        self.refused_external.extend(self.refusal(entrance, self.to(at)));
    }

    fn load_balancer_ip(&mut self, entrance: &Entrance, at: SocketAddr) {
        let comment = format!("{} loadbalancer IP", self.name);
        self.refused_external.extend(self.refusal(entrance, self.to(at)));
        if !forwards_someone(entrance) {
            return;
        }
        let Some(ranges) = admitted_ranges(entrance) else {
            let matches = described(&comment, self.to(at));
            return self.services.push(Rule::jump(matches, self.chain_name("KUBE-EXT-")));
        };
        let filter_chain = self.chain_name("KUBE-FW-");
        self.services.push(Rule::jump(described(&comment, self.to(at)), filter_chain));
        let not_accepted = format!("{} traffic not accepted by {filter_chain}", self.name);
        self.firewall.push(Rule::new(described(&not_accepted, self.to(at)), Target::Drop));
        let external = self.chain_name("KUBE-EXT-");
        let admit = |range: &IpNet| {
            Rule::jump([Match::comment(&comment), Match::Source(Sense::Is, *range)], external)
        };
        let rest = format!("other traffic to {} will be dropped by {PROXY_FIREWALL}", self.name);
        let rules: Rules =
            ranges.iter().map(admit).chain([Rule::new([Match::comment(&rest)], None)]).collect();
        self.state.put(Key::chain(Table::Nat, filter_chain), rules);
    }

    fn node_port(&mut self, entrance: &Entrance, port: NodePort) {
        let to = || [Match::Protocol(self.protocol), Match::Transport(self.protocol, Some(port.get()))];
        if forwards_someone(entrance) {
            self.node_ports.push(Rule::jump(described(&self.name, to()), self.chain_name("KUBE-EXT-")));
        }
        for addresses in node_port_matches(self.node) {
            let matches = addresses.into_iter().chain(to());
            self.refused_external.extend(self.refusal(entrance, matches));
        }
    }

    fn health_check(&mut self) {
        let Some(check) = self.plan.health_check else { return };
        let comment = Match::comment(&format!("{} health check node port", self.name));
        let to = [Match::Protocol(Protocol::Tcp), Match::Transport(Protocol::Tcp, Some(check.port.get()))];
        let rule = Rule::new([comment].into_iter().chain(to), Target::Accept);
        let part = Part::Of(self.name.as_str().into(), Protocol::Tcp);
        self.state.put(Key::run(Table::Filter, ChainName::of(NODE_PORTS), part), [rule].into());
    }

    /// What all entrances from outside share: who is masqueraded, and which pool they get.
    fn external_chain(&mut self) {
        let is_external = |entrance: &&Entrance| !matches!(entrance.at, Address::ClusterIp(..));
        let external =
            self.plan.entrances.iter().filter(is_external).find(|entrance| forwards_someone(entrance));
        let Some(entrance) = external else { return };
        let mut rules = Vec::new();
        for (source, verdict) in &entrance.verdicts {
            let Verdict::Forward { pool, masquerade } = *verdict else { continue };
            let (who, doing) = match source {
                Source::Outside(_) => continue,
                Source::Pod => (local_pods(self.node, Sense::Is), "pod traffic for"),
                Source::Node => (Some(Match::SourceIsLocal), "LOCAL traffic for"),
                Source::Anyone => (None, "traffic for"),
            };
            let comment =
                |verb: &str| Match::comment(&format!("{verb}{doing} {} external destinations", self.name));
            if masquerade == Masquerade::Yes {
                let matches = [comment("masquerade ")].into_iter().chain(who.clone());
                rules.push(Rule::jump(matches, ChainName::of(MARK_MASQUERADE)));
            }
            let described = match source {
                Source::Node => Some(comment("route ")),
                Source::Pod => Some(comment("")),
                Source::Anyone | Source::Outside(_) => None,
            };
            rules.push(Rule::jump(described.into_iter().chain(who), self.pool_chain_name(pool)));
        }
        self.state.put(Key::chain(Table::Nat, self.chain_name("KUBE-EXT-")), rules.into());
    }

    /// The chain that picks an endpoint of a pool.
    fn pool_chain(&mut self, name: PoolName) {
        let pool = self.pool_in_use(name);
        if pool.is_empty() {
            return;
        }
        let first =
            self.masquerade_cluster_ip.iter().filter(|(of, _)| *of == name).map(|(_, rule)| rule.clone());
        let remembered = pool.iter().filter_map(|endpoint| {
            let chain = self.endpoint_chain_name(endpoint);
            let seconds = self.plan.affinity?.0;
            Some(Rule::jump(
                self.arrow(endpoint).into_iter().chain([Match::RecentlySeen(Box::new(chain), seconds)]),
                chain,
            ))
        });
        let picked = pool.iter().zip(chances(pool)).map(|(endpoint, chance)| {
            let chance = chance.map(|(some, all)| Match::Probability(Probability::of(some, all)));
            Rule::jump(self.arrow(endpoint).into_iter().chain(chance), self.endpoint_chain_name(endpoint))
        });
        let rules: Rules = first.chain(remembered).chain(picked).collect();
        self.state.put(Key::chain(Table::Nat, self.pool_chain_name(name)), rules);
    }

    fn endpoint_chains(&mut self) {
        let endpoints: BTreeSet<Endpoint> = [PoolName::Cluster, PoolName::Local]
            .into_iter()
            .flat_map(|name| self.pool_in_use(name))
            .copied()
            .collect();
        let comment = self.endpoint_comment(|| self.name.clone());
        for endpoint in endpoints {
            let chain = self.endpoint_chain_name(&endpoint);
            let itself = Match::Source(Sense::Is, IpNet::from(endpoint.at.ip()));
            let hairpin =
                Rule::jump(comment.clone().into_iter().chain([itself]), ChainName::of(MARK_MASQUERADE));
            let remember = self.plan.affinity.map(|_| Match::SetSeen(Box::new(chain)));
            let transport = [Match::Protocol(self.protocol), Match::Transport(self.protocol, None)];
            let matches = comment.clone().into_iter().chain(remember).chain(transport);
            let forward = Rule::new(matches, Target::Dnat(endpoint.at));
            self.state.put(Key::chain(Table::Nat, chain), [hairpin, forward].into());
        }
    }

    fn into_state(mut self) -> XtablesState {
        let part = Part::Of(self.name.as_str().into(), self.protocol);
        let runs = [
            (Table::Nat, SERVICES, self.services),
            (Table::Nat, NODE_PORTS, self.node_ports),
            (Table::Filter, SERVICES, self.refused_services),
            (Table::Filter, EXTERNAL_SERVICES, self.refused_external),
            (Table::Filter, PROXY_FIREWALL, self.firewall),
        ];
        for (table, chain, rules) in runs.into_iter().filter(|(_, _, rules)| !rules.is_empty()) {
            self.state.put(Key::run(table, ChainName::of(chain), part.clone()), rule_set(rules));
        }
        self.state
    }

    /// The rule for those whom nothing forwards. It stands in the filter table, which judges after nat.
    ///
    /// Source ranges are judged in nat only where something forwards; without endpoints everyone is rejected.
    fn refusal(&self, entrance: &Entrance, to: impl IntoIterator<Item = Match>) -> Option<Rule> {
        let reject = match self.node.family {
            Family::V4 => RejectWith::IcmpPortUnreachable,
            Family::V6 => RejectWith::Icmp6PortUnreachable,
        };
        let (why, target) = match entrance.verdicts.last()?.1 {
            Verdict::Reject => ("has no endpoints", Target::Reject(reject)),
            Verdict::Drop => ("has no local endpoints", Target::Drop),
            Verdict::Forward { .. } => return None,
        };
        Some(Rule::new(described(&format!("{} {why}", self.name), to), target))
    }

    fn to(&self, at: SocketAddr) -> [Match; 3] {
        [
            Match::Destination(Sense::Is, IpNet::from(at.ip())),
            Match::Protocol(self.protocol),
            Match::Transport(self.protocol, Some(at.port())),
        ]
    }

    fn arrow(&self, endpoint: &Endpoint) -> Option<Match> {
        self.endpoint_comment(|| format!("{} -> {}", self.name, endpoint.at))
    }

    fn endpoint_comment(&self, text: impl FnOnce() -> String) -> Option<Match> {
        match self.node.endpoint_comments {
            EndpointComments::Yes => Some(Match::comment(&text())),
            EndpointComments::No => None,
        }
    }

    /// The endpoints of a pool, if an entrance forwards to it.
    fn pool_in_use(&self, name: PoolName) -> &'a [Endpoint] {
        let forwards = |verdict: &Verdict| matches!(verdict, Verdict::Forward { pool, .. } if *pool == name);
        let verdicts = |entrance: &'a Entrance| entrance.verdicts.iter().map(|(_, verdict)| verdict);
        if self.plan.entrances.iter().flat_map(verdicts).any(forwards) { self.plan.pool(name) } else { &[] }
    }

    fn pool_chain_name(&self, pool: PoolName) -> ChainName {
        self.chain_name(match pool {
            PoolName::Cluster => "KUBE-SVC-",
            PoolName::Local => "KUBE-SVL-",
        })
    }

    fn chain_name(&self, prefix: &str) -> ChainName {
        service_chain(prefix, &self.plan.name, None)
    }

    fn endpoint_chain_name(&self, endpoint: &Endpoint) -> ChainName {
        service_chain("KUBE-SEP-", &self.plan.name, Some(endpoint.at))
    }
}

fn described(comment: &str, to: impl IntoIterator<Item = Match>) -> Vec<Match> {
    std::iter::once(Match::comment(comment)).chain(to).collect()
}

fn forwards_someone(entrance: &Entrance) -> bool {
    entrance.verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Forward { .. }))
}

fn admitted_ranges(entrance: &Entrance) -> Option<&[IpNet]> {
    entrance.verdicts.iter().find_map(|(source, _)| match source {
        Source::Outside(ranges) => Some(ranges.as_slice()),
        Source::Pod | Source::Node | Source::Anyone => None,
    })
}

fn local_pods(node: &NodePlan, sense: Sense) -> Option<Match> {
    Some(match node.local_pods.as_ref()? {
        LocalPods::Range(range) => Match::Source(sense, *range),
        LocalPods::Interface(name) => Match::InInterface(sense, name.clone()),
        LocalPods::InterfacePrefix(prefix) => Match::InInterface(sense, format!("{prefix}+").into()),
    })
}

/// The addresses that node ports are served on, as the matches of one rule each.
fn node_port_matches(node: &NodePlan) -> Vec<Vec<Match>> {
    let localhost = || IpNet::from(IpAddr::from(Ipv4Addr::LOCALHOST));
    match (&node.node_ports, node.localhost_node_ports) {
        (NodePortAddresses::All, LocalhostNodePorts::Serve) => vec![vec![Match::DestinationIsLocal]],
        (NodePortAddresses::All, LocalhostNodePorts::Relay | LocalhostNodePorts::Ignore) => {
            vec![vec![Match::Destination(Sense::Not, loopback(node.family)), Match::DestinationIsLocal]]
        }
        (NodePortAddresses::Only(addresses), served) => {
            let addresses = addresses.iter().copied().map(IpNet::from);
            let localhost = (served == LocalhostNodePorts::Serve).then(localhost);
            addresses.chain(localhost).map(|range| vec![Match::Destination(Sense::Is, range)]).collect()
        }
    }
}

fn loopback(family: Family) -> IpNet {
    let text = match family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1/128",
    };
    text.parse().expect("a range in the code parses")
}

fn protocol(protocol: service_plan::Protocol) -> Protocol {
    match protocol {
        service_plan::Protocol::Tcp => Protocol::Tcp,
        service_plan::Protocol::Udp => Protocol::Udp,
        service_plan::Protocol::Sctp => Protocol::Sctp,
    }
}

#[cfg(test)]
mod tests;
