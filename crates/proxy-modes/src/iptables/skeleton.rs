//! What the iptables mode needs whatever Services there are: the shared chains, and the jumps to them.

use kernel_state::xtables::{
    ChainName, ConnectionStates, GuardedChain, Key, Layout, Match, Part, Rule, Rules, Sense, SourcePorts,
    Table, Target, XtablesState,
};
use service_plan::{LocalhostNodePorts, NodePlan};

use super::{
    EXTERNAL_SERVICES, InvalidPackets, Iptables, MARK_MASQUERADE, NODE_PORTS, PROXY_FIREWALL, SERVICES,
    loopback, node_port_matches,
};

const FORWARD: &str = "KUBE-FORWARD";
const POSTROUTING: &str = "KUBE-POSTROUTING";
const CANARY: &str = "KUBE-PROXY-CANARY";
const TAIL_COMMENT: &str = "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
const GUARD_COMMENT: &str = "block incoming localnet connections";

const SHARED: [(Table, &str); 6] = [
    (Table::Filter, SERVICES),
    (Table::Filter, EXTERNAL_SERVICES),
    (Table::Filter, NODE_PORTS),
    (Table::Filter, PROXY_FIREWALL),
    (Table::Nat, SERVICES),
    (Table::Nat, NODE_PORTS),
];

/// What the ipvs mode has besides: it keeps rules in the same tables, so that a switch to this mode is one diff.
const OTHER_MODES: [(Table, &str); 9] = [
    (Table::Nat, "KUBE-NODE-PORT"),
    (Table::Nat, "KUBE-LOAD-BALANCER"),
    (Table::Filter, "KUBE-NODE-PORT"),
    (Table::Filter, "KUBE-SOURCE-RANGES-FIREWALL"),
    (Table::Filter, "KUBE-LOCAL-POLICY-FIREWALL"),
    (Table::Filter, "KUBE-IPVS-FILTER"),
    (Table::Filter, "KUBE-IPVS-OUT-FILTER"),
    (Table::Mangle, "KUBE-IPVS-OUT-FILTER"),
    (Table::Mangle, "KUBE-SOURCE-RANGES-FIREWALL"),
];

/// Which of the shared chains a built-in chain jumps to, first jump first, and for new connections only or all.
const JUMPS: [(Table, &str, &[Jump]); 6] = [
    (
        Table::Filter,
        "INPUT",
        &[
            Jump::new(PROXY_FIREWALL, "kubernetes load balancer firewall"),
            Jump::all(NODE_PORTS, "kubernetes health check service ports"),
            Jump::new(EXTERNAL_SERVICES, "kubernetes externally-visible service portals"),
        ],
    ),
    (
        Table::Filter,
        "FORWARD",
        &[
            Jump::new(PROXY_FIREWALL, "kubernetes load balancer firewall"),
            Jump::all(FORWARD, "kubernetes forwarding rules"),
            Jump::new(SERVICES, "kubernetes service portals"),
            Jump::new(EXTERNAL_SERVICES, "kubernetes externally-visible service portals"),
        ],
    ),
    (
        Table::Filter,
        "OUTPUT",
        &[
            Jump::new(PROXY_FIREWALL, "kubernetes load balancer firewall"),
            Jump::new(SERVICES, "kubernetes service portals"),
        ],
    ),
    (Table::Nat, "PREROUTING", &[Jump::all(SERVICES, "kubernetes service portals")]),
    (Table::Nat, "OUTPUT", &[Jump::all(SERVICES, "kubernetes service portals")]),
    (Table::Nat, "POSTROUTING", &[Jump::all(POSTROUTING, "kubernetes postrouting rules")]),
];

struct Jump {
    to: &'static str,
    comment: &'static str,
    states: Option<ConnectionStates>,
}

impl Jump {
    const fn new(to: &'static str, comment: &'static str) -> Self {
        Self { to, comment, states: Some(ConnectionStates::NEW) }
    }

    const fn all(to: &'static str, comment: &'static str) -> Self {
        Self { to, comment, states: None }
    }

    fn rule(&self) -> Rule {
        let states = self.states.map(|states| Match::ConnectionState(Sense::Is, states));
        Rule::jump(states.into_iter().chain([Match::comment(self.comment)]), ChainName::of(self.to))
    }
}

pub(super) fn layout(guarded_chain: GuardedChain) -> Layout {
    let named = |(table, name): &(Table, &'static str)| (*table, ChainName::of(name));
    let canaries = Table::ALL.map(|table| (table, CANARY));
    let fixed = [(Table::Filter, FORWARD), (Table::Nat, POSTROUTING), (Table::Nat, MARK_MASQUERADE)];
    let left = OTHER_MODES.iter().chain(&canaries);
    Layout {
        shared: SHARED.iter().map(named).collect(),
        whole: fixed.iter().chain(left).map(named).collect(),
        // KUBE-XLB- is what KUBE-EXT- and KUBE-SVL- were until kube-proxy 1.23.
        prefixes: ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-XLB-"]
            .map(|prefix| (Table::Nat, prefix))
            .to_vec(),
        tail_comment: TAIL_COMMENT,
        guard_comment: GUARD_COMMENT,
        guarded_chain,
        // What marked packets for the other one to drop, until kube-proxy 1.25 and kubelet 1.27.
        kubelets: vec![(Table::Nat, ChainName::of("KUBE-MARK-DROP"))],
        kubelets_comment: "kubernetes firewall for dropping marked packets",
    }
}

pub(super) fn skeleton(mode: Iptables, node: &NodePlan) -> XtablesState {
    let mut state = XtablesState::new();
    for (table, chain) in SHARED {
        state.put(Key::chain(table, ChainName::of(chain)), Rules::from([]));
    }
    for (table, chain, jumps) in JUMPS {
        let key = Key::run(table, ChainName::of(chain), Part::Head);
        state.put(key, jumps.iter().map(Jump::rule).collect());
    }
    state.put(Key::chain(Table::Filter, ChainName::of(FORWARD)), forward_rules(mode, node));
    state.put(Key::chain(Table::Nat, ChainName::of(POSTROUTING)), postrouting_rules(node));
    state.put(
        Key::chain(Table::Nat, ChainName::of(MARK_MASQUERADE)),
        [Rule::new([], Target::OrMark(node.mark.0))].into(),
    );
    let to_node_ports = node_port_matches(node).into_iter().map(|matches| {
        Rule::jump([Match::comment(TAIL_COMMENT)].into_iter().chain(matches), ChainName::of(NODE_PORTS))
    });
    let tail: Rules = to_node_ports.collect();
    if !tail.is_empty() {
        state.put(Key::run(Table::Nat, ChainName::of(SERVICES), Part::Tail), tail);
    }
    if node.localhost_node_ports == LocalhostNodePorts::Serve {
        guard_localhost(&mut state, node);
    }
    state
}

fn forward_rules(mode: Iptables, node: &NodePlan) -> Rules {
    let invalid = Match::ConnectionState(Sense::Is, ConnectionStates::INVALID);
    let drop_invalid = match mode.invalid_packets {
        InvalidPackets::Drop => Some(Rule::new([invalid], Target::Drop)),
        InvalidPackets::Forward => None,
    };
    let known = ConnectionStates::RELATED.or(ConnectionStates::ESTABLISHED);
    let accept = [
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
    ];
    drop_invalid.into_iter().chain(accept).collect()
}

/// The mark is taken off again before masquerade, so that a packet which passes twice is not masqueraded twice.
fn postrouting_rules(node: &NodePlan) -> Rules {
    Rules::from([
        Rule::new([Match::Mark(Sense::Not, node.mark.0, node.mark.0)], Target::Return),
        Rule::new([], Target::XorMark(node.mark.0)),
        Rule::new(
            [Match::comment("kubernetes service traffic requiring SNAT")],
            Target::Masquerade(SourcePorts::FullyRandom),
        ),
    ])
}

/// Node ports on localhost need `route_localnet`, which would let neighbours reach every service on the node's
/// localhost (CVE-2020-8558); kubelet keeps the same rule in the same chain.
fn guard_localhost(state: &mut XtablesState, node: &NodePlan) {
    let localhost = loopback(node.family);
    let answered = ConnectionStates::RELATED.or(ConnectionStates::ESTABLISHED).or(ConnectionStates::DNAT);
    let guard = Rule::new(
        [
            Match::comment(GUARD_COMMENT),
            Match::Destination(Sense::Is, localhost),
            Match::Source(Sense::Not, localhost),
            Match::ConnectionState(Sense::Not, answered),
        ],
        Target::Drop,
    );
    let chain = Layout::guarded_chain_name();
    state.put(Key::chain(Table::Filter, chain), Rules::from([]));
    state.put(Key::run(Table::Filter, chain, Part::Guard), [guard].into());
    for built_in in ["INPUT", "OUTPUT"] {
        let key = Key::run(Table::Filter, ChainName::of(built_in), Part::Guard);
        state.put(key, [Rule::jump([], chain)].into());
    }
}
