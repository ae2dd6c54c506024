//! What is counted for one IP family.

use std::time::{Duration, Instant, SystemTime};

use prometheus::{Counter, Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use service_plan::Family;

use super::{Metrics, seconds};
use crate::modes::ProxyMode;
use crate::reconciler::{Extent, Failures, Pass};

/// One family's own.
pub(crate) struct FamilyMetrics {
    family: String,
    duration: Histogram,
    full_duration: Histogram,
    /// The modes that write whole tables or only changes tell them apart.
    partial_duration: Option<Histogram>,
    programming: Histogram,
    last: Gauge,
    last_queued: Gauge,
    planning: Histogram,
    pub(crate) no_local_endpoints_internal: IntGauge,
    pub(crate) no_local_endpoints_external: IntGauge,
    failures: Option<IntCounter>,
    partial_failures: Option<IntCounter>,
    rules: IntGaugeVec,
    rules_written: IntGaugeVec,
    puts: IntCounter,
    drops: IntCounter,
    bytes: IntCounter,
    read_time: Counter,
    write_time: Counter,
    drift: IntCounter,
    refusals: IntCounter,
    forgetting: Histogram,
    forgotten: IntCounter,
    localhost_listeners: IntGaugeVec,
    localhost_failures: IntCounterVec,
}

impl FamilyMetrics {
    pub(super) fn new(all: &Metrics, mode: ProxyMode, family: Family) -> Self {
        let Metrics { synced, written, tracked, localhost, .. } = all;
        let name = family.to_string();
        let of = &[name.as_str()];
        let failures = match mode {
            ProxyMode::Iptables | ProxyMode::Ipvs => Some(&synced.restore_failures),
            ProxyMode::Nftables => Some(&synced.nftables_failures),
            ProxyMode::Userspace => None,
        };
        let partial = (mode == ProxyMode::Iptables).then_some(&synced.partial_restore_failures);
        let tells_parts = matches!(mode, ProxyMode::Iptables | ProxyMode::Nftables);
        let no_local = |policy: &str| synced.no_local_endpoints.with_label_values(&[policy, name.as_str()]);
        Self {
            duration: synced.duration.with_label_values(of),
            full_duration: synced.full_duration.with_label_values(of),
            partial_duration: tells_parts.then(|| synced.partial_duration.with_label_values(of)),
            programming: synced.programming.with_label_values(of),
            last: synced.last.with_label_values(of),
            last_queued: synced.last_queued.with_label_values(of),
            planning: synced.planning.with_label_values(of),
            no_local_endpoints_internal: no_local("internal"),
            no_local_endpoints_external: no_local("external"),
            failures: failures.map(|failures| failures.with_label_values(of)),
            partial_failures: partial.map(|failures| failures.with_label_values(of)),
            rules: synced.rules.clone(),
            rules_written: synced.rules_written.clone(),
            puts: written.changes.with_label_values(&[&name, "put"]),
            drops: written.changes.with_label_values(&[&name, "drop"]),
            bytes: written.bytes.with_label_values(of),
            read_time: written.kernel_time.with_label_values(&[&name, "read"]),
            write_time: written.kernel_time.with_label_values(&[&name, "write"]),
            drift: written.drift.with_label_values(of),
            refusals: written.refusals.with_label_values(of),
            forgetting: tracked.duration.with_label_values(of),
            forgotten: tracked.deleted.with_label_values(of),
            localhost_listeners: localhost.listeners.clone(),
            localhost_failures: localhost.failures.clone(),
            family: name,
        }
    }

    /// Something is to be written, of which the first news arrived then.
    pub(crate) fn queued(&self, received: Option<Instant>) {
        if let Some(received) = received {
            self.planning.observe(received.elapsed().as_secs_f64());
        }
        self.last_queued.set(seconds(SystemTime::now()));
    }

    /// A stranger may have changed what is ours.
    pub(crate) fn drifted(&self) {
        self.drift.inc();
    }

    /// A pass was made.
    pub(crate) fn passed(&self, pass: &Pass, took: Duration) {
        let took = took.as_secs_f64();
        self.duration.observe(took);
        match (pass.extent, &self.partial_duration) {
            (Extent::Partial, Some(partial)) => partial.observe(took),
            (Extent::Full, Some(_)) => self.full_duration.observe(took),
            (Extent::Partial | Extent::Full, None) => {}
        }
        self.puts.inc_by(count(pass.puts));
        self.drops.inc_by(count(pass.drops));
        self.bytes.inc_by(pass.spent.bytes);
        self.read_time.inc_by(pass.spent.reading.as_secs_f64());
        self.write_time.inc_by(pass.spent.writing.as_secs_f64());
        self.refusals.inc_by(count(pass.refused.len()));
        if let Some(flows) = &pass.flows {
            self.forgetting.observe(flows.took.as_secs_f64());
            self.forgotten.inc_by(count(*flows.outcome.as_ref().unwrap_or(&0)));
        }
        if let Some(localhost) = pass.localhost {
            let of = &[self.family.as_str()];
            self.localhost_listeners
                .with_label_values(of)
                .set(i64::try_from(localhost.open).unwrap_or(i64::MAX));
            self.localhost_failures.with_label_values(of).inc_by(count(localhost.refused));
        }
        let Failures { partial, full } = pass.failures;
        let full = if let Some(counter) = &self.partial_failures {
            counter.inc_by(count(partial));
            full
        } else {
            full + partial
        };
        if let Some(counter) = &self.failures {
            counter.inc_by(count(full));
        }
        for (table, rules) in &pass.rules {
            let labels = &[*table, &self.family];
            self.rules.with_label_values(labels).set(rules.there);
            self.rules_written.with_label_values(labels).set(rules.written);
        }
    }

    /// The kernel is as planned.
    pub(crate) fn synced(&self) {
        self.last.set(seconds(SystemTime::now()));
    }

    /// The kernel has what changed in the cluster at that time.
    pub(crate) fn programmed(&self, triggered: SystemTime) {
        let latency = SystemTime::now().duration_since(triggered).unwrap_or(Duration::ZERO);
        self.programming.observe(latency.as_secs_f64());
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
