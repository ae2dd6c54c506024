//! What the proxy answers about itself and about Services, asked by real requests.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::neighbour::Neighbour;
use crate::stage::{Running, Stage, until};
use crate::web::{Answer, get, get_with};

const HEALTHZ: u16 = 10256;
const METRICS: u16 = 10249;
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn started(stage: &Stage, mode: &str) -> Running {
    let arguments = ["--proxy-mode", mode, "--hostname-override", "node-1"];
    let proxy = stage.start(stage.proxy_command(&arguments));
    for family in ["IPv4", "IPv6"] {
        proxy.until_log(&format!("pass{{family={family}}}: kernel brought to plan"));
    }
    proxy
}

fn page(stage: &Stage, port: u16, path: &str) -> Answer {
    get(&stage.netns, SocketAddr::new(LOCALHOST, port), path).expect("an answer")
}

/// A balanced Service of both families, asked on this port.
fn balanced(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default}}\n\
         spec: {{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: {port},\n\
           clusterIPs: [10.96.0.1, 'fd00:96::1'], clusterIP: 10.96.0.1, ipFamilies: [IPv4, IPv6],\n\
           ports: [{{name: http, port: 80, nodePort: 30080}}, {{name: https, port: 443, nodePort: 30443}}]}}\n---\n"
    )
}

/// A slice of it: each endpoint by its address and what else is said of it.
fn slice(family: &str, endpoints: &[(&str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web-{}, namespace: default, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: {family}\nports: [{{name: http, port: 8080}}, {{name: https, port: 8443}}]\nendpoints:\n",
        family.to_lowercase()
    );
    for (address, more) in endpoints {
        writeln!(text, "- {{addresses: ['{address}'], {more}}}").expect("a String takes all");
    }
    text + "---\n"
}

const HERE: &str = "nodeName: node-1";
const LEAVING: &str = "nodeName: node-1, conditions: {ready: false, serving: true, terminating: true}";
const ELSEWHERE: &str = "nodeName: node-2";

fn web(port: u16) -> String {
    balanced(port)
        + &slice("IPv4", &[("10.244.0.1", HERE), ("10.244.0.2", HERE), ("10.244.1.3", ELSEWHERE)])
        + &slice("IPv6", &[("fd00:244::1", HERE), ("fd00:244::2", LEAVING)])
}

/// Waits until the port answers so, family by family: how many endpoints are here, or nothing.
fn until_answers(neighbour: &Neighbour, proxy: &Running, port: u16, wanted: [Option<usize>; 2]) {
    let seen = || {
        neighbour.ask(port).map(|answer| {
            let answer = answer.ok()?;
            answer.header("X-Load-Balancing-Endpoint-Weight")?.parse::<usize>().ok()
        })
    };
    until(
        &format!("port {port} tells {wanted:?}"),
        || seen() == wanted,
        || format!("{:?}\n{}", neighbour.ask(port), proxy.log()),
    );
}

fn health_check_ports_follow_the_plan(mode: &str) {
    let stage = Stage::new();
    let neighbour = Neighbour::new(&stage);
    stage.write("web.yaml", &web(31000));
    let proxy = started(&stage, mode);
    until_answers(&neighbour, &proxy, 31000, [Some(2), Some(1)]);
    let [v4, _] = neighbour.ask(31000);
    let v4 = v4.expect("an answer");
    assert_eq!(v4.status, 200);
    assert_eq!(v4.header("Content-Type"), Some("application/json"));
    assert_eq!(v4.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(
        v4.body,
        "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t},\n\
         \t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}"
    );
    // Those that leave still serve, but are told to balancers no more.
    let leaving = balanced(31000) + &slice("IPv4", &[("10.244.0.1", LEAVING), ("10.244.1.3", ELSEWHERE)]);
    stage.write("web.yaml", &leaving);
    until_answers(&neighbour, &proxy, 31000, [Some(0), Some(0)]);
    assert_eq!(neighbour.ask(31000).map(|answer| answer.expect("an answer").status), [503, 503]);
    stage.write("web.yaml", &web(31001));
    until_answers(&neighbour, &proxy, 31001, [Some(2), Some(1)]);
    until_answers(&neighbour, &proxy, 31000, [None, None]);
    stage.remove("web.yaml");
    until_answers(&neighbour, &proxy, 31001, [None, None]);
}

#[test]
fn health_check_ports_follow_the_plan_in_iptables_mode() {
    health_check_ports_follow_the_plan("iptables");
}

#[test]
fn health_check_ports_follow_the_plan_in_nftables_mode() {
    health_check_ports_follow_the_plan("nftables");
}

#[test]
fn health_check_ports_follow_the_plan_in_userspace_mode() {
    health_check_ports_follow_the_plan("userspace");
}

#[test]
fn health_checks_come_through_where_a_host_drops_what_it_does_not_know() {
    let stage = Stage::new();
    let neighbour = Neighbour::new(&stage);
    stage.write("web.yaml", &web(31000));
    let proxy = started(&stage, "iptables");
    for (tool, icmp) in [("iptables", "icmp"), ("ip6tables", "ipv6-icmp")] {
        stage.tool(tool, &["-A", "INPUT", "-p", icmp, "-j", "ACCEPT"], "");
        stage.tool(tool, &["-P", "INPUT", "DROP"], "");
    }
    until_answers(&neighbour, &proxy, 31000, [Some(2), Some(1)]);
    assert!(neighbour.ask(HEALTHZ)[0].is_err(), "everything else is dropped");
}

#[test]
fn health_checks_are_answered_where_node_ports_are_served() {
    let stage = Stage::new();
    let neighbour = Neighbour::new(&stage);
    stage.write("web.yaml", &web(31000));
    let arguments = ["--hostname-override", "node-1", "--nodeport-addresses", "192.0.2.0/24,127.0.0.0/8"];
    let proxy = stage.start(stage.proxy_command(&arguments));
    until_answers(&neighbour, &proxy, 31000, [Some(2), Some(1)]);
    let from_here = |ip: &str| get(&stage.netns, format!("{ip}:31000").parse().expect("an address"), "/");
    assert_eq!(from_here("127.0.0.1").map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionRefused));
    assert_eq!(
        from_here("[::1]").expect("an answer").status,
        200,
        "a family without a range is served everywhere"
    );
    assert_eq!(from_here("192.0.2.1").expect("an answer").status, 200);
}

#[test]
fn a_health_check_port_that_is_taken_is_reported_once_and_tried_again() {
    let stage = Stage::new();
    let neighbour = Neighbour::new(&stage);
    let taken = taken(&stage, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 31000)));
    stage.write("web.yaml", &web(31000));
    let proxy = started(&stage, "iptables");
    proxy.until_log(
        "its health check port cannot be opened; it is tried again service=default/web family=IPv4",
    );
    until(
        "IPv6 is served all the same",
        || neighbour.ask(31000)[1].as_ref().is_ok_and(|answer| answer.status == 200),
        || proxy.log(),
    );
    drop(taken);
    until_answers(&neighbour, &proxy, 31000, [Some(2), Some(1)]);
    assert_eq!(proxy.log().matches("cannot be opened").count(), 1, "{}", proxy.log());
}

fn taken(stage: &Stage, at: SocketAddr) -> TcpListener {
    stage.netns.run(|| TcpListener::bind(at)).expect("entered").expect("a free port")
}

#[test]
fn an_address_that_is_taken_is_tried_again_until_it_is_free() {
    let stage = Stage::new();
    let at = SocketAddr::from((Ipv6Addr::UNSPECIFIED, HEALTHZ));
    let listener = taken(&stage, at);
    let proxy = started(&stage, "nftables");
    proxy.until_log("cannot be served there yet; it is tried again what=healthz");
    assert_eq!(page(&stage, METRICS, "/healthz").status, 200, "the other one is served");
    drop(listener);
    proxy.until_log("served what=healthz");
    for ip in [LOCALHOST, Ipv6Addr::LOCALHOST.into()] {
        let answer = get(&stage.netns, SocketAddr::new(ip, HEALTHZ), "/livez").expect("an answer");
        assert_eq!(answer.status, 200, "{ip}");
    }
}

#[test]
fn a_node_that_leaves_is_unfit_and_one_that_is_cordoned_is_not() {
    let stage = Stage::new();
    let proxy = started(&stage, "nftables");
    let node = |more: &str| {
        format!("{{apiVersion: v1, kind: Node, metadata: {{name: node-1}}, spec: {{{more}}}}}\n")
    };
    let until_healthz = |status: u16| {
        let ask = || page(&stage, HEALTHZ, "/healthz");
        until(
            &format!("healthz is {status}"),
            || ask().status == status,
            || format!("{:?}\n{}", ask(), proxy.log()),
        );
    };
    until_healthz(200);
    stage.write("node.yaml", &node("taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]"));
    until_healthz(503);
    let body = page(&stage, HEALTHZ, "/healthz").body;
    assert!(body.contains("\"nodeEligible\":false,\"healthy\":true"), "{body}");
    assert_eq!(page(&stage, HEALTHZ, "/livez").status, 200);
    stage.remove("node.yaml");
    proxy.until_log("serving");
    stage.write("node.yaml", &node("unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable}]"));
    until_healthz(200);
    let body = page(&stage, HEALTHZ, "/healthz").body;
    assert!(body.contains("\"status\":{\"IPv4\":{\"lastUpdated\":\""), "{body}");
}

#[test]
fn prometheus_reads_the_metrics_of_every_mode() {
    for mode in ["iptables", "nftables", "userspace"] {
        let stage = Stage::new();
        let elsewhere = balanced(31000) + &slice("IPv4", &[("10.244.1.3", ELSEWHERE)]);
        stage.write("web.yaml", &elsewhere);
        let _proxy = started(&stage, mode);
        page(&stage, HEALTHZ, "/healthz");
        page(&stage, HEALTHZ, "/livez");
        let metrics = page(&stage, METRICS, "/metrics").body;
        for (name, value) in [
            ("kubeproxy_proxy_healthz_total{code=\"200\"}", "1"),
            ("kubeproxy_sync_proxy_rules_service_changes_total", "2"),
            ("kubeproxy_sync_proxy_rules_service_changes_pending", "0"),
            (
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"external\"}",
                "2",
            ),
        ] {
            assert!(metrics.contains(&format!("{name} {value}\n")), "{mode}: {name} is {value} in {metrics}");
        }
        // They are gauges with a counter's name, as upstream's are.
        let complaint = "non-counter metrics should not have \"_total\" suffix";
        let mut expected = vec![format!("kubeproxy_sync_proxy_rules_no_local_endpoints_total {complaint}")];
        if mode != "nftables" {
            expected.insert(0, format!("kubeproxy_sync_proxy_rules_iptables_total {complaint}"));
        }
        assert_eq!(complaints(&metrics), expected, "{mode}: {metrics}");
    }
}

/// What promtool complains of.
fn complaints(metrics: &str) -> Vec<String> {
    let mut command = Command::new(testkit::debian::unpacked("prometheus").join("usr/bin/promtool"));
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = command.spawn().expect("promtool starts");
    let mut input = promtool.stdin.take().expect("a pipe");
    io::Write::write_all(&mut input, metrics.as_bytes()).expect("it reads");
    drop(input);
    let output = promtool.wait_with_output().expect("it ends");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr).expect("text");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_metrics_port_tells_of_the_process() {
    let stage = Stage::new();
    let _proxy = started(&stage, "nftables");
    assert_eq!(page(&stage, METRICS, "/proxyMode").body, "nftables");
    assert_eq!(page(&stage, METRICS, "/nothing").status, 404);
    let statusz = page(&stage, METRICS, "/statusz").body;
    assert!(statusz.contains("Paths: /configz /flagz /healthz /metrics /proxyMode"), "{statusz}");
    let accept = "Accept: application/json;as=Statusz;v=v1beta1;g=config.k8s.io\r\n";
    let at = SocketAddr::new(LOCALHOST, METRICS);
    let answer = get_with(&stage.netns, at, "/statusz", accept).expect("an answer");
    assert!(answer.body.contains("\"kind\": \"Statusz\""), "{answer:?}");
    assert!(get(&stage.netns, SocketAddr::new(Ipv6Addr::LOCALHOST.into(), METRICS), "/metrics").is_err());
}

#[test]
fn the_ports_are_where_the_flags_put_them() {
    let stage = Stage::new();
    let flags = [
        "--healthz-bind-address=127.0.0.1:20256",
        "--metrics-bind-address=[::1]:20249",
        "--profiling",
        "--nodeport-addresses=192.0.2.0/24,2001:db8::/64",
        "--proxy-mode=nftables",
    ];
    let proxy = stage.start(stage.proxy_command(&flags));
    proxy.until_log("served what=metrics at=[::1]:20249");
    assert_eq!(page(&stage, 20256, "/livez").status, 200);
    assert!(get(&stage.netns, SocketAddr::new(LOCALHOST, HEALTHZ), "/livez").is_err());
    let ask = |path: &str| {
        get(&stage.netns, SocketAddr::from((Ipv6Addr::LOCALHOST, 20249)), path).expect("an answer")
    };
    let refused = ask("/debug/pprof/");
    assert_eq!((refused.status, refused.body.contains("perf(1)")), (501, true));
    let configuration: Value = serde_json::from_str(&ask("/configz").body).expect("JSON");
    let configuration = &configuration["kubeproxy.config.k8s.io"];
    assert_eq!(configuration["kind"], "KubeProxyConfiguration");
    assert_eq!(configuration["mode"], "nftables");
    assert_eq!(configuration["metricsBindAddress"], "[::1]:20249");
    let flagz = ask("/flagz").body;
    for line in ["nodeport-addresses: [192.0.2.0/24,2001:db8::/64]", "profiling: true", "oom-score-adj: -999"]
    {
        assert!(flagz.lines().any(|other| other == line), "{line} in {flagz}");
    }
}

#[test]
fn without_a_health_port_the_checks_of_services_are_answered_all_the_same() {
    let stage = Stage::new();
    let neighbour = Neighbour::new(&stage);
    stage.write("web.yaml", &web(31000));
    let proxy = stage.start(stage.proxy_command(&["--healthz-port=0", "--hostname-override=node-1"]));
    until_answers(&neighbour, &proxy, 31000, [Some(2), Some(1)]);
    assert!(get(&stage.netns, SocketAddr::new(LOCALHOST, HEALTHZ), "/healthz").is_err());
}

#[test]
fn an_address_that_must_be_free_and_is_not_ends_the_process() {
    let stage = Stage::new();
    let _listener = taken(&stage, SocketAddr::new(LOCALHOST, METRICS));
    let ended = stage.proxy(&["--bind-address-hard-fail", "--proxy-mode=nftables"]);
    assert_eq!(ended.status.code(), Some(1), "{ended:#?}");
    ended.line_with(&["cannot serve metrics at 127.0.0.1:10249: Address already in use"]);
}
