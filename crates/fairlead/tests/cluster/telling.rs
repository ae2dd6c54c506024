//! What the proxies of a cluster tell: health to balancers, metrics to Prometheus, events to users.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use crate::cluster::{Cluster, Process, spawn, until};
use crate::node::{Node, POD_PORT};
use crate::web::{Answer, get};

const HEALTHZ: u16 = 10256;
const METRICS: u16 = 10249;

pub(crate) fn health_is_told_and_follows_the_node(cluster: &mut Cluster) {
    for node in &cluster.nodes {
        until_fit(node, 200);
        let events = events_of(cluster, "Node", &node.name);
        assert!(events.contains(&"Normal Starting StartKubeProxy kube-proxy".to_owned()), "{events:?}");
    }
    let (first, second) = (&cluster.nodes[0], &cluster.nodes[1]);
    let taint = "ToBeDeletedByClusterAutoscaler";
    cluster.kubectl(&["taint", "node", &second.name, &format!("{taint}=1:NoSchedule")], "");
    until_fit(second, 503);
    assert_eq!(ask(second, HEALTHZ, "/livez").status, 200);
    assert_eq!(ask(first, HEALTHZ, "/healthz").status, 200, "the other one stays");
    cluster.kubectl(&["taint", "node", &second.name, &format!("{taint}-")], "");
    until_fit(second, 200);
    cluster.kubectl(&["cordon", &second.name], "");
    cluster.kubectl(&["delete", "node", &second.name], "");
    until("the loss of the Node is logged", || second.log().contains("the Node object is gone"));
    assert_eq!(ask(second, HEALTHZ, "/healthz").status, 200, "its last word counts");
    cluster.apply(&second.manifest());
}

pub(crate) fn a_node_that_nobody_registered_is_unfit(cluster: &mut Cluster) {
    let node = Node::join(cluster, 3);
    let mut proxy = cluster.proxy_command(&node);
    proxy.args(["--proxy-mode", "nftables"]);
    let process = node.netns.run(|| spawn(proxy, &cluster.path("node-3.log"))).expect("entered");
    until("it lives", || answers(&node, HEALTHZ, "/livez").is_some_and(|answer| answer.status == 200));
    assert_eq!(ask(&node, HEALTHZ, "/healthz").status, 503, "{}", process.log());
    cluster.apply(&node.manifest());
    until_fit(&node, 200);
    drop(process);
    // A kube-proxy in its place tells the same, by the same names.
    for mode in ["iptables", "nftables"] {
        let ours = {
            let mut proxy = cluster.proxy_command(&node);
            proxy.args(["--proxy-mode", mode]);
            shown(cluster, &node, proxy)
        };
        let theirs = shown(cluster, &node, kube_proxy(cluster, &node, mode));
        compare(&ours, &theirs);
    }
    cluster.kubectl(&["delete", "node", &node.name], "");
}

pub(crate) fn a_health_check_port_tells_who_has_endpoints(cluster: &mut Cluster) {
    let taken_at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 31555));
    let bind = || TcpListener::bind(taken_at);
    let taken = cluster.nodes[1].netns.run(bind).expect("entered").expect("a free port");
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: balanced}},\n\
         spec: {{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31555, clusterIP: 10.96.1.30,\n\
         ports: [{{port: 80, targetPort: {POD_PORT}}}]}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice,\n\
         metadata: {{name: balanced, labels: {{kubernetes.io/service-name: balanced}},\n\
         annotations: {{endpoints.kubernetes.io/last-change-trigger-time: '{}'}}}},\n\
         addressType: IPv4, ports: [{{name: \"\", port: {POD_PORT}}}],\n\
         endpoints: [{{addresses: [{}], nodeName: node-1}}]}}\n",
        now(),
        Node::pod_ip_of(1)
    ));
    let told = |node: &Node| {
        let at = SocketAddr::from((Ipv4Addr::new(172, 18, node.number, 2), 31555));
        let answer = get(&cluster.netns, at, "/").ok()?;
        Some((answer.status, answer.header("X-Load-Balancing-Endpoint-Weight")?.to_owned()))
    };
    let (first, second) = (&cluster.nodes[0], &cluster.nodes[1]);
    until("the node with a pod is told of", || told(first) == Some((200, "1".to_owned())));
    let failed = "Warning FailedToStartServiceHealthcheck Listen kube-proxy";
    until("the port that is taken is an event", || {
        events_of(cluster, "Service", "balanced").contains(&failed.to_owned())
    });
    drop(taken);
    until("the other node is told of", || told(second) == Some((503, "0".to_owned())));
    let programmed = "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} ";
    let metrics = ask(first, METRICS, "/metrics").body;
    let count = metrics.lines().find_map(|line| line.strip_prefix(programmed)?.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count >= 1), "{metrics}");
    cluster.kubectl(&["delete", "service,endpointslice", "balanced"], "");
    until("the port is closed", || told(first).is_none() && told(second).is_none());
}

fn ask(node: &Node, port: u16, path: &str) -> Answer {
    answers(node, port, path).expect("an answer")
}

fn answers(node: &Node, port: u16, path: &str) -> Option<Answer> {
    get(&node.netns, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port), path).ok()
}

fn until_fit(node: &Node, status: u16) {
    let is_so = || answers(node, HEALTHZ, "/healthz").is_some_and(|answer| answer.status == status);
    until(&format!("healthz of {} is {status}", node.name), is_so);
}

/// Type, reason, action and reporter of what was told of an object.
fn events_of(cluster: &Cluster, kind: &str, name: &str) -> Vec<String> {
    let fields = "{.type} {.reason} {.action} {.reportingController}{\"\\n\"}";
    let path = format!(
        "jsonpath={{range .items[?(@.regarding.kind==\"{kind}\")]}}{{.regarding.name}} {fields}{{end}}"
    );
    let all = cluster.kubectl(&["get", "events.events.k8s.io", "--output", &path], "");
    let of = format!("{name} ");
    all.lines().filter_map(|line| line.strip_prefix(&of)).map(str::to_owned).collect()
}

/// As the endpoint slice controller writes it.
fn now() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).output().expect("date runs");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn kube_proxy(cluster: &Cluster, node: &Node, mode: &str) -> Command {
    let mut proxy = cluster.assets.command("kube-proxy");
    proxy.arg("--kubeconfig").arg(cluster.path("proxy.kubeconfig"));
    proxy.args(["--hostname-override", &node.name, "--proxy-mode", mode, "--cluster-cidr", "10.244.0.0/16"]);
    // Of a namespace the machine's own limits are none of its business.
    proxy.args(["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"]);
    proxy.args(["--conntrack-tcp-timeout-close-wait=0"]).stdin(Stdio::null());
    proxy.env("XTABLES_LOCKFILE", cluster.path(&format!("{}.lock", node.name)));
    proxy
}

/// What a proxy shows of itself once it has written both families.
fn shown(cluster: &Cluster, node: &Node, command: Command) -> String {
    let run = || spawn(command, &cluster.path(&format!("{}-metrics.log", node.name)));
    let process: Process = node.netns.run(run).expect("entered");
    let mut text = String::new();
    until("both families are written", || {
        answers(node, HEALTHZ, "/livez");
        answers(node, HEALTHZ, "/healthz");
        text = answers(node, METRICS, "/metrics").map(|answer| answer.body).unwrap_or_default();
        ["IPv4", "IPv6"].iter().all(|family| {
            text.contains(&format!(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds{{ip_family=\"{family}\"}}"
            )) && !text.contains(&format!("last_timestamp_seconds{{ip_family=\"{family}\"}} 0\n"))
        })
    });
    drop(process);
    text
}

/// The samples of kube-proxy's own metrics, by name and labels, and the type of each.
fn samples(text: &str) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types = types.filter(|(name, _)| name.starts_with("kubeproxy_"));
    let types = types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
    let samples = text.lines().filter(|line| line.starts_with("kubeproxy_"));
    (samples.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name.to_owned()).collect(), types)
}

/// Whatever kube-proxy shows we show, under the same name, labels and buckets, and as the same type.
fn compare(ours: &str, theirs: &str) {
    // They count packets of nfacct, which we do not use.
    let is_nfacct = |name: &str| name.starts_with("kubeproxy_iptables_");
    let ((ours, our_types), (theirs, their_types)) = (samples(ours), samples(theirs));
    let missing: Vec<_> = theirs.difference(&ours).filter(|name| !is_nfacct(name)).collect();
    assert!(theirs.len() > 60 && missing.is_empty(), "{missing:#?}");
    for (name, kind) in their_types.iter().filter(|(name, _)| !is_nfacct(name)) {
        assert_eq!(our_types.get(name), Some(kind), "{name}");
    }
}
