use super::*;
use manifest_documents::Syntax;
use pod_manifests::Manifests;

fn pod(spec: &str) -> Pod {
    let mut manifests = Manifests::default();
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: n}}, \
          spec: {{containers: [{{name: a, image: 'rootfs:/x'{spec}}}]}}}}"
    );
    manifests.read(Syntax::Yaml, &text).expect("good YAML");
    assert_eq!(manifests.refused, []);
    manifests.pods.pop().expect("a Pod")
}

fn entries(kind: &'static str, name: &str, value: &str) -> Entries {
    let name = ObjectName { namespace: "n".to_owned(), name: name.to_owned() };
    Entries::from([((kind, name), BTreeMap::from([("key".to_owned(), value.as_bytes().to_vec())]))])
}

#[test]
fn a_pod_is_another_when_its_manifest_is() {
    let none = Entries::new();
    let one = revision(&pod(""), &none);
    assert_eq!((one.len(), one == revision(&pod(""), &none)), (DIGITS, true));
    assert_ne!(one, revision(&pod(", command: [x]"), &none));
}

#[test]
fn a_pod_is_another_when_what_it_reads_is() {
    for (spec, kind) in [
        (", envFrom: [{configMapRef: {name: e}}]", "ConfigMap"),
        (", env: [{name: A, valueFrom: {secretKeyRef: {name: e, key: key}}}]", "Secret"),
    ] {
        let revision = |name, value| revision(&pod(spec), &entries(kind, name, value));
        assert_ne!(revision("e", "1"), revision("e", "2"), "{spec}");
        assert_eq!(revision("other", "1"), revision("other", "2"), "{spec}");
    }
}
