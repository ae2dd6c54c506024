//! Names, types, labels and buckets, as Prometheus reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use hyper::Method;
use service_plan::Family;
use service_watch::Exchange;

use super::Metrics;
use crate::health::Question;
use crate::localhost::LocalhostPass;
use crate::modes::ProxyMode;
use crate::reconciler::{Extent, Failures, Pass, Rules, Spent};
use crate::relaying;

/// Everything that any mode ever shows.
fn everything() -> String {
    let metrics = Metrics::new();
    for mode in ProxyMode::ALL {
        for family in Family::BOTH {
            let family = metrics.family(mode, family);
            family.passed(&pass(Extent::Full), Duration::from_millis(3));
            family.passed(&pass(Extent::Partial), Duration::from_millis(3));
            family.queued(Some(Instant::now()));
            family.programmed(SystemTime::now());
        }
    }
    let (method, status, took) = (Method::GET, Some(200), Duration::from_millis(30));
    metrics.exchanged("10.0.0.1:6443", &Exchange::Answered { method: method.clone(), status });
    metrics.exchanged("10.0.0.1:6443", &Exchange::Answered { method: Method::POST, status: None });
    metrics.exchanged("10.0.0.1:6443", &Exchange::Read { method, took, sent: 0, received: 300 });
    metrics.answered(Question::Node, 503);
    metrics.answered(Question::Proxy, 200);
    metrics.add(relaying::troubles(relay::Counts::default().into()));
    String::from_utf8(metrics.text()).expect("text")
}

fn pass(extent: Extent) -> Pass {
    Pass {
        puts: 2,
        drops: 1,
        extent,
        spent: Spent { bytes: 100, reading: Duration::from_secs(1), writing: Duration::from_secs(2) },
        failures: Failures { partial: 1, full: 0 },
        localhost: Some(LocalhostPass { open: 2, refused: 1 }),
        rules: BTreeMap::from([("nat", Rules { there: 7, written: 3 })]),
        ..Pass::default()
    }
}

fn lines_of<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

fn bounds(text: &str, metric: &str) -> String {
    let start = format!("{metric}_bucket{{ip_family=\"IPv4\",le=\"");
    let bounds =
        lines_of(text, &start).into_iter().map(|line| line[start.len()..].split('"').next().unwrap());
    bounds.collect::<Vec<_>>().join(" ")
}

#[test]
fn buckets_are_upstreams() {
    let text = everything();
    for kind in ["", "_full", "_partial"] {
        assert_eq!(
            bounds(&text, &format!("kubeproxy_sync{kind}_proxy_rules_duration_seconds")),
            "0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192 16.384 +Inf"
        );
    }
    let seconds: Vec<String> = (1..60).map(|second| second.to_string()).collect();
    assert_eq!(
        bounds(&text, "kubeproxy_network_programming_duration_seconds"),
        format!(
            "0.25 0.5 {} 60 65 70 75 80 85 90 95 100 105 110 115 120 150 180 210 240 270 300 +Inf",
            seconds.join(" ")
        )
    );
}

#[test]
fn the_document_lists_exactly_what_there_is() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let document = std::fs::read_to_string(document).expect("docs/metrics.md");
    let rows: BTreeSet<(String, String, String)> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let mut cells = row.split('|').map(|cell| cell.trim().replace('`', ""));
            let mut cell = || cells.next().unwrap_or_default();
            (cell(), cell(), cell())
        })
        .collect();
    let text = everything();
    let there: BTreeSet<(String, String, String)> = lines_of(&text, "# TYPE ")
        .into_iter()
        .map(|line| {
            let (name, kind) = line["# TYPE ".len()..].split_once(' ').expect("a name and a type");
            (name.to_owned(), kind.to_owned(), labels(&text, name))
        })
        .collect();
    assert_eq!(rows, there);
}

/// The names of a metric's labels, without those that its type brings.
fn labels(text: &str, name: &str) -> String {
    let is_of = |line: &&str| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with('{') || rest.starts_with("_bucket{")
    };
    let Some(line) = text.lines().find(is_of) else { return String::new() };
    let (_, rest) = line.split_once('{').expect("labels");
    let names = rest.split('"').step_by(2).filter_map(|part| part.trim_matches(',').strip_suffix('='));
    names.filter(|name| *name != "le").collect::<Vec<_>>().join(", ")
}

#[test]
fn requests_to_the_api_server_are_counted_as_client_go_does() {
    let text = everything();
    for line in [
        r#"rest_client_requests_total{code="200",host="10.0.0.1:6443",method="GET"} 1"#,
        r#"rest_client_requests_total{code="<error>",host="10.0.0.1:6443",method="POST"} 1"#,
        r#"rest_client_request_duration_seconds_bucket{host="10.0.0.1:6443",verb="GET",le="0.025"} 0"#,
        r#"rest_client_request_duration_seconds_bucket{host="10.0.0.1:6443",verb="GET",le="0.1"} 1"#,
        r#"rest_client_response_size_bytes_bucket{host="10.0.0.1:6443",verb="GET",le="256"} 0"#,
        r#"rest_client_response_size_bytes_bucket{host="10.0.0.1:6443",verb="GET",le="512"} 1"#,
        r#"rest_client_request_size_bytes_bucket{host="10.0.0.1:6443",verb="GET",le="64"} 1"#,
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
    }
}

#[test]
fn what_only_other_modes_count_is_not_shown() {
    let metrics = Metrics::new();
    metrics.family(ProxyMode::Nftables, Family::V4).passed(&pass(Extent::Partial), Duration::ZERO);
    let text = String::from_utf8(metrics.text()).expect("text");
    assert!(text.contains("kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 1\n"));
    assert!(!text.contains("iptables_restore_failures"), "{text}");
    assert!(!text.contains("kubeproxy_proxy_healthz_total"), "nobody asked yet");
}

#[test]
fn in_iptables_mode_a_partial_failure_is_told_from_a_whole_one() {
    let metrics = Metrics::new();
    let family = metrics.family(ProxyMode::Iptables, Family::V6);
    family.passed(&pass(Extent::Partial), Duration::ZERO);
    let text = String::from_utf8(metrics.text()).expect("text");
    let counts = |name: &str, labels: &str, value: &str| {
        let line = format!("kubeproxy_sync_proxy_rules_iptables_{name}{{{labels}}} {value}\n");
        assert!(text.contains(&line), "{line} in {text}");
    };
    counts("partial_restore_failures_total", "ip_family=\"IPv6\"", "1");
    counts("restore_failures_total", "ip_family=\"IPv6\"", "0");
    counts("total", "ip_family=\"IPv6\",table=\"nat\"", "7");
    counts("last", "ip_family=\"IPv6\",table=\"nat\"", "3");
}

#[test]
fn the_process_is_known() {
    let text = everything();
    let value = |name: &str| -> f64 {
        let line = lines_of(&text, &format!("{name} "));
        line[0].rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    };
    let now = super::seconds(SystemTime::now());
    let started = value("process_start_time_seconds");
    assert!(started <= now && started > now - 24.0 * 3600.0, "{started}, and now it is {now}");
    assert!(value("process_resident_memory_bytes") > 100_000.0);
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
}
