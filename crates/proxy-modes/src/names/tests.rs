use service_plan::{Protocol, ServiceName};

use super::*;

/// Test vectors of kube-proxy's own tests (`pkg/proxy/iptables/proxier_test.go`).
#[test]
fn chains_are_named_as_kube_proxy_names_them() {
    let rows = [
        ("ns1", "svc1", "p80", Protocol::Tcp, None, "XPGD46QRK7WJZT7O"),
        ("ns5", "svc5", "p80", Protocol::Tcp, None, "NUKIZ6OKUXPJNT4C"),
        ("ns1", "svc1", "p80", Protocol::Udp, None, "OJWW7NSBVZTDHXNW"),
        ("ns1", "svc1", "", Protocol::Tcp, None, "AQI2S6QIMU7PVVRP"),
        ("ns1", "svc1", "p80", Protocol::Tcp, Some("10.180.0.1:80"), "SXIVWICOYRO3J4NJ"),
        ("ns5", "svc5", "p80", Protocol::Tcp, Some("10.180.0.3:80"), "I77PXRDZVX7PMWMN"),
        ("ns1", "svc1", "p80", Protocol::Tcp, Some("[fd00:10:180::1]:80"), "OGYCNMB4EMRUSJ6N"),
    ];
    for (namespace, service, port, protocol, endpoint, hash) in rows {
        let name =
            ServicePortName { service: ServiceName::new(namespace, service), port: port.into(), protocol };
        let endpoint = endpoint.map(|text| text.parse().expect("an address"));
        assert_eq!(service_chain("KUBE-SVC-", &name, endpoint).as_str(), format!("KUBE-SVC-{hash}"));
    }
}

/// Test vectors of kube-proxy's own tests (`pkg/proxy/nftables/proxier_test.go`), and a name that has to be cut.
#[test]
fn objects_of_nftables_are_told_apart_by_what_people_read() {
    let name = |namespace: &str, service: &str, port: &str| ServicePortName {
        service: ServiceName::new(namespace, service),
        port: port.into(),
        protocol: Protocol::Tcp,
    };
    assert_eq!(service_words(&name("ns1", "svc1", "p80")), "ULMVA6XW-ns1/svc1/tcp/p80");
    assert_eq!(service_words(&name("ns1", "svc1", "")), "6KJ5P52A-ns1/svc1/tcp/");
    let endpoint = "10.180.0.1:80".parse().expect("a socket");
    let http = name("testing", "service", "http");
    assert_eq!(endpoint_words(&http, endpoint), "JO2XBXZR-testing/service/tcp/http__10.180.0.1/80");
    let long = service_words(&name(&"n".repeat(63), &"s".repeat(63), &"p".repeat(63)));
    assert_eq!(long.len(), 8 + 1 + 160 + 3);
    assert_ne!(long, service_words(&name(&"n".repeat(63), &"s".repeat(63), &"q".repeat(63))));
}
