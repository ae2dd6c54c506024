use super::*;
use crate::Event;
use crate::objects::{Fact, Key, Services};
use crate::vocabulary::Understood;
use manifest_documents::Syntax;

/// A Service with this last part of its address; the name may have a namespace before a slash.
fn service(name: &str, address: u8) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{clusterIP: 10.0.0.{address}, ports: [{{port: 80}}]}}\n"
    )
}

const BAD_WEB: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\n\
                       spec: {clusterIP: 10.0.0.9, ports: [{port: 70000}]}\n";

type News = FileNews<Key, Fact>;

fn news(path: &str, yaml: &str) -> (FileName, News) {
    let read =
        |chunk| manifest_documents::read::<Understood<Services>>(Syntax::Yaml, chunk).expect("good YAML");
    let part = |chunk| Part {
        hash: 0,
        position: Position::Unknown,
        said: Said::New(read(chunk).into_iter().map(|one| one.0).collect()),
    };
    let parts = manifest_documents::chunks(Syntax::Yaml, yaml).into_iter().map(part).collect();
    (Arc::from(OsStr::new(path)), FileNews::Says(parts))
}

fn gone(path: &str) -> (FileName, News) {
    (Arc::from(OsStr::new(path)), FileNews::Gone)
}

fn broken(path: &str, message: &str) -> (FileName, News) {
    let report = Report { place: path.to_owned(), message: message.to_owned() };
    (Arc::from(OsStr::new(path)), FileNews::Broken(report))
}

/// A store, and what its changes mean to a proxy.
struct Proxys {
    store: Store<Key, Fact>,
    words: Services,
}

fn store() -> Proxys {
    Proxys { store: Store::new(), words: Services::of("node-1") }
}

/// Events and reports in short, in the order in which they are told.
fn told(proxys: &mut Proxys, news: impl IntoIterator<Item = (FileName, News)>) -> Vec<String> {
    let changes = proxys.store.apply(news.into_iter().collect(), &proxys.words);
    let batch = proxys.words.news(changes);
    let event = |event: Event| match event {
        Event::Service(name, Some(service)) => format!("+{name} {}", service.cluster_ips[0]),
        Event::Service(name, None) => format!("-{name}"),
        Event::EndpointSlice(name, Some(slice)) => format!("+{name} of {}", slice.service),
        Event::EndpointSlice(name, None) => format!("-{name}"),
        Event::Node(Some(node)) => format!("node in {:?}", &*node.zone),
        Event::Node(None) => "no node".to_owned(),
        Event::ServiceRanges(ranges) => format!("ranges {ranges:?}"),
        Event::Listed => "listed".to_owned(),
        Event::Triggered(_) | Event::Awaited(_) => unreachable!("no file tells that"),
    };
    let reports = batch.reports.iter().map(ToString::to_string);
    batch.events.into_iter().map(event).chain(reports).collect()
}

#[test]
fn only_differences_are_told() {
    let mut store = store();
    let both = service("web", 1) + &service("other/api", 2);
    assert_eq!(told(&mut store, [news("a", &both)]), ["+default/web 10.0.0.1", "+other/api 10.0.0.2"]);
    assert_eq!(told(&mut store, [news("a", &both)]), [""; 0]);
    let changed = service("web", 1) + &service("other/api", 3);
    assert_eq!(told(&mut store, [news("a", &changed)]), ["+other/api 10.0.0.3"]);
    assert_eq!(told(&mut store, [news("a", &service("web", 1))]), ["-other/api"]);
    assert_eq!(told(&mut store, [gone("a")]), ["-default/web"]);
    assert_eq!(told(&mut store, [gone("a")]), [""; 0]);
}

#[test]
fn a_renamed_file_changes_nothing() {
    let mut store = store();
    told(&mut store, [news("a", &service("web", 1))]);
    assert_eq!(told(&mut store, [gone("a"), news("b", &service("web", 1))]), [""; 0]);
}

#[test]
fn a_broken_file_keeps_all_that_it_gave() {
    let mut store = store();
    told(&mut store, [news("a", &service("web", 1))]);
    assert_eq!(told(&mut store, [broken("a", "line 3")]), ["a: line 3"]);
    assert_eq!(told(&mut store, [broken("a", "line 3")]), [""; 0]);
    assert_eq!(told(&mut store, [broken("a", "line 4")]), ["a: line 4"]);
    assert_eq!(told(&mut store, [news("a", &service("web", 2))]), ["+default/web 10.0.0.2"]);
    assert_eq!(told(&mut store, [broken("a", "line 4")]), ["a: line 4"]);
    assert_eq!(told(&mut store, [gone("a")]), ["-default/web"]);
    assert_eq!(told(&mut store, [broken("new", "line 1")]), ["new: line 1"]);
    assert_eq!(told(&mut store, [gone("new")]), [""; 0]);
}

#[test]
fn a_bad_field_keeps_the_object_as_it_was_and_no_other() {
    let mut store = store();
    told(&mut store, [news("a", &(service("web", 1) + &service("api", 1)))]);
    let wrong = "a:7: Service default/web: spec.ports[0].port: 70000 is not a port (1 to 65535)";
    assert_eq!(
        told(&mut store, [news("a", &(service("api", 2) + BAD_WEB))]),
        ["+default/api 10.0.0.2", wrong]
    );
    assert_eq!(told(&mut store, [news("a", &(service("api", 2) + BAD_WEB))]), [""; 0]);
    assert_eq!(told(&mut store, [news("a", &service("api", 2))]), ["-default/web"]);
    assert_eq!(told(&mut store, [news("a", &(service("api", 2) + BAD_WEB))]), [wrong]);
}

#[test]
fn the_first_path_in_byte_order_wins_and_the_next_takes_over() {
    let mut store = store();
    let ignored = |place: &str, first: &str| {
        format!("{place}: Service default/web: is ignored here, for {first} defines it")
    };
    // By components "d/x" would come before "d-x".
    assert_eq!(
        told(&mut store, [news("d/x", &service("web", 1)), news("d-x", &service("web", 2))]),
        ["+default/web 10.0.0.2".to_owned(), ignored("d/x", "d-x")]
    );
    assert_eq!(told(&mut store, [news("d/x", &service("web", 3))]), [""; 0]);
    assert_eq!(
        told(&mut store, [news("a", &service("web", 4))]),
        ["+default/web 10.0.0.4".to_owned(), ignored("d-x", "a"), ignored("d/x", "a")]
    );
    assert_eq!(told(&mut store, [gone("a")]), ["+default/web 10.0.0.2".to_owned(), ignored("d/x", "d-x")]);
    assert_eq!(told(&mut store, [gone("d-x")]), ["+default/web 10.0.0.3"]);
    assert_eq!(told(&mut store, [gone("d/x")]), ["-default/web"]);
}

#[test]
fn a_first_definition_that_was_never_good_does_not_hide_a_good_one() {
    let mut store = store();
    let wrong = "a:2: Service default/web: spec.ports[0].port: 70000 is not a port (1 to 65535)";
    assert_eq!(
        told(&mut store, [news("a", BAD_WEB), news("b", &service("web", 1))]),
        ["+default/web 10.0.0.1", wrong]
    );
    assert_eq!(
        told(&mut store, [news("a", &service("web", 2))]),
        ["+default/web 10.0.0.2", "b: Service default/web: is ignored here, for a defines it"]
    );
}

#[test]
fn of_two_definitions_in_one_file_the_first_wins() {
    let mut store = store();
    assert_eq!(
        told(&mut store, [news("a", &(service("web", 1) + &service("web", 2)))]),
        [
            "+default/web 10.0.0.1",
            "a:7: Service default/web: is ignored here, for it is defined earlier in this file"
        ]
    );
    let mut store = self::store();
    assert_eq!(told(&mut store, [news("a", &(BAD_WEB.to_owned() + &service("web", 2)))]).len(), 2);
    assert_eq!(store.words.service_ranges, []);
}

#[test]
fn what_stops_being_ours_is_removed() {
    let mut store = store();
    told(&mut store, [news("a", &service("web", 1)), news("b", &service("web", 2))]);
    let headless = service("web", 1).replace("10.0.0.1", "None");
    assert_eq!(told(&mut store, [news("a", &headless)]), ["-default/web"]);
    assert_eq!(told(&mut store, [gone("a")]), ["+default/web 10.0.0.2"]);
}

#[test]
fn of_nodes_only_our_own_counts() {
    let node = |name: &str, zone: &str| {
        format!(
            "---\napiVersion: v1\nkind: Node\n\
             metadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n"
        )
    };
    let mut store = store();
    let other = node("node-2", "b") + "spec: {podCIDR: nonsense}\n";
    assert_eq!(told(&mut store, [news("a", &(other.clone() + &node("node-1", "a")))]), ["node in \"a\""]);
    assert_eq!(told(&mut store, [news("a", &node("node-1", "c"))]), ["node in \"c\""]);
    assert_eq!(told(&mut store, [news("a", &other)]), ["no node"]);
}

#[test]
fn service_ranges_are_those_of_all_objects_together() {
    let cidr = |name: &str, ranges: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {{name: {name}}}\n\
             spec: {{cidrs: [{ranges}]}}\n"
        )
    };
    let mut store = store();
    let first = cidr("b", "10.96.0.0/16, 'fd00::/112'") + &cidr("a", "10.64.0.0/16");
    assert_eq!(
        told(&mut store, [news("a", &first), news("b", &cidr("b", "1.0.0.0/8"))]),
        [
            "ranges [10.64.0.0/16, 10.96.0.0/16, fd00::/112]",
            "b: ServiceCIDR b: is ignored here, for a defines it"
        ]
    );
    assert_eq!(told(&mut store, [news("c", &cidr("c", "10.64.0.0/16"))]), [""; 0]);
    assert_eq!(told(&mut store, [gone("a")]), ["ranges [1.0.0.0/8, 10.64.0.0/16]"]);
    assert_eq!(told(&mut store, [gone("b"), gone("c")]), ["ranges []"]);
}

#[test]
fn an_unchanged_object_stays_the_same_allocation() {
    let mut store = store();
    told(&mut store, [news("a", &service("web", 1))]);
    let key = Key::Service(service_plan::ServiceName::new("default", "web"));
    let Some(Fact::Service(before)) = store.store.fact(&key).cloned() else { panic!() };
    told(&mut store, [news("a", &(service("api", 2) + &service("web", 1)))]);
    let Some(Fact::Service(after)) = store.store.fact(&key).cloned() else { panic!() };
    assert!(Arc::ptr_eq(&before, &after));
}
