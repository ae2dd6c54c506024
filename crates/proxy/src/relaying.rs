//! How the relay of the userspace mode and of node ports on localhost is set up, and how it ends.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, Opts};
use proxy_modes::Transparency;
use relay::{Counts, Mark, PortRange, Relay, Settings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use service_plan::Family;
use tracing::{info, warn};

use crate::config::Configuration;

/// What the relay is started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relaying {
    settings: Settings,
    /// Whether endpoints see their clients.
    pub(crate) transparency: Transparency,
    /// The ports of its listeners.
    pub(crate) ports: PortRange,
    v4: IpAddr,
    v6: IpAddr,
}

impl Relaying {
    /// As configured, on the node's own address of each family.
    pub(crate) fn new(configuration: &Configuration, node_ip: impl Fn(Family) -> Option<IpAddr>) -> Self {
        let Configuration { own, settings, ports, .. } = configuration;
        let settings = Settings {
            workers: thread::available_parallelism().map_or(1, usize::from),
            balancer: own.balancer,
            mark: Mark::Bits(settings.mark.0),
            udp_timeout: own.udp_timeout,
            drain_timeout: own.drain_timeout,
        };
        Self {
            settings,
            transparency: own.transparency,
            ports: *ports,
            v4: node_ip(Family::V4).unwrap_or(Family::V4.localhost()),
            v6: node_ip(Family::V6).unwrap_or(Family::V6.localhost()),
        }
    }

    /// Where it listens.
    pub(crate) fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// The same, for a mode whose rules know no mark.
    pub(crate) fn start_unmarked(&self) -> io::Result<Relay> {
        let settings = Settings { mark: Mark::None, ..self.settings };
        Self { settings, ..*self }.start()
    }

    /// Starts its threads, with as many descriptors as the system allows.
    pub(crate) fn start(&self) -> io::Result<Relay> {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current != maximum
            && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        {
            warn!(%error, limit = current, "the limit of open files stays as it is");
        }
        Relay::start(self.settings)
    }
}

/// What went wrong in the relay, as metrics.
struct Troubles {
    counts: Arc<Counts>,
    failures: IntCounterVec,
    passed_over: IntCounter,
    unserved: IntCounter,
    shortages: IntCounter,
}

/// What the relay counts, to be shown among the metrics.
pub(crate) fn troubles(counts: Arc<Counts>) -> Box<dyn Collector> {
    let counter = |name: &str, help: &str| IntCounter::new(name, help).expect("a name as the format has it");
    let failures =
        Opts::new("fairlead_relay_endpoint_failures_total", "Endpoints that could not be reached.");
    Box::new(Troubles {
        counts,
        failures: IntCounterVec::new(failures, &["reason"]).expect("a name as the format has it"),
        passed_over: counter(
            "fairlead_relay_endpoints_passed_over_total",
            "Endpoints that were not asked, since they had failed shortly before.",
        ),
        unserved: counter("fairlead_relay_unserved_clients_total", "Clients for whom no endpoint was left."),
        shortages: counter(
            "fairlead_relay_descriptor_shortages_total",
            "Times that accepting paused, for descriptors had run out.",
        ),
    })
}

impl Collector for Troubles {
    fn desc(&self) -> Vec<&Desc> {
        let single = [&self.passed_over, &self.unserved, &self.shortages];
        self.failures.desc().into_iter().chain(single.into_iter().flat_map(Collector::desc)).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let raise = |counter: &IntCounter, to: u64| counter.inc_by(to.saturating_sub(counter.get()));
        raise(&self.failures.with_label_values(&["refused"]), self.counts.refused());
        raise(&self.failures.with_label_values(&["silent"]), self.counts.silent());
        raise(&self.passed_over, self.counts.passed_over());
        raise(&self.unserved, self.counts.unserved());
        raise(&self.shortages, self.counts.shortages());
        let single = [&self.passed_over, &self.unserved, &self.shortages];
        self.failures.collect().into_iter().chain(single.into_iter().flat_map(Collector::collect)).collect()
    }
}

/// Lets those who are connected finish, for so long at most.
pub(crate) fn drain(relay: &Relay, grace: Duration) {
    if grace.is_zero() {
        let ended = relay.clients();
        return info!(
            ended,
            "stopping; what is relayed ends now, for nobody can take it over (--shutdown-grace gives it time)"
        );
    }
    info!(?grace, "stopping; no new clients are taken, those that there are may finish");
    match relay.drain(grace) {
        0 => info!("all have finished"),
        left => warn!(left, "the time is over; those that are left are cut off"),
    }
}
