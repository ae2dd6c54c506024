use service_plan::{
    HealthCheck, LocalPods, LocalhostNodePorts, Mark, Masquerade, MasqueradeAll, NodePort, Port, Seconds,
    ServiceName, ServicePortName,
};

use super::*;

fn mode() -> Ipvs {
    let scheduler = Scheduler::new("rr").expect("a short name");
    Ipvs { scheduler, local_fallback: LocalFallback::Drop }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn node() -> NodePlan {
    NodePlan {
        family: service_plan::Family::V4,
        local_pods: Some(LocalPods::Range("10.180.0.0/16".parse().expect("a range"))),
        masquerade_all: MasqueradeAll::No,
        mark: Mark(0x4000),
        addresses: vec![ip("192.168.0.10"), ip("192.168.0.11")],
        node_ports: NodePortAddresses::All,
        localhost_node_ports: LocalhostNodePorts::Ignore,
        service_ranges: Vec::new(),
        endpoint_comments: service_plan::EndpointComments::Yes,
    }
}

fn forward(pool: PoolName) -> Verdict {
    Verdict::Forward { pool, masquerade: Masquerade::No }
}

fn entrance(at: Address, verdicts: &[(Source, Verdict)]) -> Entrance {
    Entrance { at, verdicts: verdicts.to_vec() }
}

fn cluster_ip(verdicts: &[(Source, Verdict)]) -> Entrance {
    entrance(Address::ClusterIp(ip("172.30.0.1"), Port::new(80).expect("not 0")), verdicts)
}

fn service(entrances: Vec<Entrance>) -> ServicePlan {
    let endpoint = |text: &str, locality| Endpoint {
        at: text.parse().expect("a socket"),
        locality,
        weight: service_plan::Weight::ONE,
    };
    let local = endpoint("10.180.0.1:8080", Locality::Local);
    ServicePlan {
        name: ServicePortName {
            service: ServiceName::new("ns", "web"),
            port: "".into(),
            protocol: service_plan::Protocol::Tcp,
        },
        cluster: vec![local, endpoint("10.180.1.7:8080", Locality::Remote)],
        local: vec![local],
        affinity: None,
        scheduler: None,
        header: service_plan::ClientHeader::None,
        entrances,
        named_on_node: Vec::new(),
        serving: Vec::new(),
        health_check: None,
    }
}

fn printed(mode: &Ipvs, plan: &ServicePlan) -> Vec<String> {
    mode.render(plan, &node()).to_string().lines().map(str::to_owned).collect()
}

#[test]
fn a_cluster_ip_is_a_member_a_server_and_an_address() {
    let plan = service(vec![cluster_ip(&[(Source::Anyone, forward(PoolName::Cluster))])]);
    let expected = [
        "add KUBE-CLUSTER-IP 172.30.0.1,tcp:80",
        "add KUBE-IPVS-IPS 172.30.0.1",
        "add KUBE-LOOP-BACK 10.180.0.1,tcp:8080,10.180.0.1",
        "-A -t 172.30.0.1:80 -s rr",
        "-a -t 172.30.0.1:80 -r 10.180.0.1:8080 -m -w 1",
        "-a -t 172.30.0.1:80 -r 10.180.1.7:8080 -m -w 1",
        "address add 172.30.0.1/32 dev kube-ipvs0",
    ];
    assert_eq!(printed(&mode(), &plan), expected);
}

/// What the virtual server holds, and in which of the sets for those who are turned away it is.
fn outcome(local_fallback: LocalFallback, verdicts: &[(Source, Verdict)]) -> String {
    let lines = printed(&Ipvs { local_fallback, ..mode() }, &service(vec![cluster_ip(verdicts)]));
    let servers = lines.iter().filter(|line| line.starts_with("-a ")).count();
    let set = lines.iter().find_map(|line| line.strip_prefix("add KUBE-DROP-")).unwrap_or("NOBODY");
    format!("{servers}, drops {}", set.split(' ').next().unwrap_or_default())
}

#[test]
fn the_pool_is_that_of_anyone_or_of_those_inside() {
    let (cluster, local) = (forward(PoolName::Cluster), forward(PoolName::Local));
    let inside = |last| vec![(Source::Pod, cluster), (Source::Node, cluster), (Source::Anyone, last)];
    let anyone = |verdict| vec![(Source::Anyone, verdict)];
    let rows = [
        (LocalFallback::Drop, anyone(cluster), "2, drops NOBODY"),
        (LocalFallback::Drop, inside(local), "1, drops NOBODY"),
        (LocalFallback::Drop, inside(Verdict::Drop), "2, drops OUTSIDE"),
        (LocalFallback::Drop, anyone(Verdict::Drop), "0, drops ALL"),
        (LocalFallback::Drop, anyone(Verdict::Reject), "0, drops NOBODY"),
        (LocalFallback::Cluster, inside(Verdict::Drop), "2, drops NOBODY"),
        (LocalFallback::Cluster, anyone(Verdict::Drop), "2, drops NOBODY"),
        (LocalFallback::Cluster, anyone(Verdict::Reject), "0, drops NOBODY"),
    ];
    for (fallback, verdicts, expected) in rows {
        assert_eq!(outcome(fallback, &verdicts), expected, "{fallback:?} {verdicts:?}");
    }
}

#[test]
fn schedulers_that_hash_pass_over_what_drains() {
    let plan = |affinity| ServicePlan {
        affinity,
        ..service(vec![cluster_ip(&[(Source::Anyone, forward(PoolName::Cluster))])])
    };
    let rows = [
        ("rr", None, "-A -t 172.30.0.1:80 -s rr"),
        ("sh", None, "-A -t 172.30.0.1:80 -s sh -b sh-fallback"),
        ("mh", Some(Seconds(60)), "-A -t 172.30.0.1:80 -s mh -p 60 -b mh-fallback,mh-port"),
    ];
    for (name, affinity, expected) in rows {
        let scheduler = Scheduler::new(name).expect("a short name");
        let lines = printed(&Ipvs { scheduler, ..mode() }, &plan(affinity));
        assert!(lines.iter().any(|line| line == expected), "{lines:?}");
    }
}

#[test]
fn a_node_port_is_served_on_each_address_that_is_not_named() {
    let port = NodePort::new(30_001).expect("not 0");
    let verdicts = [(Source::Node, forward(PoolName::Cluster)), (Source::Anyone, forward(PoolName::Local))];
    let plan = ServicePlan {
        named_on_node: vec![ip("192.168.0.11")],
        serving: Vec::new(),
        health_check: Some(HealthCheck { port: NodePort::new(32_000).expect("not 0"), local_ready: 1 }),
        ..service(vec![entrance(Address::NodePort(port), &verdicts)])
    };
    let expected = [
        "add KUBE-HEALTH-CHECK-NODE-PORT 32000",
        "add KUBE-LOOP-BACK 10.180.0.1,tcp:8080,10.180.0.1",
        "add KUBE-NODE-PORT-LOCAL-TCP 30001",
        "add KUBE-NODE-PORT-TCP 30001",
        "-A -t 192.168.0.10:30001 -s rr",
        "-a -t 192.168.0.10:30001 -r 10.180.0.1:8080 -m -w 1",
    ];
    assert_eq!(printed(&mode(), &plan), expected);
}

#[test]
fn an_address_that_the_node_has_is_not_bound() {
    let at = Address::ExternalIp(ip("192.168.0.11"), Port::new(80).expect("not 0"));
    let plan = service(vec![entrance(at, &[(Source::Anyone, forward(PoolName::Cluster))])]);
    let lines = printed(&mode(), &plan);
    assert!(lines.contains(&"add KUBE-EXTERNAL-IP 192.168.0.11,tcp:80".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("kube-ipvs0") || line.contains("IPVS-IPS")), "{lines:?}");
}

#[test]
fn names_of_ipv6_are_cut_as_kube_proxy_cuts_them() {
    let rows = [
        (Set::ClusterIp, "KUBE-6-CLUSTER-IP"),
        (Set::LoadBalancerSourceCidr, "KUBE-6-LOAD-BALANCER-SOURCE-CID"),
        (Set::NodePortLocalSctp, "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS"),
    ];
    for (set, name) in rows {
        assert_eq!(set.name(service_plan::Family::V6).as_str(), name);
    }
    for family in service_plan::Family::BOTH {
        let mut names = Ipvs::sets(family);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Set::ALL.len(), "no two sets share a name");
    }
}

#[test]
fn rules_refer_only_to_sets_and_chains_that_are_there() {
    let text = mode().skeleton(&node()).to_string();
    let lines: Vec<&str> = text.lines().collect();
    for line in lines.iter().filter(|line| line.contains("--match-set")) {
        let name = line.split("--match-set ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a name");
        assert!(text.contains(&format!("create {name} ")), "{line}");
    }
    for line in lines.iter().filter(|line| line.contains("-j KUBE-")) {
        let chain = line.split("-j ").nth(1).expect("a chain");
        assert!(text.contains(&format!(":{chain} ")), "{line}");
    }
}
