use super::*;
use crate::services::tests::service;

type Services = Vec<(ServiceName, Service)>;

/// Services of these names with these specifications.
fn services(all: &[(&str, &str)]) -> Services {
    let one = |(name, spec): &(&str, &str)| {
        let spec = format!("{spec}, ports: [{{port: 80}}], selector: {{app: web}}");
        let (service, problems) = service(spec.trim_start_matches(", "));
        (ServiceName::new("default", name), service.unwrap_or_else(|| panic!("{problems:?}")))
    };
    all.iter().map(one).collect()
}

fn ranges(addresses: &[&str], node_ports: RangeInclusive<u16>) -> Ranges {
    Ranges { addresses: addresses.iter().map(|text| text.parse().expect("a range")).collect(), node_ports }
}

/// Name, addresses and node ports of those that are served, and what is complained of.
fn given(services: &Services, ranges: &Ranges, held: &mut Held) -> (Vec<String>, Vec<String>) {
    let (served, problems) = allocated(services.iter().map(|(name, one)| (name, one)), ranges, held);
    let line = |(name, service): (&ServiceName, &Arc<service_plan::Service>)| {
        let ips: Vec<_> = service.cluster_ips.iter().map(ToString::to_string).collect();
        let ports = service.ports.iter().filter_map(|port| port.node_port);
        let ports: Vec<_> =
            ports.chain(service.health_check_node_port).map(|port| port.to_string()).collect();
        format!("{} {} {}", name.name, ips.join(","), ports.join(",")).trim_end().to_owned()
    };
    (served.iter().map(line).collect(), problems.iter().map(ToString::to_string).collect())
}

#[test]
fn what_is_given_follows_from_the_name_and_is_kept() {
    let ranges = ranges(&["10.96.0.0/16", "fd00:96::/112"], 30000..=32767);
    let all = services(&[
        ("a", ""),
        ("b", "type: NodePort"),
        ("c", "ipFamilyPolicy: RequireDualStack"),
        ("d", "clusterIP: 10.96.0.10"),
        ("e", "type: LoadBalancer, externalTrafficPolicy: Local"),
    ]);
    let mut held = Held::default();
    let first = given(&all, &ranges, &mut held);
    assert_eq!(first.1, [""; 0]);
    assert_eq!(given(&all, &ranges, &mut Held::default()), first, "the same elsewhere");
    let again = held.clone();
    assert_eq!(given(&all, &ranges, &mut held), first, "the same later");
    assert_eq!(held, again);
    // The lower band is for those that name their own.
    let low = "10.96.0.0/24".parse::<IpNet>().expect("a range");
    assert!(held.addresses.values().flatten().all(|ip| !low.contains(ip)), "{held:?}");
    assert!(held.node_ports.values().all(|port| *port >= 30086), "{held:?}");
    assert_eq!(held.node_ports.len(), 3, "{held:?}");
    assert_eq!(held.addresses["default/c"].len(), 2);
}

#[test]
fn it_is_the_same_after_it_was_written_down() {
    let ranges = ranges(&["10.96.0.0/16"], 30000..=32767);
    let all = services(&[("a", "type: NodePort")]);
    let mut held = Held::default();
    given(&all, &ranges, &mut held);
    let text = serde_json::to_string(&held).expect("JSON");
    assert_eq!(serde_json::from_str::<Held>(&text).expect("the same"), held);
}

#[test]
fn whoever_has_something_keeps_it_whoever_comes() {
    let ranges = ranges(&["10.96.0.0/29"], 30000..=30003);
    let mut held = Held::default();
    let few = services(&[("m", ""), ("n", "type: NodePort")]);
    let (before, _) = given(&few, &ranges, &mut held);
    let more = services(&[("a", ""), ("b", "type: NodePort"), ("m", ""), ("n", "type: NodePort")]);
    let (after, problems) = given(&more, &ranges, &mut held);
    assert_eq!(problems, [""; 0]);
    assert!(before.iter().all(|line| after.contains(line)), "{before:?} {after:?}");
    // What is given back can be had by another.
    given(&services(&[("a", "")]), &ranges, &mut held);
    assert_eq!((held.addresses.len(), held.node_ports.len()), (1, 0));
}

#[test]
fn whoever_names_his_own_has_it() {
    let ranges = ranges(&["10.96.0.0/30"], 30000..=30000);
    let mut held = Held::default();
    // One of two is left.
    let all = services(&[("a", ""), ("b", "clusterIP: 10.96.0.1")]);
    assert_eq!(given(&all, &ranges, &mut held).0, ["a 10.96.0.2", "b 10.96.0.1"]);
    let all = services(&[("a", ""), ("b", "clusterIP: 10.96.0.2")]);
    assert_eq!(given(&all, &ranges, &mut held).0, ["a 10.96.0.1", "b 10.96.0.2"]);
}

#[test]
fn a_full_range_is_told_and_hurts_no_other() {
    let ranges = ranges(&["10.96.0.0/30"], 30000..=30000);
    let all = services(&[
        ("a", ""),
        ("b", "type: NodePort"),
        ("c", ""),
        ("d", "clusterIP: 10.1.1.1, type: NodePort"),
    ]);
    let (served, problems) = given(&all, &ranges, &mut Held::default());
    assert_eq!(served.len(), 2);
    assert_eq!(
        problems,
        [
            "Service default/c: spec.clusterIP: every address of 10.96.0.0/30 is taken",
            "Service default/d: spec.ports[0].nodePort: every port of 30000-30000 is taken",
        ]
    );
    let wanted = services(&[("a", "ipFamilies: [IPv6]")]);
    assert_eq!(
        given(&wanted, &ranges, &mut Held::default()).1,
        ["Service default/a: spec.clusterIP: there is no range of IPv6 addresses"]
    );
}
