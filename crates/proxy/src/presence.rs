//! The proxy as others see it while it runs: what it answers, and what it tells the cluster.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::json;
use service_watch::{Eligibility, Importance, Notice, Notices, Subject};
use tokio::sync::mpsc::unbounded_channel;

use crate::config::Configuration;
use crate::health::ProxyHealth;
use crate::knowledge::Knowledge;
use crate::metrics::Metrics;
use crate::modes::ProxyMode;
use crate::serving::{About, Addresses, ServeError, Servers, StartError, Told, What};
use crate::witness::Witness;

/// It lasts until this is dropped.
pub(crate) struct Presence {
    pub(crate) witness: Witness,
    about: Arc<About>,
    servers: Servers,
}

/// How long the process stays when it cannot serve, so that the cluster learns why.
const LAST_WORDS: Duration = Duration::from_secs(3);

impl Presence {
    pub(crate) fn begin(
        configuration: &Configuration,
        flags: &[(String, String)],
        assumed: Option<Eligibility>,
        metrics: Arc<Metrics>,
        notices: &Notices,
    ) -> Result<Self, StartError> {
        let Configuration { mode, node_name, .. } = configuration;
        let node = |importance, reason, note: String| Notice {
            subject: Subject::Node(Arc::clone(node_name)),
            importance,
            reason,
            action: "StartKubeProxy",
            note,
        };
        let (checks, wanted_checks) = unbounded_channel();
        let told = Told {
            health: Arc::new(ProxyHealth::new(patience(configuration), assumed)),
            metrics,
            about: Arc::new(About {
                mode: mode.name(),
                configz: Mutex::new(configz(configuration)),
                flags: flags.to_vec(),
                started: SystemTime::now(),
                profiling: configuration.profiling,
            }),
        };
        let servers = Servers::start(&Addresses::of(configuration), &told, wanted_checks, notices.clone());
        let servers = servers.inspect_err(|error| {
            if let StartError::Taken(error) = error {
                notices.send(node(Importance::Warning, reason(error), error.to_string()));
                notices.flush(LAST_WORDS);
            }
        })?;
        notices.send(node(Importance::Normal, "Starting", String::new()));
        if *mode == ProxyMode::Ipvs {
            let note = "kube-proxy is about to give up its ipvs mode; fairlead goes on with it";
            notices.send(node(Importance::Warning, "IPVSDeprecation", note.to_owned()));
        }
        let witness = Witness { metrics: told.metrics, health: told.health, checks };
        Ok(Self { witness, about: told.about, servers })
    }

    /// Another configuration is in force.
    pub(crate) fn is_configured(&mut self, configuration: &Configuration) -> Result<(), StartError> {
        self.witness.health.be_patient(patience(configuration));
        self.about.is_configured(configz(configuration));
        Ok(self.servers.serve_at(&Addresses::of(configuration))?)
    }

    /// What is known of our node may be news to those who ask.
    pub(crate) fn node(&self, knowledge: &Knowledge) {
        if let Some(eligibility) = knowledge.eligibility() {
            self.witness.health.node(eligibility);
        }
    }
}

/// Within this time whatever is pending must be written.
fn patience(configuration: &Configuration) -> Duration {
    configuration.sync.period * 2
}

fn configz(configuration: &Configuration) -> String {
    json!({"kubeproxy.config.k8s.io": configuration.written.shown()}).to_string()
}

fn reason(error: &ServeError) -> &'static str {
    match error.what {
        What::Healthz => "FailedToStartProxierHealthcheck",
        What::Metrics => "FailedToStartMetricServer",
    }
}
