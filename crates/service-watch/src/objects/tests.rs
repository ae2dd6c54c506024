use proptest::prelude::*;

use super::*;
use crate::vocabulary::Understood;
use manifest_documents::Syntax;

fn statements(yaml: &str) -> Vec<Statement> {
    let chunks = manifest_documents::chunks(Syntax::Yaml, yaml).into_iter();
    chunks
        .flat_map(|chunk| {
            manifest_documents::read::<Understood<Services>>(Syntax::Yaml, chunk)
                .expect("the test's own YAML")
        })
        .map(|one| one.0)
        .collect()
}

/// The key and a word for the claim, and the problems in full.
fn said(yaml: &str) -> Vec<(String, Vec<String>)> {
    let said = |statement: Statement| {
        let about = match statement.about {
            About::Nothing => "nothing".to_owned(),
            About::Object(key, Claim::Is(_)) => format!("{key} is"),
            About::Object(key, Claim::NotOurs) => format!("{key} is not ours"),
            About::Object(key, Claim::Refused) => format!("{key} is refused"),
        };
        (about, statement.problems.iter().map(ToString::to_string).collect())
    };
    statements(yaml).into_iter().map(said).collect()
}

#[test]
fn objects_are_known_by_group_version_and_kind() {
    for (yaml, wanted) in [
        (
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: 1.1.1.1}}",
            "Service default/a is",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: b}, spec: {clusterIP: None}}",
            "Service b/a is not ours",
        ),
        (
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
              metadata: {name: s, namespace: '', labels: {kubernetes.io/service-name: a}}}",
            "EndpointSlice default/s is",
        ),
        ("{apiVersion: v1, kind: Node, metadata: {name: n}}", "Node n is"),
        (
            "{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: c}, spec: {cidrs: [10.0.0.0/8]}}",
            "ServiceCIDR c is",
        ),
        ("{apiVersion: v1, kind: Pod, metadata: {name: p}}", "nothing"),
        ("{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: p}}", "nothing"),
        ("{apiVersion: discovery.k8s.io/v1beta1, kind: EndpointSlice, metadata: {name: p}}", "nothing"),
        ("{resources: [a.yaml]}", "nothing"),
        ("{apiVersion: 1, kind: [Service]}", "nothing"),
    ] {
        assert_eq!(said(yaml), [(wanted.to_owned(), vec![])], "{yaml}");
    }
}

#[test]
fn objects_that_cannot_be_named_are_reported() {
    for (yaml, wanted) in [
        ("{apiVersion: v1, kind: Service}", "Service: metadata.name: is missing, or not text"),
        ("{apiVersion: v1, kind: Node, metadata: {name: 5}}", "Node: metadata.name: is missing, or not text"),
        ("{kind: Service, metadata: {name: a}}", "Service: apiVersion: is missing"),
        (
            "{apiVersion: v1, kind: List, items: [{kind: Pod}, {apiVersion: v1, kind: Service}]}",
            "Service in items[1]: metadata.name: is missing, or not text",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: A}}",
            "Service: metadata.name: \"A\" is not a name (lower-case letters, digits, \"-\" and \".\")",
        ),
    ] {
        let problems: Vec<_> = said(yaml).into_iter().filter(|(_, problems)| !problems.is_empty()).collect();
        assert_eq!(problems, [("nothing".to_owned(), vec![wanted.to_owned()])], "{yaml}");
    }
}

#[test]
fn values_of_the_wrong_type_are_all_reported_by_their_path() {
    let yaml = "
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  clusterIP: 10.0.0.1
  externalIPs: 1.2.3.4
  ports:
  - port: '80'
    nodePort: [30080]
  - port: 70000
    protocol: 6
  - port: 81
    protocol: tcp
  - port: 18446744073709551616
";
    let problems = [
        r#"Service default/a: spec.ports[0].port: invalid type: string "80", expected i64"#,
        "Service default/a: spec.ports[0].nodePort: invalid type: sequence, expected i64",
        "Service default/a: spec.ports[1].protocol: invalid type: integer `6`, expected a string",
        "Service default/a: spec.ports[3].port: invalid type: floating point `1.8446744073709552e+19`, expected i64",
        r#"Service default/a: spec.externalIPs: invalid type: string "1.2.3.4", expected a sequence"#,
        "Service default/a: spec.ports[1].port: 70000 is not a port (1 to 65535)",
        r#"Service default/a: spec.ports[2].protocol: "tcp" is not known; it can be TCP, UDP or SCTP"#,
    ];
    let [(about, found)] = &said(yaml)[..] else { panic!("one document") };
    assert_eq!(about, "Service default/a is refused");
    let mut found = found.clone();
    let mut problems = problems.map(ToOwned::to_owned);
    found.sort();
    problems.sort();
    assert_eq!(found, problems);
}

#[test]
fn a_spec_that_is_no_mapping_is_reported_once() {
    assert_eq!(
        said(
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: 1.1.1.1, ports: [null]}}"
        ),
        [(
            "Service default/a is refused".to_owned(),
            vec![
                "Service default/a: spec.ports[0]: invalid type: null, expected struct ServicePort"
                    .to_owned()
            ]
        )]
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = ["", "v1", "TCP", "10.0.0.1", "fd00::1/64", "None", "web", "IPv4"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
        "(?s).{0,8}".prop_map(Value::from),
    ];
    let names = [
        "metadata",
        "name",
        "labels",
        "kubernetes.io/service-name",
        "spec",
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ports",
        "port",
        "protocol",
        "endpoints",
        "addresses",
        "conditions",
        "addressType",
        "status",
        "podCIDRs",
        "cidrs",
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(names.to_vec()), inner, 0..8).prop_map(
                |fields| {
                    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
                }
            ),
        ]
    })
}

proptest! {
    #[test]
    fn no_object_makes_the_conversion_panic(
        (kind, api_version) in prop::sample::select(vec![
            ("Service", "v1"), ("EndpointSlice", "discovery.k8s.io/v1"), ("Node", "v1"),
            ("ServiceCIDR", "networking.k8s.io/v1"),
        ]),
        named in any::<bool>(),
        value in any_json(),
    ) {
        let mut fields = value.as_object().cloned().unwrap_or_default();
        fields.insert("kind".to_owned(), kind.into());
        fields.insert("apiVersion".to_owned(), api_version.into());
        if named {
            fields.insert("metadata".to_owned(), serde_json::json!({ "name": "a" }));
        }
        let statement = Services::statement(Document { position: Position::Unknown, fields });
        if let About::Object(_, Claim::Refused) = statement.about {
            prop_assert!(!statement.problems.is_empty());
        }
    }
}
