use std::sync::Arc;

use service_plan::{
    Endpoint, EndpointComments, LocalPods, LocalhostNodePorts, Mark, MasqueradeAll, NodePort,
    NodePortAddresses, Port, Protocol, Seconds, ServiceName, ServicePortName, Verdict,
};

use super::*;

fn node() -> NodePlan {
    NodePlan {
        family: Family::V4,
        local_pods: Some(LocalPods::Range("10.0.0.0/24".parse().expect("a range"))),
        masquerade_all: MasqueradeAll::No,
        mark: Mark(0x4000),
        addresses: Vec::new(),
        node_ports: NodePortAddresses::Only(vec!["192.0.2.1".parse().expect("an address")]),
        localhost_node_ports: LocalhostNodePorts::Ignore,
        endpoint_comments: EndpointComments::Yes,
        service_ranges: Vec::new(),
    }
}

fn forward(pool: PoolName, masquerade: Masquerade) -> Verdict {
    Verdict::Forward { pool, masquerade }
}

/// A service with three endpoints, one of them here, and a node port with a Local policy.
fn service(name: &str) -> ServicePlan {
    let endpoint = |(text, locality): (&str, Locality)| Endpoint {
        at: text.parse().expect("a socket"),
        locality,
        weight: service_plan::Weight::ONE,
    };
    let here = ("10.0.0.1:80", Locality::Local);
    let pool = [here, ("10.0.1.1:80", Locality::Remote), ("10.0.2.1:80", Locality::Remote)];
    let (no, yes) = (Masquerade::No, Masquerade::Yes);
    let cluster_ip = Entrance {
        at: Address::ClusterIp("172.30.0.1".parse().expect("an address"), Port::new(80).expect("a port")),
        verdicts: vec![
            (Source::Pod, forward(PoolName::Cluster, no)),
            (Source::Anyone, forward(PoolName::Cluster, yes)),
        ],
    };
    let node_port = Entrance {
        at: Address::NodePort(NodePort::new(30080).expect("a port")),
        verdicts: vec![
            (Source::Pod, forward(PoolName::Cluster, no)),
            (Source::Node, forward(PoolName::Cluster, yes)),
            (Source::Anyone, forward(PoolName::Local, no)),
        ],
    };
    ServicePlan {
        name: ServicePortName {
            service: ServiceName::new("ns", name),
            port: "http".into(),
            protocol: Protocol::Tcp,
        },
        cluster: pool.map(endpoint).to_vec(),
        local: vec![endpoint(here)],
        affinity: None,
        scheduler: None,
        header: service_plan::ClientHeader::None,
        entrances: vec![cluster_ip, node_port],
        named_on_node: Vec::new(),
        serving: Vec::new(),
        health_check: None,
    }
}

fn chains(state: &NftState) -> Vec<Name> {
    let name = |key: &Key| if let Object::Chain(name) = &key.object { Some(Arc::clone(name)) } else { None };
    state.iter().filter_map(|(key, _)| name(key)).collect()
}

#[test]
fn services_of_one_shape_share_their_chains() {
    let of = |name| chains(&Nftables::MODERN.render(&service(name), &node()));
    let expected = [
        "cluster-3",
        "node-port-cluster-3",
        "node-port-local-1",
        "node-port-pods-cluster-3-node-cluster-3-others-local-1",
    ];
    assert_eq!(of("a").iter().map(|name| &**name).collect::<Vec<_>>(), expected);
    assert_eq!(of("a"), of("b"));
}

#[test]
fn chains_of_pools_of_a_size_are_dear_and_others_are_not() {
    let of_pools = |name: &Name| Nftables::is_dear(&Key::chain(nft::Family::Ip, name));
    let dear: Vec<_> =
        chains(&Nftables::MODERN.render(&service("a"), &node())).into_iter().filter(of_pools).collect();
    assert_eq!(
        dear.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["cluster-3", "node-port-cluster-3", "node-port-local-1"]
    );
    for name in ["services", "affinity-cluster-AAAAAAAA-ns/a", "local-"] {
        assert!(!of_pools(&name.into()), "{name}");
    }
}

#[test]
fn an_endpoint_is_one_element_an_entrance() {
    let before = Nftables::MODERN.render(&service("a"), &node());
    let mut plan = service("a");
    plan.cluster[1].at = "10.0.3.1:80".parse().expect("a socket");
    let after = Nftables::MODERN.render(&plan, &node());
    let differing = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    let printed: Vec<String> = differing.map(|(key, value)| format!("{key:?} {value:?}")).collect();
    assert_eq!(printed.len(), 2, "{printed:#?}");
    assert_eq!(before.len(), after.len());
}

#[test]
fn affinity_has_chains_and_sets_of_its_own() {
    let plan = ServicePlan { affinity: Some(Seconds(60)), ..service("a") };
    let state = Nftables::MODERN.render(&plan, &node());
    let names = chains(&state);
    assert!(names.iter().all(|name| name.starts_with("affinity-")), "{names:?}");
    let sets = state.iter().filter(|(key, _)| matches!(key.object, Object::Set(_))).count();
    assert_eq!((names.len(), sets), (3, 3));
    let elements =
        |name| state.iter().any(|(key, _)| matches!(key.object, Object::Element(set, _) if set == name));
    assert!(elements("services") && !elements("endpoints"));
}

#[test]
fn whatever_a_rule_asks_is_there() {
    let affine = ServicePlan { affinity: Some(Seconds(60)), ..service("affine") };
    let mut state = Nftables::MODERN.skeleton(&node());
    for plan in [service("a"), affine] {
        state.extend(Nftables::MODERN.render(&plan, &node()));
    }
    let has_set = |name: &Name| state.get(&Key::set(nft::Family::Ip, name)).is_some();
    let has_chain = |name: &Name| state.get(&Key::chain(nft::Family::Ip, name)).is_some();
    let leads = |verdict: &nft::Verdict| match verdict {
        nft::Verdict::Jump(name) | nft::Verdict::Goto(name) => has_chain(name),
        nft::Verdict::Accept | nft::Verdict::Drop | nft::Verdict::Return => true,
    };
    for (key, value) in state.iter() {
        if let Value::Element(Data::Verdict(verdict)) = value {
            assert!(leads(verdict), "{key:?}");
        }
        let Value::Chain(chain) = value else { continue };
        for statement in chain.rules.iter().flat_map(|rule| &rule.statements) {
            let found = match statement {
                Statement::In(_, _, set)
                | Statement::Vmap(_, set)
                | Statement::DnatByMap(_, set)
                | Statement::Remember(set) => has_set(set),
                Statement::End(verdict) => leads(verdict),
                Statement::Within(..)
                | Statement::InInterface(..)
                | Statement::New
                | Statement::Translated
                | Statement::Protocol(_)
                | Statement::SourceIsLocal
                | Statement::DestinationIsLocal
                | Statement::OnceIn(_)
                | Statement::Dnat(..)
                | Statement::Masquerade
                | Statement::Reject
                | Statement::Foreign => true,
            };
            assert!(found, "{key:?}: {statement:?}");
        }
    }
}

#[test]
fn ranges_that_overlap_become_one() {
    let mut plan = service("a");
    let ranges = ["10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8"].map(|range| range.parse().expect("a range"));
    plan.entrances[0].at =
        Address::LoadBalancerIp("1.2.3.4".parse().expect("an address"), Port::new(80).expect("a port"));
    plan.entrances[0].verdicts.insert(0, (Source::Outside(ranges.to_vec()), Verdict::Drop));
    let admits = |(key, _): &(Key, Value)| matches!(key.object, Object::Element("admitted", _));
    let admitted: Vec<_> = Nftables::MODERN.render(&plan, &node()).into_iter().filter(admits).collect();
    let both = "10.0.0.0/7".parse().expect("a range");
    let tuple = Tuple::SocketRange("1.2.3.4".parse().expect("an address"), nft::Protocol::TCP, 80, both);
    assert_eq!(admitted, [(Key::element(nft::Family::Ip, "admitted", tuple), Value::member())]);
}
