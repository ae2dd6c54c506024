use super::*;
use crate::services::tests::service;

const NAMED: &str =
    "selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}, {name: raw, port: 81}]";

/// A pod `app=web` with this last part of its address, whose port `http` has this number.
fn pod(last: u16, http: u16, serving: Serving, life: Life) -> Backend {
    let [high, low] = last.to_be_bytes();
    Backend {
        namespace: "default".to_owned(),
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned()), ("x".to_owned(), "y".to_owned())]),
        ips: vec![IpAddr::from([10, 244, high, low]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])],
        ports: vec![NamedPort { name: "http".to_owned(), protocol: Protocol::Tcp, number: http }],
        serving,
        life,
    }
}

fn standing(last: u16) -> Backend {
    pod(last, 8080, Serving::Yes, Life::Stays)
}

/// Each slice in a line.
fn told(spec: &str, families: &[Family], backends: &[Backend]) -> Vec<String> {
    let (service, problems) = service(spec);
    let service = service.unwrap_or_else(|| panic!("{problems:?}"));
    let place = Place { node: "node-1".into(), zone: Some("here".into()) };
    let line = |(name, slice): (&SliceName, &EndpointSlice)| {
        let ports: Vec<_> = slice.ports.iter().map(|port| format!("{}={}", port.name, port.port)).collect();
        let endpoints: Vec<_> =
            slice.endpoints.iter().map(|one| format!("{} {:?}", one.address, one.health)).collect();
        assert!(slice.endpoints.iter().all(|one| one.node.as_deref() == Some("node-1")));
        assert!(slice.endpoints.iter().all(|one| one.zone.as_deref() == Some("here")));
        format!("{} [{}] {}", name.name, ports.join(" "), endpoints.join(", "))
    };
    slices(&ServiceName::new("default", "web"), &service, families, backends, &place)
        .iter()
        .map(line)
        .collect()
}

#[test]
fn conditions_follow_readiness_and_termination() {
    let pods = [
        standing(1),
        pod(2, 8080, Serving::No, Life::Stays),
        pod(3, 8080, Serving::Yes, Life::Terminates),
        pod(4, 8080, Serving::No, Life::Terminates),
    ];
    let spec = "selector: {app: web}, ports: [{port: 80}]";
    assert_eq!(
        told(spec, &[Family::V4], &pods),
        ["web-v4-1 [=80] 10.244.0.1 Ready, 10.244.0.2 Unready, 10.244.0.3 Terminating, 10.244.0.4 Unready"]
    );
    let published = format!("{spec}, publishNotReadyAddresses: true");
    assert_eq!(
        told(&published, &[Family::V4], &pods),
        ["web-v4-1 [=80] 10.244.0.1 Ready, 10.244.0.2 Ready, 10.244.0.3 Ready, 10.244.0.4 Ready"]
    );
}

#[test]
fn only_pods_with_all_the_labels_and_in_the_namespace_are_meant() {
    let elsewhere = Backend { namespace: "other".to_owned(), ..standing(2) };
    let unlabelled = Backend { labels: BTreeMap::new(), ..standing(3) };
    let pods = [standing(1), elsewhere, unlabelled];
    let of = |selector: &str| told(&format!("{selector}ports: [{{port: 80}}]"), &[Family::V4], &pods);
    assert_eq!(of("selector: {app: web, x: y}, "), ["web-v4-1 [=80] 10.244.0.1 Ready"]);
    assert_eq!(of("selector: {app: web, x: z}, "), [""; 0]);
    assert_eq!(of(""), [""; 0], "without a selector none is meant");
}

#[test]
fn a_named_port_is_another_in_each_pod_and_left_out_where_none_has_it() {
    let nameless = Backend { ports: Vec::new(), ..standing(3) };
    let pods = [standing(1), pod(2, 9090, Serving::Yes, Life::Stays), nameless, standing(4)];
    assert_eq!(
        told(NAMED, &[Family::V4], &pods),
        [
            "web-v4-1 [http=8080 raw=81] 10.244.0.1 Ready, 10.244.0.4 Ready",
            "web-v4-2 [http=9090 raw=81] 10.244.0.2 Ready",
            "web-v4-3 [raw=81] 10.244.0.3 Ready",
        ]
    );
}

#[test]
fn each_family_has_slices_of_its_own() {
    let single = Backend { ips: vec![IpAddr::from([10, 244, 0, 2])], ..standing(2) };
    let spec = "selector: {app: web}, ports: [{port: 80}], clusterIP: None";
    assert_eq!(
        told(spec, &Family::BOTH, &[standing(1), single]),
        ["web-v4-1 [=80] 10.244.0.1 Ready, 10.244.0.2 Ready", "web-v6-1 [=80] fd00::1 Ready"]
    );
}

#[test]
fn a_slice_has_a_hundred_endpoints_at_most() {
    let pods: Vec<_> = (1..=250).map(standing).collect();
    let (service, _) = service("selector: {app: web}, ports: [{port: 80}]");
    let place = Place { node: "node-1".into(), zone: None };
    let name = ServiceName::new("default", "web");
    let slices = slices(&name, &service.expect("one"), &[Family::V4], &pods, &place);
    let sizes: Vec<_> = slices.values().map(|slice| slice.endpoints.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
}
