use std::sync::Arc;

use manifest_documents::Syntax;
use pod_manifests::Manifests;
use service_plan::ServiceName;

use super::*;
use crate::services::tests::service;

fn read(yaml: &str) -> Manifests {
    let mut manifests = Manifests::default();
    manifests.read(Syntax::Yaml, yaml).expect("good YAML");
    assert_eq!(manifests.refused, []);
    manifests
}

fn template() -> Pod {
    let yaml = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {
        selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {
        initContainers: [{name: i, image: 'rootfs:/x', ports: [{name: init, containerPort: 1}]},
                         {name: s, image: 'rootfs:/x', restartPolicy: Always, ports: [{name: side, containerPort: 2}]}],
        containers: [{name: a, image: 'rootfs:/x', ports: [{name: http, containerPort: 80}, {containerPort: 81}]}]}}}}";
    read(yaml).deployments.pop().expect("a Deployment").template
}

/// Two Services of which one is of the namespace.
fn served() -> Served {
    let served = |namespace: &str, name: &str, ip: &str| {
        let (one, _) = service(&format!("clusterIP: {ip}, ports: [{{port: 80}}], selector: {{app: web}}"));
        (ServiceName::new(namespace, name), Arc::clone(one.expect("one").served.as_ref().expect("served")))
    };
    Served::from([served("shop", "api", "10.96.0.1"), served("other", "db", "10.96.0.2")])
}

#[test]
fn a_pod_tells_whose_it_is_to_whoever_comes_next() {
    let name = ObjectName { namespace: "shop".to_owned(), name: "web-1".to_owned() };
    let deployment = ObjectName { namespace: "shop".to_owned(), name: "web".to_owned() };
    for owner in [Owner::Deployment(deployment), Owner::Pod(name.clone())] {
        let making = Making { name: name.clone(), owner: owner.clone(), revision: "abc".to_owned() };
        let pod = making.pod(&template(), Path::new("/srv/shop"), &served());
        let text = Value::Object(pod.manifest).to_string();
        let again = || read(&text).pods.pop().expect("a Pod");
        let made = Made::of(again(), Path::new("/srv/shop"));
        assert_eq!(made.pod.name, name);
        assert_eq!(made.ours, Some((owner, "abc".to_owned())));
        assert_eq!(made.pod.labels["app"], "web");
        assert_eq!(Made::of(again(), Path::new("/srv/other")).ours, None);
    }
}

#[test]
fn services_are_found_by_name_and_those_of_another_namespace_by_a_longer_one() {
    let name = ObjectName { namespace: "shop".to_owned(), name: "web-1".to_owned() };
    let making = Making { owner: Owner::Pod(name.clone()), name, revision: "abc".to_owned() };
    let pod = making.pod(&template(), Path::new("/srv/shop"), &served());
    let pod = read(&Value::Object(pod.manifest).to_string()).pods.pop().expect("a Pod");
    let told =
        pod.spec.host_aliases.iter().map(|alias| format!("{} {}", alias.ip, alias.hostnames.join(" ")));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            "10.96.0.2 db.other.svc.cluster.local db.other.svc db.other",
            "10.96.0.1 api api.shop.svc.cluster.local api.shop.svc api.shop",
        ]
    );
}

#[test]
fn named_ports_are_those_of_containers_that_stay() {
    let made = Made::of(template(), Path::new("/"));
    let ports: Vec<_> = made.ports.iter().map(|port| (port.name.as_str(), port.number)).collect();
    assert_eq!(ports, [("http", 80), ("side", 2)]);
}
