//! What the proxy counts: upstream's metrics under upstream's names, and ours.
//!
//! `docs/metrics.md` lists them; a test holds it to what is here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};
use service_plan::Family;
use service_watch::Exchange;

use crate::modes::ProxyMode;
use process::Process;
use rest_client::RestClient;

mod family;
mod process;
mod rest_client;

pub(crate) use family::FamilyMetrics;

/// All of them.
pub(crate) struct Metrics {
    registry: Registry,
    process: Process,
    pub(crate) endpoint_changes: IntCounter,
    pub(crate) endpoint_changes_pending: IntGauge,
    pub(crate) service_changes: IntCounter,
    pub(crate) service_changes_pending: IntGauge,
    healthz: IntCounterVec,
    livez: IntCounterVec,
    synced: Synced,
    written: Written,
    tracked: Tracked,
    rest_client: RestClient,
    localhost: Localhost,
}

/// What is told of passes, by family.
struct Synced {
    duration: HistogramVec,
    full_duration: HistogramVec,
    partial_duration: HistogramVec,
    programming: HistogramVec,
    last: GaugeVec,
    last_queued: GaugeVec,
    planning: HistogramVec,
    no_local_endpoints: IntGaugeVec,
    restore_failures: IntCounterVec,
    partial_restore_failures: IntCounterVec,
    nftables_failures: IntCounterVec,
    rules: IntGaugeVec,
    rules_written: IntGaugeVec,
}

/// What is told of the kernel, by family. These are ours.
struct Written {
    changes: IntCounterVec,
    bytes: IntCounterVec,
    kernel_time: CounterVec,
    drift: IntCounterVec,
    refusals: IntCounterVec,
}

/// What is told of the connection tracker, by family.
struct Tracked {
    duration: HistogramVec,
    deleted: IntCounterVec,
}

/// What is told of node ports on localhost, by family.
struct Localhost {
    listeners: IntGaugeVec,
    failures: IntCounterVec,
}

const FAMILY: &[&str] = &["ip_family"];

impl Metrics {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let add = &registry;
        let build =
            int_gauges(add, "fairlead_build_info", "The version of this process; always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let changes = |kind: &str| {
            let name = |end: &str| format!("kubeproxy_sync_proxy_rules_{kind}_changes_{end}");
            let total = IntCounter::new(name("total"), format!("Changes of {kind}s that were taken in."));
            let pending =
                IntGauge::new(name("pending"), format!("Changes of {kind}s that are not written yet."));
            (registered(add, total), registered(add, pending))
        };
        let (endpoint_changes, endpoint_changes_pending) = changes("endpoint");
        let (service_changes, service_changes_pending) = changes("service");
        Self {
            process: Process::new(add),
            endpoint_changes,
            endpoint_changes_pending,
            service_changes,
            service_changes_pending,
            healthz: counters(
                add,
                "kubeproxy_proxy_healthz_total",
                "Answers of /healthz, by their code.",
                &["code"],
            ),
            livez: counters(
                add,
                "kubeproxy_proxy_livez_total",
                "Answers of /livez, by their code.",
                &["code"],
            ),
            synced: Synced::new(add),
            written: Written::new(add),
            tracked: Tracked::new(add),
            rest_client: RestClient::new(add),
            localhost: Localhost::new(add),
            registry,
        }
    }

    /// What is counted for one family of a mode; what only other modes count is not there.
    pub(crate) fn family(&self, mode: ProxyMode, family: Family) -> FamilyMetrics {
        FamilyMetrics::new(self, mode, family)
    }

    /// /healthz or /livez was answered.
    pub(crate) fn answered(&self, question: crate::health::Question, code: u16) {
        let counters = match question {
            crate::health::Question::Node => &self.healthz,
            crate::health::Question::Proxy => &self.livez,
        };
        counters.with_label_values(&[code.to_string()]).inc();
    }

    /// Something happened between us and the API server at this host.
    pub(crate) fn exchanged(&self, host: &str, exchange: &Exchange) {
        self.rest_client.count(host, exchange);
    }

    /// Has somebody else's metrics shown beside these.
    pub(crate) fn add(&self, collector: Box<dyn Collector>) {
        self.registry.register(collector).expect("a name of its own");
    }

    /// All that was counted, in the text format.
    pub(crate) fn text(&self) -> Vec<u8> {
        self.process.look();
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("a Vec takes all bytes");
        text
    }
}

impl Synced {
    fn new(add: &Registry) -> Self {
        let duration = |name: &str, help: &str| {
            histograms(add, &format!("kubeproxy_{name}_duration_seconds"), help, durations())
        };
        let counters = |name: &str, help: &str| {
            counters(add, &format!("kubeproxy_sync_proxy_rules_{name}_total"), help, FAMILY)
        };
        let rules = |name: &str, help: &str| {
            int_gauges(
                add,
                &format!("kubeproxy_sync_proxy_rules_iptables_{name}"),
                help,
                &["table", "ip_family"],
            )
        };
        let times = |name: &str, help: &str| {
            let name = format!("kubeproxy_sync_proxy_rules_{name}_timestamp_seconds");
            registered(add, GaugeVec::new(Opts::new(name, help), FAMILY))
        };
        Self {
            duration: duration("sync_proxy_rules", "How long a pass took."),
            full_duration: duration(
                "sync_full_proxy_rules",
                "How long a pass took that read the kernel first.",
            ),
            partial_duration: duration(
                "sync_partial_proxy_rules",
                "How long a pass took that wrote changes alone.",
            ),
            programming: histograms(
                add,
                "kubeproxy_network_programming_duration_seconds",
                "From the change of a pod or Service until the kernel has it.",
                programming_buckets(),
            ),
            last: times("last", "When the kernel was last as planned."),
            last_queued: times("last_queued", "When something was last to be written."),
            planning: histograms(
                add,
                "fairlead_planning_duration_seconds",
                "From the arrival of a change until it is planned.",
                planning_buckets(),
            ),
            no_local_endpoints: int_gauges(
                add,
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Service ports with a Local policy and endpoints, but none on this node.",
                &["traffic_policy", "ip_family"],
            ),
            restore_failures: counters("iptables_restore_failures", "Passes whose rules were refused."),
            partial_restore_failures: counters(
                "iptables_partial_restore_failures",
                "Passes whose rules were refused, and that therefore read the kernel.",
            ),
            nftables_failures: counters("nftables_sync_failures", "Transactions that were refused."),
            rules: rules("total", "Rules of ours that there are."),
            rules_written: rules("last", "Rules that the last pass wrote."),
        }
    }
}

impl Written {
    fn new(add: &Registry) -> Self {
        Self {
            changes: counters(
                add,
                "fairlead_changes_written_total",
                "Objects put into the kernel or dropped from it.",
                &["ip_family", "change"],
            ),
            bytes: counters(
                add,
                "fairlead_written_bytes_total",
                "Bytes given to the kernel or its tools.",
                FAMILY,
            ),
            kernel_time: registered(
                add,
                CounterVec::new(
                    Opts::new("fairlead_kernel_seconds_total", "Time spent reading and writing the kernel."),
                    &["ip_family", "work"],
                ),
            ),
            drift: counters(
                add,
                "fairlead_drift_found_total",
                "How often a stranger may have changed what is ours.",
                FAMILY,
            ),
            refusals: counters(
                add,
                "fairlead_refused_changes_total",
                "Changes that the kernel refused.",
                FAMILY,
            ),
        }
    }
}

impl Tracked {
    fn new(add: &Registry) -> Self {
        const NAME: &str = "kubeproxy_conntrack_reconciler";
        let duration = format!("{NAME}_sync_duration_seconds");
        Self {
            duration: histograms(add, &duration, "How long it took to forget stale flows.", durations()),
            deleted: counters(
                add,
                &format!("{NAME}_deleted_entries_total"),
                "Stale flows that are forgotten.",
                FAMILY,
            ),
        }
    }
}

impl Localhost {
    fn new(add: &Registry) -> Self {
        const NAME: &str = "kubeproxy_nftables_localhost_nodeport_listener";
        Self {
            listeners: int_gauges(
                add,
                &format!("{NAME}s"),
                "Node ports that are served on localhost.",
                FAMILY,
            ),
            failures: counters(
                add,
                &format!("{NAME}_creation_failures_total"),
                "How often a node port could not be served on localhost, since it is taken there.",
                FAMILY,
            ),
        }
    }
}

/// Upstream's: a millisecond, and then always twice as much.
fn durations() -> Vec<f64> {
    exponential_buckets(0.001, 2.0, 15).expect("growing buckets")
}

/// From what one change takes, finely up to the millisecond that it may take, to what thousands at once do.
fn planning_buckets() -> Vec<f64> {
    let microseconds = [25, 50, 75, 100, 150, 200, 300, 400, 500, 700, 1000, 1500, 2000, 5000];
    let later = [10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000];
    microseconds.into_iter().chain(later).map(|microseconds| f64::from(microseconds) / 1e6).collect()
}

/// Upstream's: a quarter, a half, each second of the first minute, then coarser up to five minutes.
fn programming_buckets() -> Vec<f64> {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    [0.25, 0.5].into_iter().chain(seconds.map(f64::from)).collect()
}

fn counters(add: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(add, IntCounterVec::new(Opts::new(name, help), labels))
}

fn int_gauges(add: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(add, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn histograms(add: &Registry, name: &str, help: &str, buckets: Vec<f64>) -> HistogramVec {
    registered(add, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), FAMILY))
}

fn registered<T: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<T>) -> T {
    let metric = metric.expect("a name and labels as the format has them");
    registry.register(Box::new(metric.clone())).expect("a name of its own");
    metric
}

/// A time as metrics have it.
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

#[cfg(test)]
mod tests;
