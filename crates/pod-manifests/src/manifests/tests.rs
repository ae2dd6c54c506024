use manifest_documents::Syntax;

use crate::{
    Action, EnvSource, Facts, Kind, Leave, Manifests, Number, Pids, Pod, Projection, Values, VolumeSource,
};

fn read(yaml: &str) -> Manifests {
    let mut manifests = Manifests::default();
    manifests.read(Syntax::Yaml, yaml).unwrap_or_else(|error| panic!("{yaml}: {error:?}"));
    manifests
}

fn pod(spec: &str) -> Manifests {
    read(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, uid: u-1, labels: {{app: web}}}}\nspec: {spec}"
    ))
}

fn only(manifests: &Manifests) -> &Pod {
    assert_eq!(manifests.refused, []);
    manifests.pods.first().expect("one pod")
}

fn complaints(manifests: &Manifests) -> Vec<String> {
    manifests.refused.iter().map(|error| format!("{}: {}", error.path, error.message)).collect()
}

#[test]
fn every_wrong_field_is_named_by_its_path() {
    for (spec, expected) in [
        ("{}", vec!["spec.containers: is missing, or empty"]),
        ("{containers: [{name: a}]}", vec!["spec.containers[0].image: is missing"]),
        (
            "{containers: [{name: a, image: i, imagge: x, ports: [{containerPort: 70000}]}]}",
            vec![
                "spec.containers[0].ports[0].containerPort: 70000 is not in its range",
                "spec.containers[0].imagge: is not a field that is known here",
            ],
        ),
        (
            "{containers: [{name: a, image: i}, {name: a, image: i}]}",
            vec!["spec.containers[1].name: \"a\" is the name of spec.containers[0]"],
        ),
        (
            "{containers: [{name: a, image: i, volumeMounts: [{name: v, mountPath: /v}]}]}",
            vec!["spec.containers[0].volumeMounts[0].name: there is no volume \"v\""],
        ),
        (
            "{containers: [{name: a, image: i}], volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]}",
            vec!["spec.volumes[0].persistentVolumeClaim: volumes of this kind are not supported"],
        ),
        (
            "{containers: [{name: a, image: i, volumeMounts: [{name: v, mountPath: /v, subPath: ../x}]}], volumes: [{name: v}]}",
            vec!["spec.containers[0].volumeMounts[0].subPath: does not lead to a place inside the volume"],
        ),
        (
            "{containers: [{name: a, image: i, securityContext: {runAsUser: 0}}], securityContext: {runAsNonRoot: true}}",
            vec!["spec.containers[0].securityContext.runAsUser: cannot be 0 where runAsNonRoot is true"],
        ),
        (
            "{containers: [{name: a, image: i, lifecycle: {preStop: {grpc: {port: 1}}}}]}",
            vec!["spec.containers[0].lifecycle.preStop.grpc: is for probes alone"],
        ),
        (
            "{containers: [{name: a, image: i, resources: {limits: {memory: 1Mi}, requests: {memory: 2Mi}}}]}",
            vec!["spec.containers[0].resources.requests.memory: is above its limit"],
        ),
        (
            "{hostPID: true, shareProcessNamespace: true, hostNetwork: 3, containers: [{name: a, image: i}]}",
            vec![
                "spec.hostNetwork: 3 is not true or false",
                "spec.shareProcessNamespace: cannot be together with hostPID",
            ],
        ),
    ] {
        let manifests = pod(spec);
        assert_eq!(complaints(&manifests), expected, "{spec}");
        assert_eq!(manifests.pods, [], "{spec}");
    }
}

#[test]
fn names_that_could_lead_out_of_a_directory_are_refused() {
    for name in ["../x", "a/b", "..", "-", "A", ".a", "a..b"] {
        let yaml = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: \"{name}\"}}\nspec: {{containers: [{{name: a, image: i}}]}}"
        );
        let manifests = read(&yaml);
        assert!(complaints(&manifests).iter().any(|line| line.starts_with("metadata.name: ")), "{name}");
    }
}

#[test]
fn what_needs_a_cluster_is_passed_over_with_a_remark() {
    let manifests = pod(
        "{nodeSelector: {a: b}, tolerations: [{key: k}], readinessGates: [{conditionType: c}], affinity: {}, containers: [{name: a, image: i}]}",
    );
    let paths: Vec<_> = manifests.remarks.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["spec.nodeSelector", "spec.tolerations", "spec.readinessGates"]);
    assert_eq!(only(&manifests).spec.containers.len(), 1);
}

#[test]
fn defaults_are_those_of_the_api() {
    let manifests = pod(
        "{containers: [{name: a, image: 'r/i:1', readinessProbe: {tcpSocket: {port: web}}, ports: [{name: web, containerPort: 80}]}]}",
    );
    let spec = &only(&manifests).spec;
    assert_eq!((spec.grace, spec.shared.pids), (30, Pids::Container));
    let container = &spec.containers[0];
    let probe = container.readiness.as_ref().expect("a probe");
    assert_eq!((probe.period, probe.timeout, probe.successes, probe.failures), (10, 1, 1, 3));
    assert_eq!(probe.action, Action::Tcp { port: Number::Named("web".to_owned()), host: None });
    assert_eq!(container.port(&Number::Named("web".to_owned())), Some(80));
    assert_eq!(container.pull, crate::PullPolicy::IfNotPresent);
}

#[test]
fn a_containers_security_is_over_its_pods() {
    let manifests = pod(
        "{securityContext: {runAsUser: 1000, runAsGroup: 7, fsGroup: 9, supplementalGroups: [8]},
          initContainers: [{name: s, image: i, restartPolicy: Always}, {name: j, image: i}],
          containers: [{name: a, image: i, securityContext: {runAsUser: 5, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {add: [CAP_SYS_TIME], drop: [ALL]}}}]}",
    );
    let spec = &only(&manifests).spec;
    let kinds: Vec<_> = spec.all_containers().map(|container| container.kind).collect();
    assert_eq!(kinds, [Kind::Sidecar, Kind::Init, Kind::Main]);
    let security = &spec.containers[0].security;
    assert_eq!((security.user, security.group, &security.groups[..]), (Some(5), Some(7), &[8, 9][..]));
    assert_eq!((security.escalation, security.root_fs), (Leave::Refused, Leave::Refused));
    assert_eq!(
        (&security.capabilities.add[..], &security.capabilities.drop[..]),
        (&["SYS_TIME".to_owned()][..], &["ALL".to_owned()][..])
    );
    assert_eq!(spec.init_containers[1].security.user, Some(1000));
}

const WITH_OBJECTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, b: "2"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {key: c2VjcmV0}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web, tier: front}}
spec:
  containers:
  - name: a
    image: i
    envFrom: [{prefix: P_, configMapRef: {name: settings}}, {secretRef: {name: none, optional: true}}]
    env:
    - {name: A, value: one}
    - {name: B, value: "$(A)-$(P_colour)-$$(A)-$(NONE)-$5"}
    - {name: C, valueFrom: {secretKeyRef: {name: keys, key: key}}}
    - {name: D, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: E, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
    - {name: F, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: G, valueFrom: {configMapKeyRef: {name: settings, key: none, optional: true}}}
    resources: {limits: {memory: 100Mi}}
  volumes:
  - name: all
    projected:
      sources:
      - configMap: {name: settings, items: [{key: colour, path: deep/colour, mode: 0o400}]}
      - secret: {name: keys}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
"#;

#[test]
fn environments_and_files_come_from_objects_and_fields() {
    let manifests = read(WITH_OBJECTS);
    let pod = only(&manifests);
    let facts = Facts { pod_ips: vec!["10.1.2.3".parse().expect("an address")], ..Facts::default() };
    let values = Values { pod, objects: &manifests, facts: &facts };
    let environment = values.environment(&pod.spec.containers[0]).expect("nothing is missing");
    let shown: Vec<_> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        shown,
        [
            "P_b=2",
            "P_colour=blue",
            "A=one",
            "B=one-blue-$(A)-$(NONE)-$5",
            "C=secret",
            "D=10.1.2.3",
            "E=front",
            "F=100"
        ]
    );
    let VolumeSource::Projected { sources, mode } = &pod.spec.volumes[0].source else { panic!("projected") };
    let files = values.files("all", sources).expect("nothing is missing");
    let shown: Vec<_> = files
        .iter()
        .map(|file| {
            (
                file.path.to_str().expect("text"),
                String::from_utf8_lossy(&file.content).into_owned(),
                file.mode,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("deep/colour", "blue".to_owned(), Some(0o400)),
            ("key", "secret".to_owned(), None),
            ("labels", "app=\"web\"\ntier=\"front\"".to_owned(), None)
        ]
    );
    assert_eq!(*mode, 0o644);
}

#[test]
fn what_is_missing_is_named_with_who_asked() {
    let manifests = pod(
        "{containers: [{name: a, image: i, env: [{name: X, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]}",
    );
    let pod = only(&manifests);
    assert!(matches!(pod.spec.containers[0].env[0].source, EnvSource::Key { kind: "Secret", .. }));
    let (objects, facts) = (Manifests::default(), Facts::default());
    let values = Values { pod, objects: &objects, facts: &facts };
    let missing = values.environment(&pod.spec.containers[0]).expect_err("it is missing");
    assert_eq!(missing.to_string(), "container a: env X: there is no Secret default/s");
    let files = values.files(
        "v",
        &[Projection::ConfigMap { name: "m".into(), items: vec![], need: crate::Need::Required }],
    );
    assert_eq!(files.expect_err("it is missing").to_string(), "volume v: there is no ConfigMap default/m");
}

#[test]
fn the_pods_of_a_deployment_can_be_written_and_read_again() {
    let manifests = read(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  replicas: 3\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: a, image: i}]}",
    );
    assert_eq!(manifests.refused, []);
    let deployment = &manifests.deployments[0];
    assert_eq!((deployment.replicas, deployment.name.to_string()), (3, "shop/web".to_owned()));
    let pod = deployment.template.named("web-1");
    let mut again = Manifests::default();
    again.add(pod.manifest.clone());
    assert_eq!(again.refused, []);
    assert_eq!(again.pods, [pod]);
}

#[test]
fn a_deployment_that_does_not_select_its_pods_is_refused() {
    let manifests = read(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  selector: {matchLabels: {app: other}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: a, image: i, x: 1}]}",
    );
    assert_eq!(
        complaints(&manifests),
        [
            "spec.template.spec.containers[0].x: is not a field that is known here",
            "spec.selector.matchLabels: selects app=other, which the template's labels do not have"
        ]
    );
}
