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
