//! What a change touches, and the laws that hold for all changes.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::samples::{ips, node, node_port, ranges, service, service_name, service_port, settings, slice};
use crate::{NodePlan, Plan, Problem, ServicePlan, plan};

fn known(services: &[(&str, Service)]) -> Facts {
    let mut facts = Facts::new(settings(), node());
    for (name, service) in services {
        facts.apply(is(name, service.clone()));
    }
    facts
}

fn is(name: &str, service: Service) -> FactChange {
    FactChange::Service(service_name(name), Some(Arc::new(service)))
}

fn is_gone(name: &str) -> FactChange {
    FactChange::Service(service_name(name), None)
}

fn slice_is(name: &str, slice: Option<EndpointSlice>) -> FactChange {
    FactChange::EndpointSlice(SliceName::new("ns", name), slice.map(Arc::new))
}

/// The names that a change touched, or `everything`.
fn touched(facts: &mut Facts, change: FactChange) -> String {
    let touched = facts.apply(change);
    match touched.scope {
        Scope::Everything => "everything".to_owned(),
        Scope::Named | Scope::Node => {
            touched.services.iter().map(|name| &*name.name).collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn the_endpoint_that_is_one_too_many_to_comment_touches_everything() {
    let mut facts = known(&[("web", service(1, "10.0.0.1"))]);
    let many = |count: u16| {
        let address = |number: u16| format!("10.1.{}.{}", number / 250, number % 250 + 1);
        let endpoints: Vec<String> = (0..count).map(address).collect();
        Some(slice("web", &endpoints.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    assert_eq!(touched(&mut facts, slice_is("web-1", many(1000))), "web");
    assert_eq!(touched(&mut facts, slice_is("web-1", many(1001))), "everything");
    assert_eq!(touched(&mut facts, slice_is("web-1", many(1002))), "web");
    assert_eq!(touched(&mut facts, slice_is("web-1", None)), "everything");
}

#[test]
fn a_service_touches_itself_when_it_comes_changes_and_goes() {
    let mut facts = known(&[("other", service(1, "10.0.0.9"))]);
    assert_eq!(touched(&mut facts, is("web", service(1, "10.0.0.1"))), "web");
    assert_eq!(touched(&mut facts, is("web", service(1, "10.0.0.2"))), "web");
    assert_eq!(touched(&mut facts, is_gone("web")), "web");
    assert_eq!(touched(&mut facts, is_gone("web")), "");
    assert_eq!(facts.service_count(), 1);
}

#[test]
fn a_slice_touches_the_service_that_it_belongs_to() {
    let mut facts = known(&[]);
    assert_eq!(touched(&mut facts, slice_is("s", Some(slice("web", &["10.180.0.1"])))), "web");
    assert_eq!(touched(&mut facts, slice_is("s", Some(slice("web", &["10.180.0.1"])))), "");
    assert_eq!(touched(&mut facts, slice_is("s", Some(slice("web", &["10.180.0.2"])))), "web");
    assert_eq!(touched(&mut facts, slice_is("s", None)), "web");
    assert_eq!(touched(&mut facts, slice_is("s", None)), "");
}

#[test]
fn a_slice_that_changes_hands_touches_both_services() {
    let mut facts = known(&[("a", service(1, "10.0.0.1")), ("b", service(1, "10.0.0.2"))]);
    facts.apply(slice_is("s", Some(slice("a", &["10.180.0.1"]))));
    assert_eq!(touched(&mut facts, slice_is("s", Some(slice("b", &["10.180.0.1"])))), "a b");
    let (plan, _) = plan(&facts, &Touched::everything(), Family::V4);
    let ports = plan.services.iter().flat_map(|(_, ports)| ports);
    assert_eq!(ports.map(|port| port.cluster.len()).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_change_of_the_node_or_the_service_ranges_touches_everything() {
    let mut facts = known(&[]);
    assert_eq!(touched(&mut facts, FactChange::Node(Node { zone: "z2".into(), ..node() })), "everything");
    assert_eq!(touched(&mut facts, FactChange::Node(Node { zone: "z2".into(), ..node() })), "");
    assert_eq!(touched(&mut facts, FactChange::ServiceRanges(ranges("10.0.0.0/8"))), "everything");
    assert_eq!(touched(&mut facts, FactChange::ServiceRanges(ranges("10.0.0.0/8"))), "");
    let mut settings = facts.settings.clone();
    assert_eq!(touched(&mut facts, FactChange::Settings(settings.clone())), "");
    settings.masquerade_all = MasqueradeAll::Yes;
    assert_eq!(touched(&mut facts, FactChange::Settings(settings)), "everything");
}

#[test]
fn a_newcomer_that_wins_nothing_touches_itself_alone() {
    let mut facts = known(&[("old", service(1, "10.0.0.1"))]);
    assert_eq!(touched(&mut facts, is("young", service(2, "10.0.0.1"))), "young");
    assert_eq!(touched(&mut facts, is_gone("young")), "young");
}

#[test]
fn an_older_newcomer_touches_the_one_that_it_takes_an_address_from() {
    let mut facts = known(&[("young", service(2, "10.0.0.1")), ("other", service(2, "10.0.0.2"))]);
    assert_eq!(touched(&mut facts, is("old", service(1, "10.0.0.1"))), "old young");
}

#[test]
fn the_next_in_line_takes_over_when_the_winner_goes() {
    let mut facts = known(&[("a", service(1, "10.0.0.1")), ("b", service(2, "10.0.0.1"))]);
    assert_eq!(touched(&mut facts, is_gone("a")), "a b");
    let (plan, problems) = plan(&facts, &Touched::everything(), Family::V4);
    assert_eq!(problems, []);
    assert_eq!(plan.services[0].1[0].entrances.len(), 1);
}

#[test]
fn a_winner_that_lets_one_address_go_touches_only_who_waits_for_that_one() {
    let wide = Service { external_ips: ips("192.0.2.1 192.0.2.2"), ..service(1, "10.0.0.1") };
    let narrow = Service { external_ips: ips("192.0.2.2"), ..wide.clone() };
    let waits =
        |cluster_ip, external_ip| Service { external_ips: ips(external_ip), ..service(2, cluster_ip) };
    let mut facts = known(&[
        ("a", wide),
        ("b", waits("10.0.0.2", "192.0.2.1")),
        ("c", waits("10.0.0.3", "192.0.2.2")),
        ("d", waits("10.0.0.4", "192.0.2.4")),
    ]);
    assert_eq!(touched(&mut facts, is("a", narrow)), "a b");
}

#[test]
fn whoever_waits_behind_a_new_winner_is_touched_to_be_told_its_name() {
    let mut facts =
        known(&[("a", service(1, "10.0.0.1")), ("b", service(2, "10.0.0.1")), ("c", service(3, "10.0.0.1"))]);
    assert_eq!(touched(&mut facts, is_gone("a")), "a b c");
    assert_eq!(touched(&mut facts, is("b", service(9, "10.0.0.1"))), "b c");
    assert_eq!(touched(&mut facts, is_gone("b")), "b");
}

#[test]
fn what_two_changes_touched_is_touched_together() {
    let named = |name| Touched::services(BTreeSet::from([service_name(name)]));
    assert_eq!(named("a").and(named("b")).services.len(), 2);
    assert_eq!(named("a").and(Touched::everything()).scope, Scope::Everything);
    assert_eq!(Touched::everything().and(named("a")).scope, Scope::Everything);
    assert_eq!(named("a").and(Touched::node()).scope, Scope::Node);
    assert!(!Touched::node().is_nothing());
    assert!(Touched::nothing().and(Touched::nothing()).is_nothing());
    assert!(!named("a").is_nothing() && !Touched::everything().is_nothing());
}

#[test]
fn everything_has_names_too() {
    let facts = known(&[("web", service(1, "10.0.0.1"))]);
    let names = |touched: Touched| {
        facts.touched_services(&touched).iter().map(|name| name.name.to_string()).collect::<Vec<_>>()
    };
    let gone = Touched::services(BTreeSet::from([service_name("gone")]));
    assert_eq!(names(gone.clone().and(Touched::node())), ["gone"]);
    assert_eq!(names(gone.and(Touched::everything())), ["gone", "web"]);
    assert!(names(Touched::node()).is_empty());
    assert!(facts.has_service(&service_name("web")) && !facts.has_service(&service_name("gone")));
}

/// Both families' plans of every Service, with the problems: all that can be seen of facts.
#[derive(Debug, Default, PartialEq)]
struct Everything(BTreeMap<Family, Planned>);

#[derive(Debug, Default, PartialEq)]
struct Planned {
    node: Option<Arc<NodePlan>>,
    services: BTreeMap<ServiceName, Vec<ServicePlan>>,
    problems: BTreeSet<Problem>,
}

impl Everything {
    fn of(facts: &Facts) -> Self {
        let mut everything = Self::default();
        everything.plan(facts, &Touched::everything());
        everything
    }

    /// Plans what was touched, and keeps the rest.
    fn plan(&mut self, facts: &Facts, touched: &Touched) {
        for family in Family::BOTH {
            let (Plan { node, services }, problems) = plan(facts, touched, family);
            let planned = self.0.entry(family).or_default();
            planned.node = Some(node);
            for (name, ports) in services {
                planned.problems.retain(|problem| *problem.service() != name);
                planned.services.remove(&name);
                if !ports.is_empty() {
                    planned.services.insert(name, ports);
                }
            }
            planned.problems.extend(problems);
        }
    }
}

fn facts_after(changes: &[FactChange]) -> Facts {
    let mut facts = Facts::new(settings(), node());
    for change in changes {
        facts.apply(change.clone());
    }
    facts
}

/// The changes in another order, but those of one object in their own.
fn reordered(changes: &[FactChange], priorities: &[u32]) -> Vec<FactChange> {
    let object = |change: &FactChange| match change {
        FactChange::Service(name, _) => format!("service {name}"),
        FactChange::EndpointSlice(name, _) => format!("slice {name}"),
        FactChange::Node(_) => "node".to_owned(),
        FactChange::ServiceRanges(_) => "ranges".to_owned(),
        FactChange::Settings(_) => "settings".to_owned(),
    };
    let mut waiting: BTreeMap<String, VecDeque<FactChange>> = BTreeMap::new();
    for change in changes {
        waiting.entry(object(change)).or_default().push_back(change.clone());
    }
    let mut turns: Vec<_> = changes.iter().map(object).zip(priorities).collect();
    turns.sort_by_key(|(_, priority)| **priority);
    turns.iter().filter_map(|(object, _)| waiting.get_mut(object)?.pop_front()).collect()
}

/// Few names and addresses, so that they clash often.
fn any_service() -> impl Strategy<Value = Service> {
    let kind = prop_oneof![
        Just(ServiceKind::ClusterIp),
        Just(ServiceKind::NodePort),
        Just(ServiceKind::LoadBalancer)
    ];
    let cluster_ips = prop_oneof![
        Just("10.0.0.1"),
        Just("10.0.0.2"),
        Just("10.0.0.3 fd00:30::1"),
        Just("fd00:30::1"),
        Just("fd00:30::2")
    ];
    let some_ips = prop_oneof![Just(""), Just("10.0.0.1"), Just("192.0.2.1 2001:db8::1"), Just("192.0.2.2")];
    let ranges_of = prop_oneof![Just(""), Just("10.1.0.0/16"), Just("0.0.0.0/0 fd00::/8")];
    let node_ports = proptest::option::of(30_000_u16..30_002);
    let ages = proptest::option::of(0_i64..3);
    let ports = proptest::collection::vec((prop_oneof![Just("http"), Just("")], 80_u16..82), 1..3);
    let addresses = (cluster_ips, some_ips.clone(), some_ips, ranges_of);
    (kind, addresses, node_ports, ages, ports, any_policy(), any_policy()).prop_map(
        |(kind, (cluster_ips, external, balanced, source), node_port_number, age, ports, inside, outside)| {
            let mut service = service(0, cluster_ips);
            service.created = age;
            service.kind = kind;
            service.external_ips = ips(external);
            service.load_balancer_ips = ips(balanced);
            service.source_ranges = ranges(source);
            service.ports =
                ports.into_iter().map(|(name, number)| service_port(name, Protocol::Tcp, number)).collect();
            service.ports[0].node_port = node_port_number.map(node_port);
            service.internal_policy = inside;
            service.external_policy = outside;
            service.health_check_node_port = Some(node_port(32_000));
            service
        },
    )
}

fn any_policy() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::Cluster), Just(Policy::Local)]
}

fn any_slice() -> impl Strategy<Value = EndpointSlice> {
    const ENDPOINTS: [&str; 6] = [
        "10.180.0.1 on:n1 zone:z1",
        "10.180.0.1 on:n2 zone:z2",
        "10.180.0.10 on:n2 terminating",
        "10.180.0.2 on:n1 node:n1 zone:z2",
        "10.180.0.3 unready",
        "10.180.0.4 on:n1 terminating",
    ];
    let endpoints = proptest::sample::subsequence(ENDPOINTS.to_vec(), 0..ENDPOINTS.len());
    (any_name(), endpoints).prop_map(|(owner, endpoints)| slice(owner, &endpoints))
}

fn any_name() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")]
}

fn any_change() -> impl Strategy<Value = FactChange> {
    let zones = prop_oneof![Just("z1"), Just("z2"), Just("")];
    prop_oneof![
        6 => (any_name(), any_service()).prop_map(|(name, service)| is(name, service)),
        3 => any_name().prop_map(is_gone),
        4 => (any_name(), proptest::option::of(any_slice())).prop_map(|(name, slice)| slice_is(name, slice)),
        1 => zones.prop_map(|zone| FactChange::Node(Node { zone: zone.into(), ..node() })),
        1 => prop_oneof![Just(""), Just("10.0.0.0/8")].prop_map(|text| FactChange::ServiceRanges(ranges(text))),
    ]
}

fn any_changes() -> impl Strategy<Value = Vec<FactChange>> {
    proptest::collection::vec(any_change(), 1..24)
}

proptest! {
    #[test]
    fn any_order_of_the_same_changes_ends_in_the_same_plan(
        changes in any_changes(),
        priorities in proptest::collection::vec(any::<u32>(), 24),
    ) {
        let other_order = facts_after(&reordered(&changes, &priorities));
        prop_assert_eq!(Everything::of(&facts_after(&changes)), Everything::of(&other_order));
    }

    #[test]
    fn planning_what_was_touched_is_as_good_as_planning_everything(
        changes in any_changes(),
        together in 1_usize..4,
    ) {
        let mut facts = Facts::new(settings(), node());
        let mut merged = Everything::of(&facts);
        for burst in changes.chunks(together) {
            let touched = burst.iter().fold(Touched::nothing(), |touched, change| {
                touched.and(facts.apply(change.clone()))
            });
            merged.plan(&facts, &touched);
            prop_assert_eq!(&merged, &Everything::of(&facts));
        }
    }

    #[test]
    fn the_same_change_twice_touches_nothing(changes in any_changes()) {
        let mut facts = Facts::new(settings(), node());
        for change in changes {
            facts.apply(change.clone());
            prop_assert!(facts.apply(change).is_nothing());
        }
    }

    #[test]
    fn when_every_service_is_gone_nothing_is_left(changes in any_changes()) {
        let mut facts = facts_after(&changes);
        for name in ["a", "b", "c", "d"] {
            facts.apply(is_gone(name));
            facts.apply(slice_is(name, None));
        }
        let all = Everything::of(&facts);
        prop_assert!(all.0.values().all(|planned| planned.services.is_empty() && planned.problems.is_empty()));
        prop_assert!(facts.slices.is_empty() && facts.owners.is_empty());
    }
}
