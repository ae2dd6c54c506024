//! What the scenarios' goldens cannot show: rules of clusters too large for a golden, and laws of all rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use service_plan::{
    EndpointSlice, FactChange, Facts, Family, Health, LocalPodsSetting, LocalhostNodePorts, Mark,
    MasqueradeAll, Node, NodePort, NodePortSetting, Policy, Port, Seconds, Service, ServiceKind, ServiceName,
    ServicePort, Settings, SliceEndpoint, SliceName, SlicePort, Touched, plan,
};

use super::*;

/// A Service that uses all that there is, with so many endpoints.
fn facts(endpoints: u16) -> Facts {
    let settings = Settings {
        masquerade_all: MasqueradeAll::No,
        mark: Mark(0x4000),
        local_pods: LocalPodsSetting::NodeRanges,
        node_ports: NodePortSetting::Ranges(Vec::new()),
        localhost_node_ports: LocalhostNodePorts::Serve,
    };
    let node = Node {
        name: "n1".into(),
        zone: "".into(),
        ips: vec!["192.168.0.1".parse().expect("an address")],
        interface_addresses: Vec::new(),
        pod_ranges: vec!["10.1.0.0/16".parse().expect("a range")],
    };
    let (name, protocol) = (Arc::from("http"), service_plan::Protocol::Tcp);
    let port = Port::new(8080).expect("a port");
    let service = Service {
        created: None,
        kind: ServiceKind::LoadBalancer,
        cluster_ips: vec!["10.0.0.1".parse().expect("an address")],
        ports: vec![ServicePort {
            name: Arc::clone(&name),
            protocol,
            port,
            node_port: NodePort::new(30_080),
        }],
        external_ips: vec!["192.0.2.1".parse().expect("an address")],
        load_balancer_ips: vec!["192.0.2.2".parse().expect("an address")],
        source_ranges: vec!["192.0.2.0/24".parse().expect("a range")],
        affinity: Some(Seconds(10)),
        external_policy: Policy::Local,
        internal_policy: Policy::Cluster,
        health_check_node_port: NodePort::new(32_000),
        weights: std::collections::BTreeMap::new(),
        scheduler: None,
        header: service_plan::ClientHeader::None,
    };
    let endpoint = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let address = IpAddr::from([10, 1, high, low]);
        SliceEndpoint {
            address,
            health: Health::Ready,
            node: Some("n1".into()),
            zone: None,
            weight: None,
            hints: None,
        }
    };
    let slice = EndpointSlice {
        service: ServiceName::new("ns", "web"),
        family: Family::V4,
        ports: vec![SlicePort { name, protocol, port }],
        endpoints: (1..=endpoints).map(endpoint).collect(),
    };
    let mut facts = Facts::new(settings, node);
    facts.apply(FactChange::Service(ServiceName::new("ns", "web"), Some(Arc::new(service))));
    facts.apply(FactChange::EndpointSlice(SliceName::new("ns", "web-1"), Some(Arc::new(slice))));
    facts
}

fn state(endpoints: u16) -> XtablesState {
    let mode = Iptables { invalid_packets: InvalidPackets::Drop };
    let (plan, problems) = plan(&facts(endpoints), &Touched::everything(), Family::V4);
    assert_eq!(problems, []);
    let mut state = mode.skeleton(&plan.node);
    for port in plan.services.iter().flat_map(|(_, ports)| ports) {
        state.extend(mode.render(port, &plan.node));
    }
    state
}

#[test]
fn endpoints_are_commented_while_somebody_may_read_it() {
    let commented = state(1000).to_string();
    assert!(commented.contains("\"ns/web:http -> 10.1.0.1:8080\" -m recent"), "{commented}");
    assert!(commented.contains("-s 10.1.0.1/32 -m comment --comment \"ns/web:http\" -j KUBE-MARK-MASQ"));
    let sparse = state(1001).to_string();
    assert!(!sparse.contains(" -> "));
    assert!(sparse.contains("-s 10.1.0.1/32 -j KUBE-MARK-MASQ"));
    assert!(sparse.contains("\"ns/web:http cluster IP\""), "owners are still known by their comments");
}

#[test]
fn every_jump_leads_to_a_chain_and_every_chain_is_led_to() {
    let state = state(3);
    let chains: BTreeSet<(Table, ChainName)> = state
        .iter()
        .filter(|(key, _)| key.part == Part::Chain)
        .map(|(key, _)| (key.table, key.chain))
        .collect();
    let jumps: BTreeSet<(Table, ChainName)> = state
        .iter()
        .flat_map(|(key, rules)| rules.iter().map(|rule| (key.table, rule)))
        .filter_map(|(table, rule)| match rule.target {
            Some(Target::Jump(to)) => Some((table, to)),
            _ => None,
        })
        .collect();
    assert_eq!(jumps, chains);
}

#[test]
fn what_a_kubelet_relies_on_is_left_alone() {
    const BOTH: &str = r#"*filter
:INPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets" -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
COMMIT
*nat
:KUBE-MARK-DROP - [0:0]
-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000
COMMIT
"#;
    const KUBELET: &str = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n";
    let guard = Part::Guard;
    for (text, guarded, found) in [
        (
            BOTH.to_owned(),
            GuardedChain::Wanted,
            vec![Part::Chain, Part::Chain, guard.clone(), guard.clone(), Part::Stray(0)],
        ),
        (
            BOTH.to_owned(),
            GuardedChain::Unwanted,
            vec![Part::Chain, Part::Chain, guard.clone(), guard.clone(), Part::Stray(0)],
        ),
        (BOTH.to_owned() + KUBELET, GuardedChain::Wanted, vec![Part::Chain, guard.clone(), guard.clone()]),
        (BOTH.to_owned() + KUBELET, GuardedChain::Unwanted, vec![]),
    ] {
        let chains = kernel_state::xtables::parse_save(&text).expect("what iptables-save prints");
        let layout = Iptables::layout(guarded);
        let mut parts: Vec<Part> = Vec::new();
        let mut finder = layout.finder();
        for chain in chains {
            finder.chain(chain, &mut |key, _| parts.push(key.part));
        }
        finder.end(&mut |key, _| parts.push(key.part));
        parts.sort();
        assert_eq!(parts, found, "{guarded:?} of {text}");
    }
}
