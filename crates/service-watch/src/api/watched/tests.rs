use super::{Kind, NodeSelector, encoded};

#[test]
fn each_kind_is_asked_for_with_upstream_s_selectors() {
    let node = NodeSelector("node-1".into());
    for (kind, expected) in [
        (Kind::Node, "/api/v1/nodes?fieldSelector=metadata.name%3Dnode-1"),
        (
            Kind::Services,
            "/api/v1/services?labelSelector=%21service.kubernetes.io%2Fservice-proxy-name\
             &fieldSelector=spec.clusterIP%21%3DNone",
        ),
        (
            Kind::EndpointSlices,
            "/apis/discovery.k8s.io/v1/endpointslices?labelSelector=%21service.kubernetes.io%2Fheadless",
        ),
        (Kind::ServiceCidrs, "/apis/networking.k8s.io/v1/servicecidrs?labelSelector="),
    ] {
        assert_eq!(kind.path(&node), expected);
    }
}

#[test]
fn nothing_in_a_query_ends_it() {
    assert_eq!(encoded("a.b-c_d~1&x=y/é?"), "a.b-c_d~1%26x%3Dy%2F%C3%A9%3F");
}
