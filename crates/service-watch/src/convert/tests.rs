use std::collections::BTreeMap;

use super::*;

/// What became of an object, in words: the answer, and `path: message` of everything found.
fn found<T>(convert: impl FnOnce(&mut Findings) -> Option<T>) -> (Option<T>, Vec<String>) {
    let mut findings = Findings::default();
    let answer = convert(&mut findings);
    let errors = findings.into_errors(String::new);
    (answer, errors.into_iter().map(|error| format!("{}: {}", error.path, error.message)).collect())
}

/// A Service with an address and these lines beneath its spec; a line that starts with `/` is at the top.
fn service(lines: &str) -> (Option<Answer<Service>>, Vec<String>) {
    let (top, spec): (Vec<_>, Vec<_>) = lines.lines().map(str::trim).partition(|line| line.starts_with('/'));
    let top = top.iter().map(|line| line.trim_start_matches('/')).collect::<Vec<_>>().join("\n");
    let address = if lines.contains("clusterIP:") { "" } else { "  clusterIP: 10.96.0.10\n" };
    let yaml = format!("{top}\nspec:\n{address}  {}\n", spec.join("\n  "));
    let wire: wire::Service = serde_saphyr::from_str(&yaml).expect("the test's own YAML");
    found(|findings| super::service(&wire, findings))
}

fn served(lines: &str) -> Service {
    match service(lines) {
        (Some(Answer::Ours(service)), problems) if problems.is_empty() => service,
        other => panic!("{lines}: {other:?}"),
    }
}

fn slice(yaml: &str) -> (Option<Answer<EndpointSlice>>, Vec<String>) {
    let labelled = "metadata: {labels: {kubernetes.io/service-name: web}}\n";
    let labels = if yaml.contains("metadata:") { "" } else { labelled };
    let wire: wire::EndpointSlice =
        serde_saphyr::from_str(&format!("{labels}{yaml}")).expect("the test's own YAML");
    found(|findings| endpoint_slice("default", &wire, findings))
}

fn taken(yaml: &str) -> EndpointSlice {
    match slice(yaml) {
        (Some(Answer::Ours(slice)), problems) if problems.is_empty() => slice,
        other => panic!("{yaml}: {other:?}"),
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[test]
fn services_that_are_not_ours() {
    let forgotten = "spec.clusterIP: is missing, so the Service is not served (None says so on purpose)";
    for (lines, reason, problems) in [
        ("clusterIP: None", "headless", vec![]),
        ("clusterIP:", "no cluster IP", vec![forgotten]),
        ("clusterIP: ''", "no cluster IP", vec![forgotten]),
        ("type: ExternalName", "an ExternalName", vec![]),
        ("type: ExternalName\nports: [{port: 70000}]", "an ExternalName", vec![]),
        (
            "/metadata: {labels: {service.kubernetes.io/service-proxy-name: other}}",
            "another proxy serves it, by label",
            vec![],
        ),
        (
            "/metadata: {labels: {service.kubernetes.io/service-proxy-name: ''}}",
            "another proxy serves it, by label",
            vec![],
        ),
    ] {
        let (answer, found) = service(lines);
        assert_eq!(answer, Some(Answer::NotOurs(reason)), "{lines}");
        assert_eq!(found, problems, "{lines}");
    }
}

/// Rows of what a Service is refused for.
fn refused(rows: &[(&str, &[&str])]) {
    for (lines, problems) in rows {
        let (answer, found) = service(lines);
        assert_eq!(answer, None, "{lines}");
        assert_eq!(found, *problems, "{lines}");
    }
}

#[test]
fn a_service_is_refused_with_the_path_of_each_wrong_port() {
    refused(&[
        ("ports: [{port: 70000}]", &["spec.ports[0].port: 70000 is not a port (1 to 65535)"]),
        ("ports: [{port: 0}]", &["spec.ports[0].port: 0 is not a port (1 to 65535)"]),
        ("ports: [{port: -1}]", &["spec.ports[0].port: -1 is not a port (1 to 65535)"]),
        ("ports: [{name: http}]", &["spec.ports[0].port: is missing"]),
        (
            "ports: [{port: 80, nodePort: 65536}]",
            &["spec.ports[0].nodePort: 65536 is not a port (1 to 65535)"],
        ),
        (
            "ports: [{port: 80, protocol: ICMP}]",
            &[r#"spec.ports[0].protocol: "ICMP" is not known; it can be TCP, UDP or SCTP"#],
        ),
        (
            "ports: [{port: 80, protocol: tcp}]",
            &[r#"spec.ports[0].protocol: "tcp" is not known; it can be TCP, UDP or SCTP"#],
        ),
        (
            r#"ports: [{port: 80, name: "a\"\nCOMMIT"}]"#,
            &[r#"spec.ports[0].name: "a\"\nCOMMIT" is not a name (lower-case letters, digits, "-" and ".")"#],
        ),
        (
            "ports: [{name: a, port: 80}, {name: a, port: 81}]",
            &[r#"spec.ports[1].name: "a" is the name of an earlier TCP port"#],
        ),
        (
            "ports: [{name: a, port: 80}, {name: b, port: 80}]",
            &["spec.ports[1].port: 80 is the number of an earlier TCP port"],
        ),
    ]);
}

#[test]
fn a_service_is_refused_with_the_path_of_each_wrong_cluster_ip() {
    refused(&[
        ("clusterIP: 10.0.0.256", &[r#"spec.clusterIP: "10.0.0.256" is not an IP address"#]),
        ("clusterIP: web", &[r#"spec.clusterIP: "web" is not an IP address"#]),
        (
            "clusterIP: 10.0.0.1\nclusterIPs: [10.0.0.1, 10.0.0.2]",
            &["spec.clusterIPs[1]: 10.0.0.2 is a second IPv4 address"],
        ),
        (
            "clusterIP: 10.0.0.1\nclusterIPs: [10.0.0.2]",
            &["spec.clusterIPs[0]: 10.0.0.2 is not spec.clusterIP, which is 10.0.0.1"],
        ),
        (
            "clusterIP: 10.0.0.1\nclusterIPs: [10.0.0.1, 'x']",
            &[r#"spec.clusterIPs[1]: "x" is not an IP address"#],
        ),
        (
            "clusterIP: 10.0.0.1\nclusterIPs: [10.0.0.1]\nipFamilies: [IPv6]",
            &["spec.clusterIPs[0]: 10.0.0.1 is not an IPv6 address, as spec.ipFamilies[0] says"],
        ),
        (
            "clusterIP: 10.0.0.1\nipFamilies: [IPv6]",
            &["spec.clusterIP: 10.0.0.1 is not an IPv6 address, as spec.ipFamilies[0] says"],
        ),
        ("ipFamilies: [IPv5]", &[r#"spec.ipFamilies[0]: "IPv5" is not known; it can be IPv4 or IPv6"#]),
    ]);
}

#[test]
fn a_service_is_refused_with_the_path_of_each_other_wrong_field() {
    refused(&[
        (
            "type: Gateway",
            &[
                r#"spec.type: "Gateway" is not known; it can be ClusterIP, NodePort, LoadBalancer or ExternalName"#,
            ],
        ),
        (
            "sessionAffinity: Cookie",
            &[r#"spec.sessionAffinity: "Cookie" is not known; it can be None or ClientIP"#],
        ),
        (
            "sessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
            &["spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not between 1 and 86400"],
        ),
        (
            "sessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}",
            &["spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is not between 1 and 86400"],
        ),
        (
            "externalTrafficPolicy: Here",
            &[r#"spec.externalTrafficPolicy: "Here" is not known; it can be Cluster or Local"#],
        ),
        (
            "internalTrafficPolicy: Here",
            &[r#"spec.internalTrafficPolicy: "Here" is not known; it can be Cluster or Local"#],
        ),
        // Passing over a range could let everybody in.
        (
            "loadBalancerSourceRanges: [10.0.0.0/8, 10.0.0.1]",
            &[r#"spec.loadBalancerSourceRanges[1]: "10.0.0.1" is not a range like 10.0.0.0/8"#],
        ),
        ("healthCheckNodePort: 70000", &["spec.healthCheckNodePort: 70000 is not a port (1 to 65535)"]),
        (
            "/metadata: {creationTimestamp: yesterday}",
            &[r#"metadata.creationTimestamp: "yesterday" is not a time like 2006-01-02T15:04:05Z"#],
        ),
        (
            "ports: [{port: 70000, protocol: X}, {port: 80}, {port: 0}]\nsessionAffinity: X",
            &[
                r#"spec.ports[0].protocol: "X" is not known; it can be TCP, UDP or SCTP"#,
                "spec.ports[0].port: 70000 is not a port (1 to 65535)",
                "spec.ports[2].port: 0 is not a port (1 to 65535)",
                r#"spec.sessionAffinity: "X" is not known; it can be None or ClientIP"#,
            ],
        ),
    ]);
}

#[test]
fn addresses_that_upstream_passes_over_are_passed_over_with_a_remark() {
    let (answer, problems) = service(
        "/status: {loadBalancer: {ingress: [{ip: 1.2.3.4}, {ip: 1.2.3}]}}
         externalIPs: [10.0.0.300, '', '  ', 010.0.0.1, 'fd00::1']",
    );
    let Some(Answer::Ours(service)) = answer else { panic!("{answer:?}") };
    assert_eq!(texts(&service.external_ips), ["10.0.0.1", "fd00::1"]);
    assert_eq!(texts(&service.load_balancer_ips), ["1.2.3.4"]);
    assert_eq!(
        problems,
        [
            r#"spec.externalIPs[0]: "10.0.0.300" is not an IP address, and is passed over"#,
            r#"status.loadBalancer.ingress[1].ip: "1.2.3" is not an IP address, and is passed over"#,
        ]
    );
}

#[test]
fn what_a_service_leaves_out_has_upstreams_defaults() {
    let service = served("ports: [{port: 80}]");
    let port = ServicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port: Port::new(80).unwrap(),
        node_port: None,
    };
    assert_eq!(
        service,
        Service {
            created: None,
            kind: ServiceKind::ClusterIp,
            cluster_ips: vec![[10, 96, 0, 10].into()],
            ports: vec![port],
            external_ips: vec![],
            load_balancer_ips: vec![],
            source_ranges: vec![],
            affinity: None,
            external_policy: Policy::Cluster,
            internal_policy: Policy::Cluster,
            health_check_node_port: None,
            weights: BTreeMap::new(),
            scheduler: None,
            header: service_plan::ClientHeader::None,
        }
    );
    let nulls = "type: null\nports: null\nexternalIPs: null\nsessionAffinity: ''\nsessionAffinityConfig: null
                 externalTrafficPolicy: ''\ninternalTrafficPolicy: null\nhealthCheckNodePort: 0
                 /metadata: {creationTimestamp: null, labels: null}\n/status: null";
    assert_eq!(served(nulls), Service { ports: vec![], ..service });
}

#[test]
fn cluster_ips_by_family() {
    for (lines, wanted) in [
        ("clusterIP: 10.0.0.1", vec!["10.0.0.1"]),
        ("clusterIP: 010.00.0.1", vec!["10.0.0.1"]),
        ("clusterIP: FD00::0:1", vec!["fd00::1"]),
        // Without families only spec.clusterIP counts.
        ("clusterIP: 10.0.0.1\nclusterIPs: [10.0.0.1, 'fd00::1']", vec!["10.0.0.1"]),
        ("clusterIP: 10.0.0.1\nipFamilies: [IPv4]", vec!["10.0.0.1"]),
        (
            "clusterIP: fd00::1\nclusterIPs: ['fd00::1', 10.0.0.1]\nipFamilies: [IPv6, IPv4]",
            vec!["fd00::1", "10.0.0.1"],
        ),
        ("clusterIP: 10.0.0.1\nclusterIPs: [10.0.0.1]\nipFamilies: [IPv4, IPv6]", vec!["10.0.0.1"]),
        ("clusterIP: 10.0.0.1\nclusterIPs: [10.0.0.1, 'fd00::1']\nipFamilies: [IPv4]", vec!["10.0.0.1"]),
    ] {
        assert_eq!(texts(&served(lines).cluster_ips), wanted, "{lines}");
    }
}

#[test]
fn ports_keep_name_protocol_and_numbers_and_forget_the_target_port() {
    let ports = served(
        "ports: [{name: dns, port: 53, protocol: UDP, targetPort: dns, nodePort: 30053}, \
                 {name: dns, port: 53, targetPort: 5353}, {name: sctp, port: 65535, protocol: SCTP}, \
                 {port: 54, nodePort: 0}]",
    )
    .ports;
    let ports: Vec<_> = ports
        .iter()
        .map(|port| {
            let node_port = port.node_port.map_or("-".to_owned(), |port| port.to_string());
            format!("{} {} {} {node_port}", port.name, port.protocol, port.port)
        })
        .collect();
    assert_eq!(ports, ["dns UDP 53 30053", "dns TCP 53 -", "sctp SCTP 65535 -", " TCP 54 -"]);
}

#[test]
fn load_balancer_addresses_are_those_of_mode_vip() {
    let service = served(
        "/status: {loadBalancer: {ingress: [{ip: 1.1.1.1}, {ip: 2.2.2.2, ipMode: VIP}, \
           {ip: 3.3.3.3, ipMode: Proxy}, {hostname: lb.example}, {ip: '', hostname: x}, {ip: 'fd00::1'}]}}
         type: LoadBalancer
         loadBalancerIP: 9.9.9.9",
    );
    assert_eq!(service.kind, ServiceKind::LoadBalancer);
    assert_eq!(texts(&service.load_balancer_ips), ["1.1.1.1", "2.2.2.2", "fd00::1"]);
}

#[test]
fn source_ranges_are_trimmed_and_canonical() {
    let service = served("loadBalancerSourceRanges: [' 010.1.2.3/08 ', 'fd00::1/64', 0.0.0.0/0]");
    assert_eq!(texts(&service.source_ranges), ["10.0.0.0/8", "fd00::/64", "0.0.0.0/0"]);
}

#[test]
fn policies_affinity_and_health_check_are_taken_as_written() {
    let service = served(
        "/metadata: {creationTimestamp: '2024-03-01T00:00:00Z'}
         type: NodePort
         externalTrafficPolicy: Local
         internalTrafficPolicy: Local
         healthCheckNodePort: 31000
         sessionAffinity: ClientIP
         sessionAffinityConfig: {clientIP: {timeoutSeconds: 86400}}",
    );
    assert_eq!(service.created, Some(1_709_251_200));
    assert_eq!(service.kind, ServiceKind::NodePort);
    assert_eq!((service.external_policy, service.internal_policy), (Policy::Local, Policy::Local));
    assert_eq!(service.health_check_node_port, NodePort::new(31000));
    assert_eq!(service.affinity, Some(Seconds(86400)));
    assert_eq!(served("sessionAffinity: ClientIP").affinity, Some(Seconds(10800)));
    let unused = "sessionAffinity: None\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}";
    assert_eq!(served(unused).affinity, None);
}

#[test]
fn slices_that_are_not_ours() {
    for (yaml, reason) in [
        ("metadata: {}\naddressType: IPv4", "no label kubernetes.io/service-name"),
        (
            "metadata: {labels: {kubernetes.io/service-name: ''}}\naddressType: IPv4",
            "no label kubernetes.io/service-name",
        ),
        (
            "metadata: {labels: {kubernetes.io/service-name: a, service.kubernetes.io/headless: ''}}",
            "of a headless Service",
        ),
        ("addressType: FQDN\nendpoints: [{addresses: [a.example]}]", "host names, not addresses"),
    ] {
        assert_eq!(slice(yaml), (Some(Answer::NotOurs(reason)), vec![]), "{yaml}");
    }
}

#[test]
fn a_slice_is_refused_with_the_path_of_each_wrong_field() {
    for (yaml, problems) in [
        ("addressType: IPv5", vec![r#"addressType: "IPv5" is not known; it can be IPv4, IPv6 or FQDN"#]),
        ("ports: []", vec!["addressType: is missing; it can be IPv4, IPv6 or FQDN"]),
        (
            "addressType: IPv4\nendpoints: [{addresses: [web]}, {addresses: ['fd00::1']}]",
            vec![
                r#"endpoints[0].addresses[0]: "web" is not an IP address"#,
                "endpoints[1].addresses[0]: fd00::1 is not an IPv4 address",
            ],
        ),
        (
            "addressType: IPv6\nendpoints: [{addresses: ['::ffff:10.0.0.1']}]",
            vec!["endpoints[0].addresses[0]: 10.0.0.1 is not an IPv6 address"],
        ),
        (
            "addressType: IPv4\nports: [{name: a, port: 70000}, {name: b, port: 1, protocol: X}]",
            vec![
                "ports[0].port: 70000 is not a port (1 to 65535)",
                r#"ports[1].protocol: "X" is not known; it can be TCP, UDP or SCTP"#,
            ],
        ),
        (
            "addressType: IPv4\nmetadata: {labels: {kubernetes.io/service-name: A}}",
            vec![
                "metadata.labels[kubernetes.io/service-name]: \
                 \"A\" is not a name (lower-case letters, digits, \"-\" and \".\")",
            ],
        ),
    ] {
        assert_eq!(slice(yaml), (None, texts(&problems)), "{yaml}");
    }
}

#[test]
fn ports_of_slices_need_a_name_and_a_number() {
    let slice = taken(
        "addressType: IPv4\nports: [{port: 1}, {name: null, port: 2}, {name: a}, {name: b, port: 0}, \
           {name: '', port: 3}, {name: c, port: 4, protocol: null}, {name: d, port: 5, protocol: UDP}]",
    );
    assert_eq!((slice.service, slice.family), (ServiceName::new("default", "web"), Family::V4));
    let ports: Vec<_> =
        slice.ports.iter().map(|port| format!("{} {} {}", port.name, port.protocol, port.port)).collect();
    assert_eq!(ports, [" TCP 3", "c TCP 4", "d UDP 5"]);
}

#[test]
fn conditions_that_nobody_states() {
    for (conditions, wanted) in [
        ("{}", Health::Ready),
        ("null", Health::Ready),
        ("{ready: true, terminating: true}", Health::Ready),
        ("{ready: false}", Health::Unready),
        ("{ready: false, serving: true}", Health::Unready),
        ("{ready: false, terminating: true}", Health::Terminating),
        ("{ready: false, serving: null, terminating: true}", Health::Terminating),
        ("{ready: false, serving: false, terminating: true}", Health::Unready),
    ] {
        let yaml =
            format!("addressType: IPv4\nendpoints: [{{addresses: [10.0.0.1], conditions: {conditions}}}]");
        assert_eq!(taken(&yaml).endpoints[0].health, wanted, "{conditions}");
    }
}

#[test]
fn an_endpoint_is_its_first_address_with_node_and_hints() {
    let slice = taken(
        "addressType: IPv6
endpoints:
- {addresses: []}
- {addresses: ['fd00::0:1', 'not looked at'], nodeName: node-1}
- {addresses: ['fd00::2'], nodeName: '', hints: {forZones: [], forNodes: []}}
- {addresses: ['fd00::3'], hints: {forZones: [{name: a}, {name: b}], forNodes: [{name: n}]}}
",
    );
    let hints = Hints { zones: vec!["a".into(), "b".into()], nodes: vec!["n".into()] };
    let seen: Vec<_> = slice
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.address.to_string(), endpoint.node.as_deref(), endpoint.hints.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            ("fd00::1".to_owned(), Some("node-1"), None),
            ("fd00::2".to_owned(), None, None),
            ("fd00::3".to_owned(), None, Some(&hints)),
        ]
    );
}

fn node_of(yaml: &str) -> (Option<NodeObject>, Vec<String>) {
    let wire: wire::Node = serde_saphyr::from_str(yaml).expect("the test's own YAML");
    found(|findings| super::node(&wire, findings))
}

#[test]
fn a_node_has_a_zone_pod_ranges_and_the_first_address_of_each_family() {
    let (read, problems) = node_of(
        "metadata: {labels: {topology.kubernetes.io/zone: east}}
spec: {podCIDR: 10.9.0.0/24, podCIDRs: [10.244.1.7/24, 'fd00:1::/64']}
status:
  addresses:
  - {type: ExternalIP, address: 1.2.3.4}
  - {type: ExternalIP, address: 'fd00::9'}
  - {type: Hostname, address: node-1}
  - {type: InternalIP, address: x}
  - {type: InternalIP, address: 192.168.0.1}
  - {type: InternalIP, address: 192.168.0.2}
",
    );
    let read = read.unwrap();
    assert_eq!(&*read.zone, "east");
    assert_eq!(texts(&read.ips), ["192.168.0.1", "fd00::9"]);
    assert_eq!(texts(&read.pod_ranges), ["10.244.1.0/24", "fd00:1::/64"]);
    assert_eq!(problems, [r#"status.addresses[3].address: "x" is not an IP address, and is passed over"#]);

    let (read, _) = node_of("spec: {podCIDR: 10.9.0.0/24}");
    assert_eq!(texts(&read.unwrap().pod_ranges), ["10.9.0.0/24"]);
    let (read, _) = node_of("metadata: {}");
    assert_eq!(
        read,
        Some(NodeObject {
            zone: "".into(),
            ips: vec![],
            pod_ranges: vec![],
            eligibility: Eligibility::Eligible
        })
    );
    assert_eq!(
        node_of("spec: {podCIDRs: [10.0.0.0]}"),
        (None, vec![r#"spec.podCIDRs[0]: "10.0.0.0" is not a range like 10.0.0.0/8"#.to_owned()])
    );
}

#[test]
fn a_node_that_is_leaving_gets_no_traffic_and_a_cordoned_one_does() {
    for (text, wanted) in [
        ("spec: {unschedulable: true}", Eligibility::Eligible),
        (
            "spec: {taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}",
            Eligibility::Eligible,
        ),
        ("spec: {taints: null}", Eligibility::Eligible),
        ("spec: {taints: [{key: a}, {key: ToBeDeletedByClusterAutoscaler}]}", Eligibility::Leaving),
        (
            "spec: {taints: [{key: ToBeDeletedByClusterAutoscaler, value: x, effect: NoSchedule}]}",
            Eligibility::Leaving,
        ),
        ("metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}", Eligibility::Leaving),
    ] {
        assert_eq!(node_of(text).0.map(|node| node.eligibility), Some(wanted), "{text}");
    }
}

#[test]
fn names_cannot_carry_anything_into_a_rule() {
    for (text, wanted) in [
        ("web", true),
        ("a.b-c.1", true),
        ("", false),
        ("Web", false),
        ("web_1", false),
        ("a b", false),
        ("a\nb", false),
        ("a\"b", false),
        ("ä", false),
    ] {
        assert_eq!(name(text).is_ok(), wanted, "{text:?}");
    }
    assert!(name(&"a".repeat(253)).is_ok());
    assert!(name(&"a".repeat(254)).is_err());
}

#[test]
fn weights_schedulers_and_headers_that_are_wrong_are_passed_over_with_a_remark() {
    let annotated = |name: &str, value: &str| {
        service(&format!("/metadata: {{annotations: {{fairlead.dev/{name}: '{value}'}}}}"))
    };
    let weights = "metadata.annotations[fairlead.dev/weights]: ";
    for (value, problem) in [
        ("a, b", "is not a JSON object like {\"10.0.0.1\": 50}, and is passed over"),
        (r#"{"a": 101}"#, r#""a": 101 is not between 0 and 100, and is passed over"#),
        (r#"{"a": "1"}"#, r#""a": "1" is not between 0 and 100, and is passed over"#),
        (r#"{"a": -1}"#, r#""a": -1 is not between 0 and 100, and is passed over"#),
    ] {
        let (answer, problems) = annotated("weights", value);
        assert!(matches!(answer, Some(Answer::Ours(service)) if service.weights.is_empty()));
        assert_eq!(problems, [format!("{weights}{problem}")]);
    }
    let (answer, problems) = annotated("ipvs-scheduler", "Round Robin");
    assert!(matches!(answer, Some(Answer::Ours(service)) if service.scheduler.is_none()));
    let told = r#""Round Robin" is not the name of a scheduler like wrr, and is passed over"#;
    assert_eq!(problems, [format!("metadata.annotations[fairlead.dev/ipvs-scheduler]: {told}")]);
    for (value, header, told) in [
        ("v2", service_plan::ClientHeader::ProxyV2, None),
        ("v1", service_plan::ClientHeader::None, Some(r#""v1" is not v2, and is passed over"#)),
        ("", service_plan::ClientHeader::None, Some(r#""" is not v2, and is passed over"#)),
    ] {
        let (answer, problems) = annotated("proxy-protocol", value);
        assert!(matches!(answer, Some(Answer::Ours(service)) if service.header == header));
        let told = told.map(|told| format!("metadata.annotations[fairlead.dev/proxy-protocol]: {told}"));
        assert_eq!(problems, Vec::from_iter(told));
    }
    let (answer, problems) = annotated("weights", r#"{"node-1": 0, "zone-a": 100}"#);
    assert_eq!(problems, [""; 0]);
    let Some(Answer::Ours(service)) = answer else { panic!("it is served") };
    let read: Vec<_> = service.weights.iter().map(|(name, weight)| (&**name, weight.get())).collect();
    assert_eq!(read, [("node-1", 0), ("zone-a", 100)]);
}
