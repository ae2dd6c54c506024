use super::resolv_conf::resolv_conf;
use super::{hosts, hosts_of_node};
use crate::node::ClusterDns;
use crate::spec::{Dns, DnsPolicy, HostAlias, Hostname, Network, PodName, SandboxSpec};

const NODES: &str =
    "# the node's\nnameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch example.org\noptions timeout:2\n";

fn aliases() -> Vec<HostAlias> {
    let names = ["db.local", "db"].map(str::to_owned).to_vec();
    vec![HostAlias { ip: "192.0.2.7".parse().expect("an address"), names }]
}

#[test]
fn hosts_has_the_pod_by_its_full_name_first() {
    let hostname = Hostname {
        name: "web-1".to_owned(),
        domain: Some("web.default.svc.cluster.local".to_owned()),
        ..Hostname::default()
    };
    let addresses = ["10.1.0.2", "fd00:1::2"].map(|text| text.parse().expect("an address"));
    let text = hosts(&hostname, &addresses, &aliases());
    let (_, own) = text.split_once("ip6-allrouters\n").expect("the lines that all have");
    let expected = "\
10.1.0.2\tweb-1.web.default.svc.cluster.local\tweb-1
fd00:1::2\tweb-1.web.default.svc.cluster.local\tweb-1

# From the pod's hostAliases.
192.0.2.7\tdb.local\tdb
";
    assert_eq!(own, expected);
}

#[test]
fn hosts_on_the_nodes_network_are_the_nodes() {
    let text = hosts_of_node("127.0.0.1 localhost", &aliases());
    assert!(
        text.contains("\n127.0.0.1 localhost\n\n# From") && text.ends_with("192.0.2.7\tdb.local\tdb\n"),
        "{text}"
    );
}

/// policy, network, the cluster's servers, the pod's own configuration, the file
#[test]
fn resolv_conf_is_as_the_policy_says() {
    let own = Dns {
        servers: vec!["198.51.100.1".parse().expect("an address")],
        searches: vec!["mine.test".to_owned()],
        options: vec![("ndots".to_owned(), Some("2".to_owned())), ("edns0".to_owned(), None)],
        ..Dns::default()
    };
    let cluster = "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local example.org\noptions ndots:5\n";
    let nodes = "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch example.org\noptions timeout:2\n";
    let pod = || Network::Pod(crate::PodNetwork::default());
    for (policy, network, servers, dns, expected) in [
        (DnsPolicy::ClusterFirst, pod(), &["10.96.0.10"][..], Dns::default(), cluster.to_owned()),
        (DnsPolicy::ClusterFirst, pod(), &[], Dns::default(), nodes.to_owned()),
        (DnsPolicy::ClusterFirst, Network::Node, &["10.96.0.10"], Dns::default(), nodes.to_owned()),
        (DnsPolicy::ClusterFirstWithHostNet, Network::Node, &["10.96.0.10"], Dns::default(), cluster.to_owned()),
        (DnsPolicy::Default, pod(), &["10.96.0.10"], Dns::default(), nodes.to_owned()),
        (DnsPolicy::None, pod(), &["10.96.0.10"], own.clone(), "nameserver 198.51.100.1\nsearch mine.test\noptions ndots:2 edns0\n".to_owned()),
        (
            DnsPolicy::ClusterFirst,
            pod(),
            &["10.96.0.10"],
            own,
            "nameserver 10.96.0.10\nnameserver 198.51.100.1\nsearch default.svc.cluster.local svc.cluster.local \
             cluster.local example.org mine.test\noptions ndots:2 edns0\n"
                .to_owned(),
        ),
    ] {
        let name = PodName { namespace: "default".to_owned(), name: "web-1".to_owned(), uid: String::new() };
        let spec = SandboxSpec { network, dns: Dns { policy, ..dns }, ..SandboxSpec::new("web", name) };
        let servers = servers.iter().map(|text| text.parse().expect("an address")).collect();
        let cluster = ClusterDns { servers, domain: "cluster.local".to_owned() };
        assert_eq!(resolv_conf(&spec, &cluster, NODES), expected, "{policy:?} {:?}", spec.network);
    }
}

#[test]
fn resolv_conf_has_no_more_than_resolvers_read() {
    let dns = Dns {
        policy: DnsPolicy::None,
        servers: (1..=5).map(|last| [192, 0, 2, last].into()).collect(),
        searches: (0..40).map(|place| format!("{place}.test")).collect(),
        options: Vec::new(),
    };
    let spec = SandboxSpec { dns, ..SandboxSpec::new("web", PodName::default()) };
    let text = resolv_conf(&spec, &ClusterDns::default(), "");
    assert_eq!(text.matches("nameserver").count(), 3);
    assert_eq!(text.matches(".test").count(), 32);
}
