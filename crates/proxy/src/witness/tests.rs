//! What is told of a plan that is written, and of one that is not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use kernel_io::ReadError;
use kernel_state::Retried;
use service_plan::{
    FactChange, Facts, Family, HealthCheck, NodePort, Plan, Policy, Service, ServiceKind, ServiceName,
    Touched, plan,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Checks, FamilyWitness, News, Witness};
use crate::health::{ProxyHealth, Verdict};
use crate::metrics::Metrics;
use crate::modes::{ProxyMode, Reconcile};
use crate::reconciler::{Failure, Pass, Sighting};
use crate::samples;

/// Says of each pass what it was told to say; then that all went well.
struct Scripted {
    passes: Arc<Mutex<VecDeque<Pass>>>,
    sighting: Sighting,
}

impl Reconcile for Scripted {
    fn want(&mut self, _plan: &Plan) {}

    fn write(&mut self) -> Pass {
        self.passes.lock().unwrap().pop_front().unwrap_or_default()
    }

    fn try_again(&mut self) -> Retried {
        Retried::Nobody
    }

    fn look(&mut self) -> Sighting {
        self.sighting
    }
}

struct Stage {
    facts: Facts,
    told: Witness,
    witness: Arc<FamilyWitness>,
    watched: Box<dyn Reconcile>,
    passes: Arc<Mutex<VecDeque<Pass>>>,
    checks: UnboundedReceiver<Checks>,
}

impl Stage {
    fn new(mode: ProxyMode, sighting: Sighting) -> Self {
        let (sender, checks) = unbounded_channel();
        let health = Arc::new(ProxyHealth::new(Duration::ZERO, None));
        let told = Witness { metrics: Arc::new(Metrics::new()), health, checks: sender };
        let witness = told.of(mode, Family::V4);
        let passes: Arc<Mutex<VecDeque<Pass>>> = Arc::default();
        let watched = witness.watch(Box::new(Scripted { passes: Arc::clone(&passes), sighting }));
        Self { facts: samples::facts(), told, witness, watched, passes, checks }
    }

    fn plan(&mut self, change: FactChange) {
        let touched = self.facts.apply(change);
        self.plan_touched(&touched);
    }

    fn plan_touched(&mut self, touched: &Touched) {
        self.witness.queued(News {
            services: 1,
            endpoint_slices: 2,
            triggers: vec![SystemTime::now()],
            received: None,
            awaited: Vec::new(),
        });
        let (plan, _) = plan(&self.facts, touched, Family::V4);
        self.watched.want(&plan);
    }

    fn fail(&mut self) {
        let failure = Failure::Read(ReadError { source: "no".into() });
        self.passes.lock().unwrap().push_back(Pass { failure: Some(failure), ..Pass::default() });
        self.watched.write();
    }

    fn shows(&self, line: &str) {
        let text = String::from_utf8(self.told.metrics.text()).expect("text");
        assert!(text.lines().any(|other| other == line), "{line} in {text}");
    }

    fn checks(&mut self) -> Vec<(String, Option<usize>)> {
        let mut told = Vec::new();
        while let Ok(checks) = self.checks.try_recv() {
            let ready = |check: Option<HealthCheck>| check.map(|check| check.local_ready);
            told.extend(checks.changed.into_iter().map(|(name, check)| (name.to_string(), ready(check))));
        }
        told
    }
}

fn balanced(name: &str) -> FactChange {
    let FactChange::Service(name, Some(service)) = samples::service(name, "10.96.0.1") else {
        unreachable!("a Service")
    };
    let service = Service {
        kind: ServiceKind::LoadBalancer,
        external_policy: Policy::Local,
        health_check_node_port: NodePort::new(31000),
        ..Arc::unwrap_or_clone(service)
    };
    FactChange::Service(name, Some(Arc::new(service)))
}

#[test]
fn nothing_counts_as_written_before_it_is() {
    let mut stage = Stage::new(ProxyMode::Iptables, Sighting::Nothing);
    stage.plan(balanced("web"));
    assert_eq!(stage.told.health.proxy(), Verdict::Unwell, "it waits, and there is no patience");
    stage.fail();
    assert_eq!((stage.checks(), stage.told.health.proxy()), (vec![], Verdict::Unwell));
    stage.shows("kubeproxy_sync_proxy_rules_service_changes_pending 1");
    stage.shows("kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 0");
    stage.watched.write();
    assert_eq!(stage.told.health.proxy(), Verdict::Well);
    assert_eq!(stage.checks(), [("ns/web".to_owned(), Some(0))]);
    stage.shows("kubeproxy_sync_proxy_rules_service_changes_pending 0");
    stage.shows("kubeproxy_sync_proxy_rules_service_changes_total 1");
    stage.shows("kubeproxy_sync_proxy_rules_endpoint_changes_total 2");
    stage.shows("kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 1");
}

#[test]
fn what_is_refused_makes_no_node_unhealthy() {
    let mut stage = Stage::new(ProxyMode::Iptables, Sighting::Nothing);
    stage.plan(balanced("web"));
    stage.passes.lock().unwrap().push_back(Pass { holds_back: true, ..Pass::default() });
    stage.watched.write();
    assert_eq!(stage.told.health.proxy(), Verdict::Well);
}

#[test]
fn a_health_check_is_told_when_it_comes_changes_and_goes() {
    let mut stage = Stage::new(ProxyMode::Nftables, Sighting::Nothing);
    stage.plan(balanced("web"));
    stage.watched.write();
    assert_eq!(stage.checks(), [("ns/web".to_owned(), Some(0))]);
    stage.plan_touched(&Touched::nothing());
    stage.watched.write();
    assert_eq!(stage.checks(), [], "nothing changed");
    stage.plan(FactChange::Service(ServiceName::new("ns", "web"), None));
    stage.watched.write();
    assert_eq!(stage.checks(), [("ns/web".to_owned(), None)]);
    stage.plan(FactChange::Service(ServiceName::new("ns", "web"), None));
    stage.watched.write();
    assert_eq!(stage.checks(), []);
}

#[test]
fn a_strangers_change_counts_when_it_was_undone() {
    let mut stage = Stage::new(ProxyMode::Iptables, Sighting::Something);
    let count = |count| format!("fairlead_drift_found_total{{ip_family=\"IPv4\"}} {count}");
    stage.watched.look();
    stage.watched.write();
    stage.shows(&count(0));
    stage.watched.look();
    stage.passes.lock().unwrap().push_back(Pass { puts: 1, ..Pass::default() });
    stage.watched.write();
    stage.shows(&count(1));
}
