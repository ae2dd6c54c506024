use manifest_documents::{Syntax, chunks};
use service_watch::Claim;

use super::*;

struct Read(Statement<Key, Service>);

impl From<Document> for Read {
    fn from(document: Document) -> Self {
        Self(statement(document))
    }
}

/// A Service with this specification in flow style, and what is complained of.
pub(crate) fn service(spec: &str) -> (Option<Service>, Vec<String>) {
    let yaml = format!("{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{{spec}}}}}");
    let chunk = chunks(Syntax::Yaml, &yaml)[0];
    let mut read: Vec<Read> = manifest_documents::read(Syntax::Yaml, chunk).expect("good YAML");
    let Read(Statement { about, problems, .. }) = read.pop().expect("one");
    let service = match about {
        About::Object(_, Claim::Is(service)) => Some(service),
        About::Object(_, Claim::NotOurs | Claim::Refused) | About::Nothing => None,
    };
    (service, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn a_service_that_names_no_address_wants_one() {
    for (spec, wants, families) in [
        ("ports: [{port: 80}]", Wants::Addresses, Families::First),
        ("ports: [{port: 80}], ipFamilyPolicy: PreferDualStack", Wants::Addresses, Families::All),
        ("ports: [{port: 80}], ipFamilies: [IPv6]", Wants::Addresses, Families::Given(vec![Family::V6])),
        ("ports: [{port: 80}], clusterIP: 10.0.0.1", Wants::NodePorts, Families::Given(vec![Family::V4])),
        ("ports: [{port: 80}], clusterIP: None", Wants::Nothing, Families::First),
        ("type: ExternalName, externalName: example.com", Wants::Nothing, Families::First),
    ] {
        let (service, problems) = service(&format!("{spec}, selector: {{app: web}}"));
        let service = service.unwrap_or_else(|| panic!("{spec}: {problems:?}"));
        assert_eq!((service.wants, service.families), (wants, families), "{spec}");
        assert_eq!(service.served.is_some(), wants != Wants::Nothing, "{spec}");
        assert_eq!(problems, [""; 0], "{spec}");
    }
}

#[test]
fn an_address_that_is_to_be_given_is_not_there_yet() {
    let (service, _) = service("ports: [{port: 80}], selector: {app: web}");
    assert!(service.expect("one").served.expect("served").cluster_ips.is_empty());
}

#[test]
fn target_ports_are_numbers_or_names_and_by_default_the_ports_own() {
    let ports = "ports: [{name: a, port: 80}, {name: b, port: 81, targetPort: 8081}, \
                 {name: c, port: 82, targetPort: http, protocol: UDP}, {name: d, port: 83, targetPort: '8083'}]";
    let (service, problems) = service(&format!("{ports}, selector: {{app: web}}"));
    assert_eq!(problems, [""; 0]);
    let targets: Vec<_> =
        service.expect("one").ports.into_iter().map(|port| (port.protocol, port.target)).collect();
    assert_eq!(
        targets,
        [
            (Protocol::Tcp, Target::Number(80)),
            (Protocol::Tcp, Target::Number(8081)),
            (Protocol::Udp, Target::Named("http".to_owned())),
            (Protocol::Tcp, Target::Number(8083)),
        ]
    );
}

#[test]
fn what_is_wrong_is_named_with_its_field() {
    for (spec, is_refused, expected) in [
        (
            "ports: [{port: 80}]",
            false,
            "Service default/web: spec.selector: is missing, so it has only endpoints that EndpointSlices give it",
        ),
        (
            "ports: [{port: 80, targetPort: 70000}], selector: {app: web}",
            true,
            "Service default/web: spec.ports[0].targetPort: is neither a port (1 to 65535) nor a name",
        ),
        (
            "ports: [{port: 0}], selector: {app: web}",
            true,
            "Service default/web: spec.ports[0].port: 0 is not a port (1 to 65535)",
        ),
        (
            "ports: [{port: 80}], selector: {app: [web]}",
            true,
            "Service default/web: spec.selector.app: is not text",
        ),
        (
            "ports: [{port: 80}], selector: {app: web}, ipFamilies: [IPv5]",
            true,
            "Service default/web: spec.ipFamilies[0]: \"IPv5\" is neither IPv4 nor IPv6, or is there already",
        ),
    ] {
        let (service, problems) = service(spec);
        assert_eq!((service.is_none(), problems), (is_refused, vec![expected.to_owned()]), "{spec}");
    }
}
