//! What happens in the cluster, act by act.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Instant;

use crate::bulk;
use crate::cluster::{Cluster, SERVER, spawn, until};
use crate::credentials;
use crate::deployed;
use crate::narrow;
use crate::node::{Node, POD_PORT};
use crate::refusals;
use crate::swap;
use crate::telling;

/// A name, and what happens.
type Act = (&'static str, fn(&mut Cluster));

/// In this order: the last ones take away what the first ones need.
pub(crate) const ALL: [Act; 25] = [
    ("a_service_is_served_on_every_node", service_is_served_on_every_node),
    ("a_slice_that_scales_is_followed", slice_that_scales_is_followed),
    ("a_label_hands_a_service_to_another_proxy", label_hands_a_service_to_another_proxy),
    ("a_node_that_changes_zone_uses_that_zone", node_that_changes_zone_uses_that_zone),
    ("a_node_port_is_served_on_an_address_that_comes_later", node_port_on_a_new_address),
    ("a_deleted_service_is_served_no_more", deleted_service_is_served_no_more),
    ("a_service_of_both_families_is_served_in_both", service_of_both_families_is_served_in_both),
    ("a_node_whose_pod_ranges_come_late_waits_for_them", pod_ranges_that_come_late_are_waited_for),
    ("a_client_certificate_is_enough", credentials::a_client_certificate_is_enough),
    ("a_plugin_is_asked_who_we_are", credentials::a_plugin_is_asked_who_we_are),
    ("a_refusal_is_one_clear_line", refusals::each_is_one_clear_line),
    ("the_manifests_of_deploy_make_a_proxy_on_a_node", deployed::from_nothing),
    ("another_image_in_kubeadms_daemonset_is_all_that_it_takes", deployed::another_image),
    ("the_account_of_its_pod_is_enough", deployed::by_its_account_alone),
    ("health_is_told_and_follows_the_node", telling::health_is_told_and_follows_the_node),
    ("a_health_check_port_tells_who_has_endpoints", telling::a_health_check_port_tells_who_has_endpoints),
    (
        "a_node_that_nobody_registered_is_unfit_and_tells_what_a_kube_proxy_would",
        telling::a_node_that_nobody_registered_is_unfit,
    ),
    ("kube_proxy_and_ours_take_turns_in_iptables_mode", swap::iptables),
    ("kube_proxy_and_ours_take_turns_in_nftables_mode", swap::nftables),
    ("a_burst_of_five_thousand_objects_is_served", burst_is_served),
    ("a_slow_watch_is_followed_through_a_proxy", narrow::slow_watch_is_followed),
    ("a_token_that_expires_is_read_again", credentials::a_token_that_expires_is_read_again),
    ("a_dead_api_server_is_outlived", dead_api_server_is_outlived),
    ("a_cut_connection_is_outlived", cut_connection_is_outlived),
    ("a_server_that_lost_its_memory_is_believed", server_that_lost_its_memory_is_believed),
];

fn service_is_served_on_every_node(cluster: &mut Cluster) {
    let at = create(cluster, "plain", 10, &[1, 2]);
    for node in &cluster.nodes {
        node.until_served_by(at, &[1, 2]);
        assert!(node.log().contains("kernel brought to plan"), "{}", node.log());
    }
}

fn slice_that_scales_is_followed(cluster: &mut Cluster) {
    let at = create(cluster, "scaled", 11, &[1, 2]);
    for pods in [&[1, 2][..], &[2], &[1]] {
        cluster.apply(&slice("scaled", pods));
        cluster.nodes.iter().for_each(|node| node.until_served_by(at, pods));
    }
    cluster.kubectl(&["delete", "endpointslice", "scaled"], "");
    cluster.nodes.iter().for_each(|node| node.until_unserved(at));
}

fn label_hands_a_service_to_another_proxy(cluster: &mut Cluster) {
    let at = create(cluster, "handed-over", 12, &[1]);
    cluster.nodes.iter().for_each(|node| node.until_served_by(at, &[1]));
    let label = "service.kubernetes.io/service-proxy-name";
    cluster.kubectl(&["label", "service", "handed-over", &format!("{label}=")], "");
    cluster.nodes.iter().for_each(|node| node.until_unserved(at));
    cluster.kubectl(&["label", "service", "handed-over", &format!("{label}-")], "");
    cluster.nodes.iter().for_each(|node| node.until_served_by(at, &[1]));
}

fn node_that_changes_zone_uses_that_zone(cluster: &mut Cluster) {
    let at = create(cluster, "zoned", 13, &[]);
    let endpoint = |number: u8| {
        let ip = Node::pod_ip_of(number);
        format!("{{addresses: [{ip}], hints: {{forZones: [{{name: zone-{number}}}]}}}}")
    };
    cluster.apply(&slice_of("zoned", &format!("{}, {}", endpoint(1), endpoint(2))));
    cluster.nodes[0].until_served_by(at, &[1]);
    cluster.nodes[1].until_served_by(at, &[2]);
    let zone = |zone: &str| {
        let label = format!("topology.kubernetes.io/zone={zone}");
        cluster.kubectl(&["label", "--overwrite", "node", "node-1", &label], "");
    };
    zone("zone-2");
    cluster.nodes[0].until_served_by(at, &[2]);
    zone("zone-1");
    cluster.nodes[0].until_served_by(at, &[1]);
}

fn node_port_on_a_new_address(cluster: &mut Cluster) {
    create(cluster, "exposed", 14, &[1]);
    let patch = r#"{"spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}}"#;
    cluster.kubectl(&["patch", "service", "exposed", "--patch", patch], "");
    // The other node's mode serves only the node's own address, unless told otherwise.
    for node in &cluster.nodes[..1] {
        let added = Ipv4Addr::new(172, 19, node.number, 1);
        node.until_served_by(SocketAddr::from((Ipv4Addr::new(172, 18, node.number, 2), 30080)), &[1]);
        let range = format!("{added}/32").parse().expect("an address");
        kernel_io::link::Link::loopback(&node.netns).add_address(range).expect("an address");
        node.until_served_by(SocketAddr::from((added, 30080)), &[1]);
    }
}

fn deleted_service_is_served_no_more(cluster: &mut Cluster) {
    let at = create(cluster, "passing", 15, &[1]);
    cluster.nodes.iter().for_each(|node| node.until_served_by(at, &[1]));
    cluster.kubectl(&["delete", "service", "passing"], "");
    cluster.nodes.iter().for_each(|node| node.until_unserved(at));
}

fn service_of_both_families_is_served_in_both(cluster: &mut Cluster) {
    let ips = ["10.96.1.25", "fd00:96::25"];
    let [at, at6] = ips.map(|ip| SocketAddr::new(ip.parse().expect("an address"), 80));
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: double}},\n\
         spec: {{ipFamilyPolicy: RequireDualStack, clusterIPs: ['{}', '{}'], clusterIP: '{}',\n\
         ports: [{{port: 80, targetPort: {POD_PORT}}}]}}}}\n",
        ips[0], ips[1], ips[0]
    ));
    cluster.apply(&slice("double", &[1, 2]));
    cluster.nodes.iter().for_each(|node| node.until_served_by(at, &[1, 2]));
    cluster.nodes.iter().for_each(|node| node.until_unserved(at6));
    let ipv6 = |pods: &[u8]| {
        let endpoint = |number: &u8| format!("{{addresses: ['{}']}}", Node::pod_ip6_of(*number));
        let endpoints: Vec<String> = pods.iter().map(endpoint).collect();
        let text = slice_of("double", &endpoints.join(", ")).replace("IPv4", "IPv6");
        text.replacen("{name: double,", "{name: double-ipv6,", 1)
    };
    cluster.apply(&ipv6(&[1, 2]));
    cluster.nodes.iter().for_each(|node| node.until_served_by(at6, &[1, 2]));
    cluster.apply(&ipv6(&[2]));
    cluster.nodes.iter().for_each(|node| node.until_served_by(at6, &[2]));
    cluster.nodes.iter().for_each(|node| node.until_served_by(at, &[1, 2]));
    // It gives one of its families up.
    let patch = r#"{"spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"], "clusterIPs": ["10.96.1.25"]}}"#;
    cluster.kubectl(&["patch", "service", "double", "--patch", patch], "");
    cluster.nodes.iter().for_each(|node| node.until_unserved(at6));
    cluster.nodes.iter().for_each(|node| node.until_served_by(at, &[1, 2]));
}

/// Without them local pods cannot be told from the rest, so nothing is written.
fn pod_ranges_that_come_late_are_waited_for(cluster: &mut Cluster) {
    let node = Node::join(cluster, 12);
    let at = create(cluster, "patient", 26, &[1, 2]);
    cluster.apply(&node.first_manifest());
    let mut proxy = cluster.proxy_command_by(&node, "late.conf", "detectLocalMode: NodeCIDR\n");
    proxy.args(["--proxy-mode", "nftables"]);
    let process = node.netns.run(|| spawn(proxy, &cluster.path("late.log"))).expect("entered");
    until("it looks for what there is", || process.log().contains("serving"));
    let list = |arguments: &[&str]| {
        let mut command = Command::new("nft");
        command.args(arguments);
        let output = node.netns.run(|| command.output()).expect("entered").expect("nft starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // By then whatever else it waits for has come.
    let other = create(cluster, "impatient", 27, &[1]);
    cluster.nodes.iter().for_each(|node| node.until_served_by(other, &[1]));
    assert_eq!(list(&["list", "tables"]), "", "{}", process.log());
    cluster.apply(&node.manifest());
    node.until_served_by(at, &[1, 2]);
    let rules = list(&["list", "table", "ip", "fairlead"]);
    assert!(rules.contains("10.244.12.0/24"), "{rules}");
    drop(process);
    cluster.kubectl(&["delete", "node", &node.name], "");
}

fn burst_is_served(cluster: &mut Cluster) {
    const COUNT: u32 = 2500;
    bulk::create(cluster, COUNT, &Node::pod_ip_of(1).to_string());
    let at =
        |number| -> SocketAddr { format!("{}:80", bulk::cluster_ip(number)).parse().expect("an address") };
    let start = Instant::now();
    for node in &cluster.nodes {
        for number in [COUNT - 1, 0, COUNT / 2] {
            node.until_served_by(at(number), &[1]);
        }
        eprintln!("{}: {COUNT} services more after {:?}", node.name, start.elapsed());
    }
    bulk::delete(cluster, COUNT);
    for node in &cluster.nodes {
        node.until_unserved(at(COUNT - 1));
        node.until_unserved(at(0));
    }
}

fn dead_api_server_is_outlived(cluster: &mut Cluster) {
    let at = create(cluster, "steady", 16, &[1, 2]);
    cluster.nodes.iter().for_each(|node| node.until_served_by(at, &[1, 2]));
    cluster.kill_server();
    for node in &cluster.nodes {
        until("the loss is logged", || node.log().contains("cannot be reached, what is known stays"));
        node.until_served_by(at, &[1, 2]);
    }
    cluster.start_server();
    cluster.apply(&slice("steady", &[2]));
    cluster.nodes.iter().for_each(|node| node.until_served_by(at, &[2]));
}

/// Nobody says that the connection is gone; packets are lost in silence, and the change happens meanwhile.
fn cut_connection_is_outlived(cluster: &mut Cluster) {
    let at = create(cluster, "lonely", 17, &[1, 2]);
    cluster.nodes.iter().for_each(|node| node.until_served_by(at, &[1, 2]));
    let cut = |how: &str| {
        let node = "172.18.1.2";
        let server = SERVER.to_string();
        for [chain, from, to] in [["INPUT", node, &server], ["OUTPUT", &server, node]] {
            let mut command = Command::new("iptables");
            command.args([how, chain, "--source", from, "--destination", to, "--jump", "DROP"]);
            command.env("XTABLES_LOCKFILE", cluster.path("server.lock"));
            let status = cluster.netns.run(|| command.status()).expect("entered");
            assert!(status.expect("iptables starts").success());
        }
    };
    let lost = |log: String| log.matches("cannot be reached").count();
    let before = lost(cluster.nodes[0].log());
    cut("--append");
    cluster.apply(&slice("lonely", &[2]));
    cluster.nodes[1].until_served_by(at, &[2]);
    until("the loss is logged", || lost(cluster.nodes[0].log()) > before);
    cluster.nodes[0].until_served_by(at, &[1, 2]);
    cut("--delete");
    cluster.nodes[0].until_served_by(at, &[2]);
}

fn server_that_lost_its_memory_is_believed(cluster: &mut Cluster) {
    let at = create(cluster, "forgotten", 18, &[1]);
    cluster.nodes.iter().for_each(|node| node.until_served_by(at, &[1]));
    cluster.kill_server();
    cluster.wipe_etcd();
    cluster.start_etcd();
    cluster.start_server();
    cluster.nodes.iter().for_each(|node| node.until_unserved(at));
    let at = create(cluster, "remembered", 19, &[2]);
    cluster.nodes.iter().for_each(|node| node.until_served_by(at, &[2]));
}

/// Creates a Service, and its slice of these nodes' pods. Answers where it is served.
pub(crate) fn create(cluster: &Cluster, name: &str, number: u8, pods: &[u8]) -> SocketAddr {
    let ip = Ipv4Addr::new(10, 96, 1, number);
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}},\n\
         spec: {{clusterIP: {ip}, ports: [{{port: 80, targetPort: {POD_PORT}}}]}}}}\n---\n{}",
        slice(name, pods)
    ));
    SocketAddr::from((ip, 80))
}

pub(crate) fn slice(service: &str, pods: &[u8]) -> String {
    let endpoints: Vec<String> =
        pods.iter().map(|number| format!("{{addresses: [{}]}}", Node::pod_ip_of(*number))).collect();
    slice_of(service, &endpoints.join(", "))
}

fn slice_of(service: &str, endpoints: &str) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice,\n\
         metadata: {{name: {service}, labels: {{kubernetes.io/service-name: {service}}}}},\n\
         addressType: IPv4, ports: [{{name: \"\", port: {POD_PORT}}}], endpoints: [{endpoints}]}}\n"
    )
}
