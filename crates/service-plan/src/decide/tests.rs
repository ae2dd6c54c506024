//! The decision table, row by row, and what surrounds it.

use super::*;
use crate::facts::{EndpointSlice, FactChange, Node, Settings};
use crate::names::{Mark, NodePort, Protocol, Seconds, SliceName};
use crate::plan::Locality;
use crate::samples::{ips, node, node_port, ranges, service, service_name, service_port, settings, slice};

/// The facts around Service ns/web, which can be entered by every kind of address.
struct World {
    settings: Settings,
    node: Node,
    service: Service,
    endpoints: Vec<&'static str>,
}

const HERE_AND_ELSEWHERE: &[&str] = &["10.180.0.1 on:n1", "10.180.1.1 on:n2"];
const ELSEWHERE: &[&str] = &["10.180.1.1 on:n2"];
const NOWHERE: &[&str] = &["10.180.0.1 on:n1 unready"];

fn world() -> World {
    let mut service = service(1, "172.30.0.1");
    service.kind = ServiceKind::LoadBalancer;
    service.ports[0].node_port = Some(node_port(30080));
    service.external_ips = ips("192.0.2.1");
    service.load_balancer_ips = ips("203.0.113.1");
    World { settings: settings(), node: node(), service, endpoints: HERE_AND_ELSEWHERE.to_vec() }
}

impl World {
    fn plan(&self, family: Family) -> (Plan, Vec<Problem>) {
        let mut facts = Facts::new(self.settings.clone(), self.node.clone());
        let mut touched = Touched::nothing();
        let web = FactChange::Service(service_name("web"), Some(Arc::new(self.service.clone())));
        let slice = Some(Arc::new(slice("web", &self.endpoints)));
        for change in [web, FactChange::EndpointSlice(SliceName::new("ns", "web-1"), slice)] {
            touched = touched.and(facts.apply(change));
        }
        plan(&facts, &touched, family)
    }

    fn web(&self) -> ServicePlan {
        let (plan, problems) = self.plan(Family::V4);
        assert_eq!(problems, []);
        let mut ports = plan.services.into_iter().flat_map(|(_, ports)| ports);
        ports.next().expect("a service port")
    }

    fn node_plan(&self, family: Family) -> Arc<NodePlan> {
        self.plan(family).0.node
    }
}

/// What happens at one kind of address, in a world that is changed a little.
fn at(kind: &str, change: impl FnOnce(&mut World)) -> String {
    let mut world = world();
    change(&mut world);
    verdicts(&world.web(), kind)
}

fn verdicts(plan: &ServicePlan, kind: &str) -> String {
    let is_kind = |entrance: &&Entrance| match entrance.at {
        Address::ClusterIp(..) => kind == "cluster IP",
        Address::ExternalIp(..) => kind == "external IP",
        Address::LoadBalancerIp(..) => kind == "load balancer IP",
        Address::NodePort(_) => kind == "node port",
    };
    let entrance = plan.entrances.iter().find(is_kind).expect("an entrance of that kind");
    let rows = entrance.verdicts.iter().map(|(source, verdict)| format!("{source}: {verdict}"));
    rows.collect::<Vec<_>>().join("; ")
}

const OUTSIDE_KINDS: [&str; 3] = ["external IP", "load balancer IP", "node port"];
const INTERFACE: fn(&mut World) =
    |world| world.settings.local_pods = LocalPodsSetting::Interface("br0".into());
const PREFIX: fn(&mut World) =
    |world| world.settings.local_pods = LocalPodsSetting::InterfacePrefix("veth".into());
const UNDETECTED: fn(&mut World) = |world| world.settings.local_pods = LocalPodsSetting::Ranges(Vec::new());

#[test]
fn without_endpoints_every_address_rejects_whatever_the_policies() {
    for kind in ["cluster IP"].iter().chain(&OUTSIDE_KINDS) {
        for (internal, external) in [
            (Policy::Cluster, Policy::Cluster),
            (Policy::Local, Policy::Cluster),
            (Policy::Cluster, Policy::Local),
            (Policy::Local, Policy::Local),
        ] {
            for endpoints in [&[], NOWHERE] {
                let verdicts = at(kind, |world| {
                    world.service.internal_policy = internal;
                    world.service.external_policy = external;
                    world.endpoints = endpoints.to_vec();
                });
                assert_eq!(verdicts, "anyone: reject", "{kind} {internal:?} {external:?} {endpoints:?}");
            }
        }
    }
}

#[test]
fn a_cluster_ip_masquerades_whoever_is_no_local_pod() {
    let expected = "pod: cluster; anyone: cluster, masqueraded";
    for detector in [|_: &mut World| (), INTERFACE, PREFIX] {
        assert_eq!(at("cluster IP", detector), expected);
    }
}

#[test]
fn without_a_detector_a_cluster_ip_masquerades_nobody() {
    assert_eq!(at("cluster IP", UNDETECTED), "anyone: cluster");
}

#[test]
fn masquerade_all_masquerades_all_cluster_ip_traffic_detector_or_not() {
    for detector in [|_: &mut World| (), INTERFACE, PREFIX, UNDETECTED] {
        let verdicts = at("cluster IP", |world| {
            detector(world);
            world.settings.masquerade_all = MasqueradeAll::Yes;
        });
        assert_eq!(verdicts, "anyone: cluster, masqueraded");
    }
}

#[test]
fn masquerade_all_changes_nothing_for_traffic_from_outside() {
    for kind in OUTSIDE_KINDS {
        let verdicts = at(kind, |world| {
            world.settings.masquerade_all = MasqueradeAll::Yes;
            world.service.external_policy = Policy::Local;
        });
        assert_eq!(verdicts, "pod: cluster; node: cluster, masqueraded; anyone: local", "{kind}");
    }
}

#[test]
fn a_local_internal_policy_forwards_to_local_endpoints_or_drops() {
    let local = |endpoints: &'static [&str]| {
        at("cluster IP", |world| {
            world.service.internal_policy = Policy::Local;
            world.endpoints = endpoints.to_vec();
        })
    };
    assert_eq!(local(HERE_AND_ELSEWHERE), "pod: local; anyone: local, masqueraded");
    assert_eq!(
        local(&["10.180.0.1 on:n1 terminating", "10.180.1.1"]),
        "pod: local; anyone: local, masqueraded"
    );
    assert_eq!(local(ELSEWHERE), "anyone: drop");
    assert_eq!(local(&["10.180.1.1 on:n2 terminating"]), "anyone: drop");
}

#[test]
fn a_cluster_external_policy_masquerades_everybody() {
    for kind in OUTSIDE_KINDS {
        for detector in [|_: &mut World| (), INTERFACE, UNDETECTED] {
            assert_eq!(at(kind, detector), "anyone: cluster, masqueraded", "{kind}");
        }
    }
}

#[test]
fn a_local_external_policy_keeps_clients_on_the_node_and_gives_insiders_the_whole_cluster() {
    for kind in OUTSIDE_KINDS {
        for (detector, expected) in [
            (INTERFACE, "pod: cluster; node: cluster, masqueraded; anyone: local"),
            (PREFIX, "pod: cluster; node: cluster, masqueraded; anyone: local"),
            (|_: &mut World| (), "pod: cluster; node: cluster, masqueraded; anyone: local"),
            (UNDETECTED, "node: cluster, masqueraded; anyone: local"),
        ] {
            let verdicts = at(kind, |world| {
                detector(world);
                world.service.external_policy = Policy::Local;
            });
            assert_eq!(verdicts, expected, "{kind}");
        }
    }
}

#[test]
fn without_local_endpoints_a_local_external_policy_drops_outsiders_alone() {
    for kind in OUTSIDE_KINDS {
        let verdicts = at(kind, |world| {
            world.service.external_policy = Policy::Local;
            world.endpoints = ELSEWHERE.to_vec();
        });
        assert_eq!(verdicts, "pod: cluster; node: cluster, masqueraded; anyone: drop", "{kind}");
    }
}

#[test]
fn the_internal_policy_never_reaches_outside_addresses() {
    for kind in OUTSIDE_KINDS {
        let verdicts = at(kind, |world| {
            world.service.internal_policy = Policy::Local;
            world.endpoints = ELSEWHERE.to_vec();
        });
        assert_eq!(verdicts, "anyone: cluster, masqueraded", "{kind}");
    }
}

#[test]
fn the_external_policy_never_reaches_the_cluster_ip() {
    let verdicts = at("cluster IP", |world| {
        world.service.external_policy = Policy::Local;
        world.endpoints = ELSEWHERE.to_vec();
    });
    assert_eq!(verdicts, "pod: cluster; anyone: cluster, masqueraded");
}

#[test]
fn a_cluster_ip_service_has_an_external_policy_only_with_external_ips() {
    let verdicts = |external_ips: &str| {
        at("node port", |world| {
            world.service.kind = ServiceKind::ClusterIp;
            world.service.external_policy = Policy::Local;
            world.service.external_ips = ips(external_ips);
        })
    };
    assert_eq!(verdicts(""), "anyone: cluster, masqueraded");
    assert_eq!(verdicts("192.0.2.1"), "pod: cluster; node: cluster, masqueraded; anyone: local");
    // Those of the other family count as well.
    assert_eq!(verdicts("2001:db8::1"), "pod: cluster; node: cluster, masqueraded; anyone: local");
}

/// The sizes of both pools, for a Service that has or has not an address outside the cluster.
fn pools(kind: ServiceKind, internal: Policy, external: Policy, node_port: Option<NodePort>) -> [usize; 2] {
    let mut world = world();
    world.service.kind = kind;
    world.service.internal_policy = internal;
    world.service.external_policy = external;
    world.service.ports[0].node_port = node_port;
    world.service.external_ips.clear();
    world.service.load_balancer_ips.clear();
    let web = world.web();
    [web.pool(PoolName::Cluster).len(), web.pool(PoolName::Local).len()]
}

#[test]
fn a_pool_is_filled_only_if_an_entrance_asks_for_it() {
    use Policy::{Cluster, Local};
    let outside = Some(node_port(30080));
    for (internal, external, node_port, expected) in [
        (Cluster, Cluster, None, [2, 0]),
        (Cluster, Cluster, outside, [2, 0]),
        (Cluster, Local, None, [2, 0]),
        (Cluster, Local, outside, [2, 1]),
        (Local, Cluster, None, [0, 1]),
        (Local, Cluster, outside, [2, 1]),
        (Local, Local, None, [0, 1]),
        (Local, Local, outside, [2, 1]),
    ] {
        let sizes = pools(ServiceKind::NodePort, internal, external, node_port);
        assert_eq!(sizes, expected, "{internal:?} {external:?} {node_port:?}");
    }
}

/// What happens at the load balancer IP of a Service with source ranges.
fn with_ranges(source_ranges: &str) -> String {
    at("load balancer IP", |world| world.service.source_ranges = ranges(source_ranges))
}

#[test]
fn source_ranges_drop_whoever_is_outside() {
    assert_eq!(
        with_ranges("10.1.0.0/16 10.2.0.0/16"),
        "outside 10.1.0.0/16, 10.2.0.0/16: drop; anyone: cluster, masqueraded"
    );
}

#[test]
fn source_ranges_hold_for_pods_and_the_node_too() {
    let verdicts = at("load balancer IP", |world| {
        world.service.source_ranges = ranges("10.1.0.0/16");
        world.service.external_policy = Policy::Local;
    });
    assert_eq!(
        verdicts,
        "outside 10.1.0.0/16: drop; pod: cluster; node: cluster, masqueraded; anyone: local"
    );
}

#[test]
fn source_ranges_hold_for_load_balancer_ips_alone() {
    for kind in ["external IP", "node port"] {
        let verdicts = at(kind, |world| world.service.source_ranges = ranges("10.1.0.0/16"));
        assert_eq!(verdicts, "anyone: cluster, masqueraded", "{kind}");
    }
}

#[test]
fn a_range_of_everything_admits_everybody() {
    assert_eq!(with_ranges("10.1.0.0/16 0.0.0.0/0"), "anyone: cluster, masqueraded");
}

#[test]
fn ranges_of_the_other_family_say_nothing_about_this_one() {
    assert_eq!(with_ranges("fd00::/8"), "anyone: cluster, masqueraded");
    assert_eq!(with_ranges("::/0 10.1.0.0/16"), "outside 10.1.0.0/16: drop; anyone: cluster, masqueraded");
}

#[test]
fn the_load_balancer_ip_is_admitted_as_a_source_when_the_node_is() {
    assert_eq!(
        with_ranges("10.1.0.0/16 192.168.0.0/24"),
        "outside 10.1.0.0/16, 192.168.0.0/24, 203.0.113.1/32: drop; anyone: cluster, masqueraded"
    );
    // Another address of the node is not its own one.
    assert_eq!(with_ranges("172.16.0.0/16"), "outside 172.16.0.0/16: drop; anyone: cluster, masqueraded");
}

#[test]
fn a_node_without_an_address_is_known_as_localhost() {
    let verdicts = at("load balancer IP", |world| {
        world.node.ips.clear();
        world.service.source_ranges = ranges("127.0.0.0/8");
    });
    assert_eq!(verdicts, "outside 127.0.0.0/8, 203.0.113.1/32: drop; anyone: cluster, masqueraded");
}

#[test]
fn each_address_is_an_entrance_of_its_family() {
    let mut world = world();
    world.service.cluster_ips = ips("172.30.0.1 fd00:30::1");
    world.service.external_ips = ips("192.0.2.1 192.0.2.2 2001:db8::1");
    world.service.load_balancer_ips = ips("2001:db8::2 203.0.113.1");
    let entrances = |family| {
        let (plan, _) = world.plan(family);
        let ports = plan.services.into_iter().flat_map(|(_, ports)| ports);
        let addresses: Vec<_> =
            ports.flat_map(|port| port.entrances).map(|entrance| entrance.at.to_string()).collect();
        addresses.join(" ")
    };
    assert_eq!(entrances(Family::V4), "172.30.0.1:80 203.0.113.1:80 192.0.2.1:80 192.0.2.2:80 30080");
    assert_eq!(entrances(Family::V6), "[fd00:30::1]:80 [2001:db8::2]:80 [2001:db8::1]:80 30080");
}

#[test]
fn a_service_without_a_cluster_ip_of_a_family_is_not_served_in_it() {
    let (plan, problems) = world().plan(Family::V6);
    assert_eq!((plan.services, problems), (vec![(service_name("web"), vec![])], vec![]));
}

#[test]
fn endpoints_say_whether_they_are_local_and_affinity_passes_through() {
    let mut world = world();
    world.service.affinity = Some(Seconds(10_800));
    let web = world.web();
    let localities: Vec<_> = web.cluster.iter().map(|endpoint| endpoint.locality).collect();
    assert_eq!(localities, [Locality::Local, Locality::Remote]);
    assert_eq!(web.affinity, Some(Seconds(10_800)));
}

#[test]
fn every_port_has_its_own_endpoints_by_name_and_protocol() {
    let mut world = world();
    world.service.ports = vec![
        service_port("http", Protocol::Tcp, 80),
        service_port("http", Protocol::Udp, 80),
        service_port("", Protocol::Tcp, 81),
    ];
    let (plan, problems) = world.plan(Family::V4);
    assert_eq!(problems, [], "one number under two protocols is no conflict");
    let ports = plan.services.iter().flat_map(|(_, ports)| ports);
    let sizes: Vec<_> = ports.map(|port| (port.name.to_string(), port.cluster.len())).collect();
    assert_eq!(sizes, [("ns/web:http".into(), 2), ("ns/web:http".into(), 0), ("ns/web".into(), 0)]);
}

fn health_check(change: impl FnOnce(&mut World)) -> Option<(u16, usize)> {
    let mut world = world();
    world.service.external_policy = Policy::Local;
    world.service.health_check_node_port = Some(node_port(32000));
    change(&mut world);
    world.web().health_check.map(|check| (check.port.get(), check.local_ready))
}

#[test]
fn a_health_check_counts_the_distinct_local_ready_addresses() {
    assert_eq!(health_check(|_| ()), Some((32000, 1)));
    let endpoints = vec![
        "10.180.0.1 on:n1",
        "10.180.0.1 on:n1",
        "10.180.0.2 on:n1",
        "10.180.0.3 on:n1 terminating",
        "10.180.0.4 on:n1 unready",
        "10.180.0.5 on:n2",
    ];
    assert_eq!(health_check(|world| world.endpoints = endpoints), Some((32000, 2)));
    assert_eq!(
        health_check(|world| world.endpoints = vec!["10.180.0.1 on:n1 terminating"]),
        Some((32000, 0)),
        "a node with only terminating endpoints asks for no more clients"
    );
}

#[test]
fn a_health_check_is_for_load_balancers_with_a_local_policy_alone() {
    assert_eq!(health_check(|world| world.service.kind = ServiceKind::NodePort), None);
    assert_eq!(health_check(|world| world.service.external_policy = Policy::Cluster), None);
    assert_eq!(health_check(|world| world.service.health_check_node_port = None), None);
}

#[test]
fn a_health_check_passes_over_slices_that_offer_no_port() {
    let mut facts = Facts::new(settings(), node());
    let mut service = world().service;
    service.external_policy = Policy::Local;
    service.health_check_node_port = Some(node_port(32000));
    facts.apply(FactChange::Service(service_name("web"), Some(Arc::new(service))));
    let portless = EndpointSlice { ports: Vec::new(), ..slice("web", &["10.180.0.1 on:n1"]) };
    facts.apply(FactChange::EndpointSlice(SliceName::new("ns", "web-1"), Some(Arc::new(portless))));
    let (plan, _) = plan(&facts, &Touched::everything(), Family::V4);
    let checks: Vec<_> =
        plan.services.iter().flat_map(|(_, ports)| ports).map(|port| port.health_check).collect();
    assert_eq!(checks, [Some(HealthCheck { port: node_port(32000), local_ready: 0 })]);
}

/// How local pods are told in both families.
fn detectors(setting: LocalPodsSetting) -> [Option<LocalPods>; 2] {
    let mut world = world();
    world.settings.local_pods = setting;
    world.node.pod_ranges = ranges("fd00:180::/64 10.180.7.0/24 10.180.8.0/24");
    Family::BOTH.map(|family| world.node_plan(family).local_pods.clone())
}

#[test]
fn local_pods_are_told_by_the_first_range_of_a_family() {
    let range = |text| Some(LocalPods::Range(ranges(text)[0]));
    assert_eq!(
        detectors(LocalPodsSetting::Ranges(ranges("fd00:1::/64 10.1.0.0/16 10.2.0.0/16"))),
        [range("10.1.0.0/16"), range("fd00:1::/64")]
    );
    assert_eq!(detectors(LocalPodsSetting::NodeRanges), [range("10.180.7.0/24"), range("fd00:180::/64")]);
}

#[test]
fn a_family_without_a_range_has_no_detector() {
    let range = Some(LocalPods::Range(ranges("10.1.0.0/16")[0]));
    assert_eq!(detectors(LocalPodsSetting::Ranges(ranges("10.1.0.0/16"))), [range, None]);
}

#[test]
fn interfaces_tell_local_pods_of_both_families() {
    let bridge = Some(LocalPods::Interface("br0".into()));
    assert_eq!(detectors(LocalPodsSetting::Interface("br0".into())), [bridge.clone(), bridge]);
    let veth = Some(LocalPods::InterfacePrefix("veth".into()));
    assert_eq!(detectors(LocalPodsSetting::InterfacePrefix("veth".into())), [veth.clone(), veth]);
}

/// Where node ports are served in a family, as the plan prints it.
fn node_ports(setting: NodePortSetting, node_ips: &str, family: Family) -> String {
    let mut world = world();
    world.settings.node_ports = setting;
    world.node.ips = ips(node_ips);
    let text = world.node_plan(family).to_string();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("node ports   on "));
    line.expect("the plan tells").to_owned()
}

#[test]
fn node_ports_are_served_on_the_addresses_that_the_ranges_select() {
    let served =
        |text: &str, family| node_ports(NodePortSetting::Ranges(ranges(text)), "192.168.0.1", family);
    for (text, on_ipv4, on_ipv6) in [
        ("", "all local addresses, and on localhost", "all local addresses"),
        ("192.168.0.0/16", "192.168.0.1", "all local addresses"),
        ("192.168.0.0/16 172.16.0.0/12", "172.16.0.1, 192.168.0.1", "all local addresses"),
        ("fd00::/8", "all local addresses, and on localhost", "fd00::1"),
        ("10.0.0.0/8 fd01::/16", "no address", "no address"),
        ("192.168.0.0/16 0.0.0.0/0", "all local addresses, and on localhost", "all local addresses"),
        ("127.0.0.0/8", "no other address, and on localhost", "all local addresses"),
        ("127.0.0.1/32 192.168.0.0/16", "192.168.0.1, and on localhost", "all local addresses"),
        ("::1/128", "all local addresses, and on localhost", "no address"),
    ] {
        assert_eq!(served(text, Family::V4), on_ipv4, "IPv4 for {text:?}");
        assert_eq!(served(text, Family::V6), on_ipv6, "IPv6 for {text:?}");
    }
}

#[test]
fn primary_node_ports_are_those_on_the_nodes_own_address() {
    let served = |node_ips: &str| {
        let primary = || NodePortSetting::Primary(Vec::new());
        Family::BOTH.map(|family| node_ports(primary(), node_ips, family))
    };
    assert_eq!(served("192.168.0.1 fd00::1"), ["192.168.0.1", "fd00::1"]);
    assert_eq!(served("192.168.0.1"), ["192.168.0.1", "all local addresses"]);
    assert_eq!(served("fd00::1"), ["all local addresses, and on localhost", "fd00::1"]);
    assert_eq!(served("127.0.0.1"), ["all local addresses, and on localhost", "all local addresses"]);
}

#[test]
fn localhost_is_relayed_where_a_range_of_loopback_has_it() {
    let mut world = world();
    world.settings.localhost_node_ports = LocalhostNodePorts::Relay;
    world.node.ips = ips("192.168.0.1 fd00::1");
    for (text, relayed) in [
        ("127.0.0.0/8 ::1/128", &Family::BOTH[..]),
        ("127.0.0.1/32", &[Family::V4]),
        ("0.0.0.0/0 127.0.0.1/32", &[Family::V4]),
        ("::1/128", &[Family::V6]),
        // It would be at an address that nobody named.
        ("127.0.0.2/32", &[]),
        ("0.0.0.0/0 ::/0", &[]),
        ("", &[]),
    ] {
        for setting in [NodePortSetting::Ranges(ranges(text)), NodePortSetting::Primary(ranges(text))] {
            world.settings.node_ports = setting;
            let is_relayed =
                |family: &Family| world.node_plan(*family).localhost_node_ports == LocalhostNodePorts::Relay;
            let found: Vec<_> = Family::BOTH.into_iter().filter(is_relayed).collect();
            assert_eq!(found, relayed, "{text:?}");
        }
    }
    world.settings.node_ports = NodePortSetting::Primary(ranges("127.0.0.0/8"));
    let node = world.node_plan(Family::V4).to_string();
    assert!(node.contains("node ports   on 192.168.0.1, and relayed on localhost\n"), "{node}");
}

#[test]
fn localhost_node_ports_can_be_switched_off() {
    let mut world = world();
    world.settings.localhost_node_ports = LocalhostNodePorts::Ignore;
    for family in Family::BOTH {
        assert_eq!(world.node_plan(family).localhost_node_ports, LocalhostNodePorts::Ignore);
    }
}

#[test]
fn the_node_plan_carries_the_mark_and_the_service_ranges_of_its_family() {
    let mut facts = Facts::new(Settings { mark: Mark(1 << 31), ..settings() }, node());
    facts.apply(FactChange::ServiceRanges(ranges("10.96.0.0/12 fd00:96::/112")));
    for (family, expected) in [(Family::V4, "10.96.0.0/12"), (Family::V6, "fd00:96::/112")] {
        let (plan, _) = plan(&facts, &Touched::nothing(), family);
        assert_eq!((plan.node.mark, plan.node.service_ranges.clone()), (Mark(1 << 31), ranges(expected)));
    }
}

/// Plans Services together; answers who serves what, and what is refused.
fn contest(services: &[(&str, Service)]) -> (String, Vec<String>) {
    let mut facts = Facts::new(settings(), node());
    for (name, service) in services {
        facts.apply(FactChange::Service(service_name(name), Some(Arc::new(service.clone()))));
    }
    let (plan, problems) = plan(&facts, &Touched::everything(), Family::V4);
    let ports = plan.services.iter().flat_map(|(_, ports)| ports);
    let served = ports.map(|port| {
        let addresses: Vec<_> = port.entrances.iter().map(|entrance| entrance.at.to_string()).collect();
        format!("{}: {}", port.name, addresses.join(" "))
    });
    let served: Vec<_> = served.collect();
    (served.join("; "), problems.iter().map(ToString::to_string).collect())
}

#[test]
fn the_oldest_service_keeps_a_contested_address_and_the_other_one_is_told() {
    let with_node_port = |age, cluster_ip| {
        let mut service = service(age, cluster_ip);
        service.ports[0].node_port = Some(node_port(30080));
        service
    };
    let (served, problems) =
        contest(&[("a", with_node_port(2, "10.0.0.1")), ("b", with_node_port(1, "10.0.0.2"))]);
    assert_eq!(served, "ns/a:http: 10.0.0.1:80; ns/b:http: 10.0.0.2:80 30080");
    assert_eq!(
        problems,
        [
            "Service ns/a:http: spec.ports.nodePort 30080/TCP is already taken by Service ns/b, which is older or \
          first by name; the address is not served for ns/a:http"
        ]
    );
}

#[test]
fn of_two_of_the_same_age_the_first_by_name_keeps_the_address() {
    let (served, problems) = contest(&[("b", service(1, "10.0.0.1")), ("a", service(1, "10.0.0.1"))]);
    assert_eq!(served, "ns/a:http: 10.0.0.1:80; ns/b:http: ");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("Service ns/b:http: spec.clusterIP 10.0.0.1:80/TCP"), "{problems:?}");
}

#[test]
fn a_service_that_does_not_know_its_age_is_the_youngest() {
    let ageless = Service { created: None, ..service(0, "10.0.0.1") };
    let (served, _) = contest(&[("a", ageless), ("b", service(9, "10.0.0.1"))]);
    assert_eq!(served, "ns/a:http: ; ns/b:http: 10.0.0.1:80");
}

#[test]
fn kinds_of_addresses_contest_one_another() {
    let external = Service { external_ips: ips("10.0.0.1"), ..service(1, "10.0.0.9") };
    let balanced = Service { load_balancer_ips: ips("10.0.0.1"), ..service(2, "10.0.0.8") };
    let (served, problems) = contest(&[("c", service(3, "10.0.0.1")), ("b", balanced), ("a", external)]);
    assert_eq!(served, "ns/a:http: 10.0.0.9:80 10.0.0.1:80; ns/b:http: 10.0.0.8:80; ns/c:http: ");
    assert!(problems[0].contains("ns/b:http: status.loadBalancer.ingress 10.0.0.1:80/TCP"), "{problems:?}");
    assert!(problems[1].contains("ns/c:http: spec.clusterIP 10.0.0.1:80/TCP"), "{problems:?}");
}

#[test]
fn the_same_address_under_another_port_or_protocol_is_no_contest() {
    let on = |protocol, number| Service {
        ports: vec![service_port("http", protocol, number)],
        ..service(1, "10.0.0.1")
    };
    let (served, problems) =
        contest(&[("a", on(Protocol::Tcp, 80)), ("b", on(Protocol::Tcp, 81)), ("c", on(Protocol::Udp, 80))]);
    assert_eq!(served, "ns/a:http: 10.0.0.1:80; ns/b:http: 10.0.0.1:81; ns/c:http: 10.0.0.1:80");
    assert_eq!(problems, [""; 0]);
}

#[test]
fn a_service_claims_nothing_in_a_family_that_it_is_not_served_in() {
    let ipv6 = Service { external_ips: ips("192.0.2.1"), ..service(1, "fd00:30::1") };
    let ipv4 = Service { external_ips: ips("192.0.2.1"), ..service(2, "10.0.0.2") };
    let (served, problems) = contest(&[("a", ipv6), ("b", ipv4)]);
    assert_eq!(served, "ns/b:http: 10.0.0.2:80 192.0.2.1:80");
    assert_eq!(problems, [""; 0]);
}

#[test]
fn the_first_of_two_equal_ports_of_a_service_keeps_it() {
    let ports = vec![service_port("http", Protocol::Tcp, 80), service_port("web", Protocol::Tcp, 80)];
    let (served, problems) = contest(&[("a", Service { ports, ..service(1, "10.0.0.1") })]);
    assert_eq!(served, "ns/a:http: 10.0.0.1:80; ns/a:web: ");
    assert_eq!(
        problems,
        [
            "Service ns/a:web: spec.clusterIP 10.0.0.1:80/TCP is already taken by another port of the same Service, \
          the first one keeps it"
        ]
    );
}

#[test]
fn an_address_that_a_service_names_twice_is_served_once_and_within_its_ranges() {
    let twice = Service {
        external_ips: ips("192.0.2.1 192.0.2.1 10.0.0.1"),
        load_balancer_ips: ips("192.0.2.1"),
        ..service(1, "10.0.0.1")
    };
    let (served, problems) = contest(&[("a", twice.clone())]);
    assert_eq!(served, "ns/a:http: 10.0.0.1:80 192.0.2.1:80");
    assert_eq!(problems, [""; 0]);
    let mut world = world();
    world.service = Service { source_ranges: ranges("10.1.0.0/16"), ..twice };
    assert_eq!(
        verdicts(&world.web(), "load balancer IP"),
        "outside 10.1.0.0/16: drop; anyone: cluster, masqueraded"
    );
}

#[test]
fn a_problem_names_the_service_whose_input_is_refused() {
    let mut facts = Facts::new(settings(), node());
    for (age, name) in [(1, "old"), (2, "young")] {
        facts.apply(FactChange::Service(service_name(name), Some(Arc::new(service(age, "10.0.0.1")))));
    }
    let (_, problems) = plan(&facts, &Touched::everything(), Family::V4);
    let refused: Vec<_> = problems.iter().map(Problem::service).collect();
    assert_eq!(refused, [&service_name("young")]);
}
