//! The iptables rules around the virtual servers. They look addresses up in sets, so there are as many of them
//! whatever Services there are.

use std::net::IpAddr;

use ipnet::IpNet;
use kernel_state::xtables::{
    ChainName, ConnectionStates, Key, Match, Part, Protocol, RejectWith, Rule, Rules, Sense, SourcePorts,
    Table, Target, XtablesState,
};
use service_plan::{Family, LocalPods, MasqueradeAll, NodePlan, NodePortAddresses};

use super::Set;

const SERVICES: &str = "KUBE-SERVICES";
const POSTROUTING: &str = "KUBE-POSTROUTING";
const NODE_PORT: &str = "KUBE-NODE-PORT";
const LOAD_BALANCER: &str = "KUBE-LOAD-BALANCER";
const MARK_MASQUERADE: &str = "KUBE-MARK-MASQ";
const FORWARD: &str = "KUBE-FORWARD";
const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
const SOURCE_RANGES: &str = "KUBE-SOURCE-RANGES-FIREWALL";
const LOCAL_POLICY: &str = "KUBE-LOCAL-POLICY-FIREWALL";
const IPVS_FILTER: &str = "KUBE-IPVS-FILTER";
const IPVS_OUT_FILTER: &str = "KUBE-IPVS-OUT-FILTER";

/// All chains of the mode. `KUBE-IPVS-OUT-FILTER` stands in the filter table where a kube-proxy left it.
pub(super) const CHAINS: [(Table, &str); 14] = [
    (Table::Nat, SERVICES),
    (Table::Nat, POSTROUTING),
    (Table::Nat, NODE_PORT),
    (Table::Nat, LOAD_BALANCER),
    (Table::Nat, MARK_MASQUERADE),
    (Table::Filter, FORWARD),
    (Table::Filter, NODE_PORT),
    (Table::Filter, PROXY_FIREWALL),
    (Table::Filter, SOURCE_RANGES),
    (Table::Filter, LOCAL_POLICY),
    (Table::Filter, IPVS_FILTER),
    (Table::Filter, IPVS_OUT_FILTER),
    (Table::Mangle, IPVS_OUT_FILTER),
    (Table::Mangle, SOURCE_RANGES),
];

/// What the iptables mode has besides.
pub(super) const OTHER_MODES: [(Table, &str); 7] = [
    (Table::Filter, SERVICES),
    (Table::Filter, "KUBE-EXTERNAL-SERVICES"),
    (Table::Filter, "KUBE-NODEPORTS"),
    (Table::Nat, "KUBE-NODEPORTS"),
    (Table::Mangle, "KUBE-PROXY-CANARY"),
    (Table::Filter, "KUBE-PROXY-CANARY"),
    (Table::Nat, "KUBE-PROXY-CANARY"),
];

/// How the iptables mode's chains of one service port begin.
pub(super) const PREFIXES: [&str; 6] =
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-XLB-"];

pub(super) fn skeleton(node: &NodePlan) -> XtablesState {
    let mut state = XtablesState::new();
    let chains = [
        (Table::Nat, SERVICES, services(node)),
        (Table::Nat, LOAD_BALANCER, load_balancer(node)),
        (Table::Nat, NODE_PORT, node_ports(node)),
        (Table::Nat, MARK_MASQUERADE, vec![Rule::new([], Target::OrMark(node.mark.0))]),
        (Table::Nat, POSTROUTING, postrouting(node)),
        (Table::Filter, PROXY_FIREWALL, firewall(node)),
        (Table::Filter, SOURCE_RANGES, source_ranges(node)),
        (Table::Filter, LOCAL_POLICY, local_policy(node)),
        (Table::Filter, FORWARD, forward(node)),
        (Table::Filter, NODE_PORT, health_checks(node)),
        (Table::Filter, IPVS_FILTER, access(node)),
        (Table::Mangle, IPVS_OUT_FILTER, own_traffic(node)),
        (Table::Mangle, SOURCE_RANGES, source_ranges(node)),
    ];
    for (table, chain, rules) in chains {
        state.put(Key::chain(table, ChainName::of(chain)), rules.into());
    }
    for (table, chain, jumps) in jumps() {
        state.put(Key::run(table, ChainName::of(chain), Part::Head), jumps);
    }
    state
}

fn jumps() -> [(Table, &'static str, Rules); 6] {
    let all = |to, comment| Rule::jump([Match::comment(comment)], ChainName::of(to));
    let of_new = |to, comment| Rule::jump([new(), Match::comment(comment)], ChainName::of(to));
    let firewall = || of_new(PROXY_FIREWALL, "kube-proxy firewall rules");
    let services = || all(SERVICES, "kubernetes service portals");
    [
        (Table::Mangle, "OUTPUT", [of_new(IPVS_OUT_FILTER, "kubernetes ipvs access filter")].into()),
        (
            Table::Filter,
            "INPUT",
            [
                firewall(),
                all(NODE_PORT, "kubernetes health check rules"),
                all(IPVS_FILTER, "kubernetes ipvs access filter"),
            ]
            .into(),
        ),
        (Table::Filter, "FORWARD", [firewall(), all(FORWARD, "kubernetes forwarding rules")].into()),
        (Table::Nat, "PREROUTING", [services()].into()),
        (Table::Nat, "OUTPUT", [services()].into()),
        (Table::Nat, "POSTROUTING", [all(POSTROUTING, "kubernetes postrouting rules")].into()),
    ]
}

/// Who is masqueraded. The mark is set before the virtual server sees the packet, and obeyed after it.
fn services(node: &NodePlan) -> Vec<Rule> {
    let family = node.family;
    let mark = |matches: Vec<Match>| Rule::jump(matches, ChainName::of(MARK_MASQUERADE));
    let cluster_ip = || Match::comment("Kubernetes service cluster ip + port for masquerade purpose");
    let mut rules = vec![Rule::new([Match::Source(Sense::Is, loopback(family))], Target::Return)];
    rules.push(match (node.masquerade_all, not_from_pods(node)) {
        (MasqueradeAll::Yes, _) => mark(vec![cluster_ip(), Set::ClusterIp.is_destination(family)]),
        (MasqueradeAll::No, Some(not_from_pods)) => {
            mark(vec![cluster_ip(), Set::ClusterIp.is_destination(family), not_from_pods])
        }
        // The node's own traffic carries the cluster IP as its source.
        (MasqueradeAll::No, None) => mark(vec![cluster_ip(), Set::ClusterIp.is_source(family)]),
    });
    rules.push(mark(vec![
        Match::comment("Kubernetes service external ip + port for masquerade and filter purpose"),
        Set::ExternalIp.is_destination(family),
    ]));
    rules.push(mark(vec![Set::ExternalIpLocal.is_destination(family), Match::SourceIsLocal]));
    rules.push(Rule::jump(
        [Match::comment("Kubernetes service lb portal"), Set::LoadBalancer.is_destination(family)],
        ChainName::of(LOAD_BALANCER),
    ));
    // What is named is no node port, also where the node has the address.
    for set in [Set::ClusterIp, Set::ExternalIp, Set::ExternalIpLocal, Set::LoadBalancer] {
        rules.push(Rule::new([set.is_destination(family)], Target::Accept));
    }
    let to_node_ports = |matches: Match| Rule::jump([matches], ChainName::of(NODE_PORT));
    match &node.node_ports {
        NodePortAddresses::All => rules.push(to_node_ports(Match::DestinationIsLocal)),
        NodePortAddresses::Only(addresses) => {
            let ranges = addresses.iter().copied().map(IpNet::from);
            rules.extend(ranges.map(|range| to_node_ports(Match::Destination(Sense::Is, range))));
        }
    }
    rules
}

fn load_balancer(node: &NodePlan) -> Vec<Rule> {
    let local = || Set::LoadBalancerLocal.is_destination(node.family);
    vec![
        Rule::jump([local(), Match::SourceIsLocal], ChainName::of(MARK_MASQUERADE)),
        Rule::new(
            [
                Match::comment("Kubernetes service load balancer ip + port with externalTrafficPolicy=local"),
                local(),
            ],
            Target::Return,
        ),
        Rule::jump([], ChainName::of(MARK_MASQUERADE)),
    ]
}

fn node_ports(node: &NodePlan) -> Vec<Rule> {
    let kinds = [
        (Protocol::Tcp, Set::NodePortLocalTcp, Set::NodePortTcp),
        (Protocol::Udp, Set::NodePortLocalUdp, Set::NodePortUdp),
        (Protocol::Sctp, Set::NodePortLocalSctp, Set::NodePortSctp),
    ];
    let of_kind = |(protocol, local, all): (Protocol, Set, Set)| {
        let local = || [Match::Protocol(protocol), local.is_destination(node.family)];
        let all = [Match::Protocol(protocol), all.is_destination(node.family)];
        [
            Rule::jump(local().into_iter().chain([Match::SourceIsLocal]), ChainName::of(MARK_MASQUERADE)),
            Rule::new(local(), Target::Return),
            Rule::jump(all, ChainName::of(MARK_MASQUERADE)),
        ]
    };
    kinds.into_iter().flat_map(of_kind).collect()
}

/// The mark is taken off again before masquerade, so that a packet which passes twice is not masqueraded twice.
fn postrouting(node: &NodePlan) -> Vec<Rule> {
    let masquerade = Target::Masquerade(SourcePorts::FullyRandom);
    vec![
        Rule::new(
            [
                Match::comment("Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"),
                Set::LoopBack.is_destination(node.family),
            ],
            masquerade.clone(),
        ),
        Rule::new([Match::Mark(Sense::Not, node.mark.0, node.mark.0)], Target::Return),
        Rule::new([], Target::XorMark(node.mark.0)),
        Rule::new([Match::comment("kubernetes service traffic requiring SNAT")], masquerade),
    ]
}

/// Who is turned away before a virtual server sees the packet.
fn firewall(node: &NodePlan) -> Vec<Rule> {
    let family = node.family;
    vec![
        Rule::jump(
            [
                Match::comment(
                    "Kubernetes service load balancer ip + port for load balancer with sourceRange",
                ),
                Set::LoadBalancerFw.is_destination(family),
            ],
            ChainName::of(SOURCE_RANGES),
        ),
        Rule::new([Set::DropAll.is_destination(family)], Target::Drop),
        Rule::jump([Set::DropOutside.is_destination(family)], ChainName::of(LOCAL_POLICY)),
    ]
}

/// The node's own traffic reaches a virtual server before the filter table.
fn own_traffic(node: &NodePlan) -> Vec<Rule> {
    vec![
        Rule::jump([Set::LoadBalancerFw.is_destination(node.family)], ChainName::of(SOURCE_RANGES)),
        Rule::new([Set::DropAll.is_destination(node.family)], Target::Drop),
    ]
}

fn source_ranges(node: &NodePlan) -> Vec<Rule> {
    let admit = |set: Set| Rule::new([set.is_destination(node.family)], Target::Return);
    vec![admit(Set::LoadBalancerSourceCidr), admit(Set::LoadBalancerSourceIp), Rule::new([], Target::Drop)]
}

fn local_policy(node: &NodePlan) -> Vec<Rule> {
    let pods = from_pods(node, Sense::Is).map(|matches| Rule::new([matches], Target::Return));
    let node = Rule::new([Match::SourceIsLocal], Target::Return);
    pods.into_iter().chain([node, Rule::new([], Target::Drop)]).collect()
}

fn forward(node: &NodePlan) -> Vec<Rule> {
    let known = ConnectionStates::RELATED.or(ConnectionStates::ESTABLISHED);
    vec![
        Rule::new(
            [Match::comment("kubernetes forwarding rules"), Match::Mark(Sense::Is, node.mark.0, node.mark.0)],
            Target::Accept,
        ),
        Rule::new(
            [
                Match::comment("kubernetes forwarding conntrack rule"),
                Match::ConnectionState(Sense::Is, known),
            ],
            Target::Accept,
        ),
    ]
}

fn health_checks(node: &NodePlan) -> Vec<Rule> {
    vec![Rule::new(
        [
            Match::comment("Kubernetes health check node port"),
            Match::Protocol(Protocol::Tcp),
            Set::HealthCheckNodePort.is_destination(node.family),
        ],
        Target::Accept,
    )]
}

/// An address of the device is one of the node's own, and whatever listens on the node would be reachable there.
fn access(node: &NodePlan) -> Vec<Rule> {
    let family = node.family;
    let served =
        [Set::LoadBalancer, Set::ClusterIp, Set::ExternalIp, Set::ExternalIpLocal, Set::HealthCheckNodePort];
    let reject = match family {
        Family::V4 => RejectWith::IcmpPortUnreachable,
        Family::V6 => RejectWith::Icmp6PortUnreachable,
    };
    let pass = served.map(|set| Rule::new([set.is_destination(family)], Target::Return));
    let rest = Rule::new([new(), Set::IpvsIps.is_destination(family)], Target::Reject(reject));
    pass.into_iter().chain([rest]).collect()
}

fn new() -> Match {
    Match::ConnectionState(Sense::Is, ConnectionStates::NEW)
}

fn not_from_pods(node: &NodePlan) -> Option<Match> {
    from_pods(node, Sense::Not)
}

fn from_pods(node: &NodePlan, sense: Sense) -> Option<Match> {
    Some(match node.local_pods.as_ref()? {
        LocalPods::Range(range) => Match::Source(sense, *range),
        LocalPods::Interface(name) => Match::InInterface(sense, name.clone()),
        LocalPods::InterfacePrefix(prefix) => Match::InInterface(sense, format!("{prefix}+").into()),
    })
}

fn loopback(family: Family) -> IpNet {
    let (ip, length) = match family {
        Family::V4 => (IpAddr::from([127, 0, 0, 0]), 8),
        Family::V6 => (IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128),
    };
    IpNet::new(ip, length).expect("the length fits the family")
}
