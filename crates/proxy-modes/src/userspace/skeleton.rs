//! What the userspace mode needs whatever Services there are: the shared chains, and the jumps to them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use kernel_state::routing::{self, Present, RoutingState};
use kernel_state::xtables::{
    ChainName, ConnectionStates, GuardedChain, Key, Layout, Match, Part, Rule, Rules, Sense, Table, Target,
    XtablesState,
};
use service_plan::{Family, LocalhostNodePorts, NodePlan, NodePortAddresses};

use super::{ANSWERS, NODE_PORTS, NON_LOCAL, PORTAL, PORTALS, REFUSED, Transparency, Userspace};

const SHARED: [(Table, &str); 6] = [
    (Table::Filter, NON_LOCAL),
    (Table::Filter, REFUSED),
    (Table::Nat, PORTALS[0]),
    (Table::Nat, PORTALS[1]),
    (Table::Nat, NODE_PORTS[0]),
    (Table::Nat, NODE_PORTS[1]),
];

const PORTALS_COMMENT: &str = "handle ClusterIPs; NOTE: this must be before the NodePort rules";
const NODE_PORTS_COMMENT: &str = "handle service NodePorts";
const NON_LOCAL_COMMENT: &str = "Ensure that non-local NodePort traffic can flow";
const ANSWERS_COMMENT: &str = "kubernetes service portals, answers to the addresses of clients";
const REFUSED_COMMENT: &str = "kubernetes service portals that refuse";

pub(super) fn layout() -> Layout {
    Layout {
        shared: SHARED.iter().map(|(table, name)| (*table, ChainName::of(name))).collect(),
        whole: vec![(Table::Mangle, ChainName::of(ANSWERS))],
        prefixes: [Table::Filter, Table::Nat].map(|table| (table, PORTAL)).to_vec(),
        // Nothing stands last, and nothing is guarded.
        tail_comment: "",
        guard_comment: "",
        guarded_chain: GuardedChain::Foreign,
        kubelets: Vec::new(),
        kubelets_comment: "",
    }
}

/// The mark of answers to clients' own addresses: the bit beside that of masquerading.
fn answers_mark(node: &NodePlan) -> u32 {
    node.mark.0.rotate_left(1)
}

/// Whatever carries that mark is taken in, whoever it is addressed to.
pub(super) fn routing(node: &NodePlan, transparency: Transparency) -> RoutingState {
    let mut state = RoutingState::new();
    if transparency == Transparency::On {
        let table = Userspace::ANSWERS_TABLE;
        state.put(routing::Key::AllLocal { table }, Present);
        state.put(routing::Key::Marked { mark: answers_mark(node), table }, Present);
    }
    state
}

pub(super) fn skeleton(node: &NodePlan, transparency: Transparency) -> XtablesState {
    let mut state = XtablesState::new();
    for (table, chain) in SHARED {
        state.put(Key::chain(table, ChainName::of(chain)), Rules::from([]));
    }
    let mut jumps = |table, from, jumps: Rules| {
        state.put(Key::run(table, ChainName::of(from), Part::Head), jumps);
    };
    let [container, host] = [0, 1].map(|place| redirections(node, PORTALS[place], NODE_PORTS[place]));
    jumps(Table::Nat, "PREROUTING", container.collect());
    // The relay's own connections go to endpoints, whose addresses may be those of a Service.
    let not_ours = Match::Mark(Sense::Not, node.mark.0, node.mark.0);
    jumps(Table::Nat, "OUTPUT", host.map(|rule| with(&rule, not_ours.clone())).collect());
    let non_local = Rule::jump([Match::comment(NON_LOCAL_COMMENT)], ChainName::of(NON_LOCAL));
    let new = Match::ConnectionState(Sense::Is, ConnectionStates::NEW);
    let refused = Rule::jump([new, Match::comment(REFUSED_COMMENT)], ChainName::of(REFUSED));
    jumps(Table::Filter, "INPUT", [non_local, refused.clone()].into());
    jumps(Table::Filter, "FORWARD", [refused.clone()].into());
    jumps(Table::Filter, "OUTPUT", [with(&refused, not_ours)].into());
    if transparency == Transparency::On {
        let answers = [Match::TransparentSocket, Match::comment(ANSWERS_COMMENT)];
        jumps(Table::Mangle, "PREROUTING", [Rule::jump(answers, ChainName::of(ANSWERS))].into());
        let mark = Rule::new([], Target::OrMark(answers_mark(node)));
        state.put(Key::chain(Table::Mangle, ChainName::of(ANSWERS)), [mark].into());
    }
    state
}

/// The ways to the chains of portals and of node ports, in this order: an address that is named wins.
fn redirections(
    node: &NodePlan,
    portals: &'static str,
    node_ports: &'static str,
) -> impl Iterator<Item = Rule> {
    let to_portals = Rule::jump([Match::comment(PORTALS_COMMENT)], ChainName::of(portals));
    let to_node_ports = node_port_matches(node).into_iter().map(move |addresses| {
        let matches = [Match::comment(NODE_PORTS_COMMENT)].into_iter().chain(addresses);
        Rule::jump(matches, ChainName::of(node_ports))
    });
    [to_portals].into_iter().chain(to_node_ports)
}

fn with(rule: &Rule, condition: Match) -> Rule {
    Rule::new(rule.matches().iter().cloned().chain([condition]), rule.target.clone())
}

/// The addresses that node ports are served on, as the matches of one rule each.
pub(super) fn node_port_matches(node: &NodePlan) -> Vec<Vec<Match>> {
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
