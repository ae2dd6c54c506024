//! What the nftables mode needs whatever Services there are: the sets and maps, and the chains that ask them.

use ipnet::IpNet;
use kernel_state::nft::{
    ChainKind, Field, Hook, HookPoint, Key, NftState, Protocol, Rule, Sense, SetSpec, Statement, Tuple, Value,
};
use service_plan::{Family, LocalPods, MasqueradeAll, NodePlan, NodePortAddresses};

use super::{Nftables, SourceRanges, family, layout};

const SERVICES: &str = "services";
const MASQUERADING: &str = "masquerading";
const MASQUERADING_NODE: &str = "masquerading-node";
const REFUSED_SERVICES: &str = "refused-services";
const REFUSED_NODE_PORTS: &str = "refused-node-ports";
const UNUSED_CLUSTER_IPS: &str = "unused-cluster-ips";

/// The priorities that nft calls dstnat, filter and srcnat.
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

const PROTOCOLS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
const SOCKET: [Field; 3] = [Field::Destination, Field::Protocol, Field::Port];
const PORT: [Field; 2] = [Field::Protocol, Field::Port];
const ORIGINAL_SOCKET: [Field; 3] = [Field::OriginalDestination, Field::Protocol, Field::OriginalPort];
const ORIGINAL_PORT: [Field; 2] = [Field::Protocol, Field::OriginalPort];

pub(super) fn skeleton(mode: Nftables, node: &NodePlan) -> NftState {
    let mut state = NftState::new();
    let family = family(node);
    state.put(Key::table(family), Value::Table(mode.layout().into()));
    for (set, key, data) in mode.sets() {
        state.put(Key::set(family, set), Value::Set(SetSpec::Written(*key, *data)));
    }
    if let NodePortAddresses::Only(addresses) = &node.node_ports {
        for address in addresses {
            let key = Key::element(family, layout::NODE_PORT_IPS, Tuple::Address(*address));
            state.put(key, Value::member());
        }
    }
    for (name, hook, rules) in base_chains() {
        state.put(Key::chain(family, name), Value::base_chain(hook, rules));
    }
    for (name, rules) in chains(mode, node) {
        state.put(Key::chain(family, name), Value::chain(rules));
    }
    state
}

/// How the packets of local pods are told.
pub(super) fn local_pods(node: &NodePlan, sense: Sense) -> Option<Statement> {
    Some(match node.local_pods.as_ref()? {
        LocalPods::Range(range) => Statement::Within(Field::Source, sense, range.trunc()),
        LocalPods::Interface(name) => Statement::InInterface(sense, name.clone()),
        LocalPods::InterfacePrefix(prefix) => Statement::InInterface(sense, format!("{prefix}*").into()),
    })
}

fn base_chains() -> [(&'static str, Hook, Vec<Rule>); 6] {
    let hook = |kind, at, priority| Hook { kind, at, priority };
    let (filter, nat) = (ChainKind::Filter, ChainKind::Nat);
    let jump = |chain| Rule::new([Statement::jump(chain)]);
    let jump_new = |chain| Rule::new([Statement::New, Statement::jump(chain)]);
    let refused = || vec![jump_new(REFUSED_SERVICES), jump_new(UNUSED_CLUSTER_IPS)];
    [
        ("nat-prerouting", hook(nat, HookPoint::Prerouting, DSTNAT), vec![jump(SERVICES)]),
        ("nat-output", hook(nat, HookPoint::Output, DSTNAT), vec![jump(SERVICES)]),
        (
            "nat-postrouting",
            hook(nat, HookPoint::Postrouting, SRCNAT),
            vec![Rule::new([Statement::Translated, Statement::jump(MASQUERADING)])],
        ),
        (
            "filter-input",
            hook(filter, HookPoint::Input, FILTER),
            vec![jump_new(REFUSED_SERVICES), jump_new(REFUSED_NODE_PORTS)],
        ),
        ("filter-forward", hook(filter, HookPoint::Forward, FILTER), refused()),
        ("filter-output", hook(filter, HookPoint::Output, FILTER), refused()),
    ]
}

fn chains(mode: Nftables, node: &NodePlan) -> [(&'static str, Vec<Rule>); 6] {
    [
        (SERVICES, services(mode, node)),
        (MASQUERADING, masquerading(node)),
        (MASQUERADING_NODE, vec![Rule::new([Statement::SourceIsLocal, Statement::Masquerade])]),
        (REFUSED_SERVICES, vec![Rule::new([within(&SOCKET, layout::REFUSED_SERVICES), Statement::Reject])]),
        (REFUSED_NODE_PORTS, vec![refused_node_ports(node)]),
        (UNUSED_CLUSTER_IPS, unused_cluster_ips(node)),
    ]
}

fn services(mode: Nftables, node: &NodePlan) -> Vec<Rule> {
    let restricted = match mode.source_ranges {
        SourceRanges::InSet => Rule::new([
            within(&SOCKET, layout::RESTRICTED),
            Statement::In(
                [&SOCKET[..], &[Field::Source]].concat().into(),
                Sense::Not,
                layout::ADMITTED.into(),
            ),
            Statement::drop(),
        ]),
        SourceRanges::InChains => Rule::new([Statement::Vmap(SOCKET.into(), layout::RESTRICTIONS.into())]),
    };
    let node_ports = match node.node_ports {
        NodePortAddresses::All => vec![Statement::DestinationIsLocal, not_loopback(node, Field::Destination)],
        NodePortAddresses::Only(_) => vec![within(&[Field::Destination], layout::NODE_PORT_IPS)],
    };
    let by_port = Statement::Vmap(PORT.into(), layout::NODE_PORTS.into());
    vec![
        restricted.commented("source ranges of load balancers"),
        Rule::new([Statement::Vmap(SOCKET.into(), layout::SERVICES.into())]),
        Rule::new(node_ports.into_iter().chain([by_port])),
    ]
}

/// What was translated is told by where it was sent at first; the packet's mark is left to others.
fn masquerading(node: &NodePlan) -> Vec<Rule> {
    let itself = within(&[Field::Source, Field::Destination], layout::HAIRPINS);
    let mut rules = vec![Rule::new([itself, Statement::Masquerade]).commented("to itself")];
    let to_cluster_ip = within(&[Field::OriginalDestination], layout::CLUSTER_IPS);
    match (node.masquerade_all, local_pods(node, Sense::Not)) {
        (MasqueradeAll::Yes, _) => rules.push(Rule::new([to_cluster_ip, Statement::Masquerade])),
        (MasqueradeAll::No, Some(not_pods)) => {
            let rule = Rule::new([to_cluster_ip, not_pods, Statement::Masquerade]);
            rules.push(rule.commented("to a cluster IP, from outside the cluster"));
        }
        (MasqueradeAll::No, None) => {}
    }
    let node_port = match node.node_ports {
        NodePortAddresses::All => not_loopback(node, Field::OriginalDestination),
        NodePortAddresses::Only(_) => within(&[Field::OriginalDestination], layout::NODE_PORT_IPS),
    };
    let masquerade = || Statement::Masquerade;
    let only_node = || Statement::goto(MASQUERADING_NODE);
    let socket = |set| (None, within(&ORIGINAL_SOCKET, set));
    let port = |set| (Some(node_port.clone()), within(&ORIGINAL_PORT, set));
    let questions = [
        (socket(layout::MASQUERADED_SERVICES), masquerade()),
        (socket(layout::LOCAL_SERVICES), only_node()),
        (port(layout::MASQUERADED_NODE_PORTS), masquerade()),
        (port(layout::LOCAL_NODE_PORTS), only_node()),
    ];
    for ((address, question), answer) in questions {
        for protocol in PROTOCOLS {
            // nft takes a port of the connection only where the protocol is known.
            let condition = [Statement::Protocol(protocol)].into_iter().chain(address.clone());
            rules.push(Rule::new(condition.chain([question.clone(), answer.clone()])));
        }
    }
    rules
}

fn refused_node_ports(node: &NodePlan) -> Rule {
    let address = match node.node_ports {
        NodePortAddresses::All => not_loopback(node, Field::Destination),
        NodePortAddresses::Only(_) => within(&[Field::Destination], layout::NODE_PORT_IPS),
    };
    Rule::new([address, within(&PORT, layout::REFUSED_NODE_PORTS), Statement::Reject])
}

/// Packets for cluster IPs that nothing forwarded: no Service has that port, or nobody has that address.
fn unused_cluster_ips(node: &NodePlan) -> Vec<Rule> {
    let no_such_port = Rule::new([within(&[Field::Destination], layout::CLUSTER_IPS), Statement::Reject]);
    let nobody = node.service_ranges.iter().map(|range| {
        Rule::new([Statement::Within(Field::Destination, Sense::Is, range.trunc()), Statement::drop()])
    });
    [no_such_port].into_iter().chain(nobody).collect()
}

fn within(fields: &[Field], set: &str) -> Statement {
    Statement::In(fields.into(), Sense::Is, set.into())
}

fn not_loopback(node: &NodePlan, field: Field) -> Statement {
    let text = match node.family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1/128",
    };
    let loopback: IpNet = text.parse().expect("a range in the code parses");
    Statement::Within(field, Sense::Not, loopback)
}
