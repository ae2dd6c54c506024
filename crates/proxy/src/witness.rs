//! What becomes of plans: seen in one place, and told to health, metrics and the health check ports.
//!
//! ```text
//! conductor ── queued ──▶ FamilyWitness ◀── want, write, look ── Watched ◀── writer
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use kernel_state::Retried;
use service_plan::{
    Address, Family, HealthCheck, NodePortAddresses, Plan, ServiceName, ServicePlan, Source, Verdict,
};
use service_watch::Awaited;
use tokio::sync::mpsc::UnboundedSender;

use crate::health::ProxyHealth;
use crate::metrics::{FamilyMetrics, Metrics};
use crate::modes::{ProxyMode, Reconcile};
use crate::reconciler::{Pass, Sighting};

/// Who is told.
#[derive(Clone)]
pub(crate) struct Witness {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<ProxyHealth>,
    pub(crate) checks: UnboundedSender<Checks>,
}

/// What the source told since the plan before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Services that changed.
    pub(crate) services: u64,
    /// Slices that changed.
    pub(crate) endpoint_slices: u64,
    /// When the changes happened, where that is known.
    pub(crate) triggers: Vec<SystemTime>,
    /// When the first of it arrived here.
    pub(crate) received: Option<Instant>,
    /// What is dropped once all of this is written.
    pub(crate) awaited: Vec<Arc<Awaited>>,
}

/// Health checks of a family that the kernel is ready for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checks {
    pub(crate) family: Family,
    /// The node's addresses that are asked.
    pub(crate) at: NodePortAddresses,
    /// Those that changed.
    pub(crate) changed: Vec<(ServiceName, Option<HealthCheck>)>,
}

/// What is known of one family between the conductor and its writer.
pub(crate) struct FamilyWitness {
    family: Family,
    mode: ProxyMode,
    told: Witness,
    metrics: FamilyMetrics,
    /// Of each plan that is on its way.
    news: Mutex<VecDeque<News>>,
}

/// A reconciler whose doings are told.
struct Watched {
    inner: Box<dyn Reconcile>,
    witness: Arc<FamilyWitness>,
    /// What is planned and not yet written.
    waiting: News,
    last_look: Sighting,
    /// Ports of each Service for which there is no endpoint here, though there are some elsewhere.
    unserved: BTreeMap<ServiceName, Unserved>,
    /// Services that have a health check.
    checked: BTreeSet<ServiceName>,
    changed_checks: BTreeMap<ServiceName, Option<HealthCheck>>,
    node_ports: Option<NodePortAddresses>,
    told_node_ports: Option<NodePortAddresses>,
}

/// Service ports with a Local policy and without an endpoint here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unserved {
    internal: i64,
    external: i64,
}

impl Witness {
    /// The witness of one family, for the side that makes plans.
    pub(crate) fn of(&self, mode: ProxyMode, family: Family) -> Arc<FamilyWitness> {
        Arc::new(FamilyWitness {
            family,
            mode,
            told: self.clone(),
            metrics: self.metrics.family(mode, family),
            news: Mutex::default(),
        })
    }
}

impl FamilyWitness {
    /// A plan is on its way to the writer, and this led to it.
    pub(crate) fn queued(&self, news: News) {
        self.told.health.queued(self.family);
        self.metrics.queued(news.received);
        let metrics = &self.told.metrics;
        metrics.service_changes.inc_by(news.services);
        metrics.endpoint_changes.inc_by(news.endpoint_slices);
        metrics.service_changes_pending.add(signed(news.services));
        metrics.endpoint_changes_pending.add(signed(news.endpoint_slices));
        self.news.lock().unwrap_or_else(PoisonError::into_inner).push_back(news);
    }

    /// The same reconciler, watched: the family counts from now on.
    pub(crate) fn watch(self: &Arc<Self>, inner: Box<dyn Reconcile>) -> Box<dyn Reconcile> {
        self.told.health.updated(self.family);
        Box::new(Watched {
            inner,
            witness: Arc::clone(self),
            waiting: News::default(),
            last_look: Sighting::Nothing,
            unserved: BTreeMap::new(),
            checked: BTreeSet::new(),
            changed_checks: BTreeMap::new(),
            node_ports: None,
            told_node_ports: None,
        })
    }

    fn arrived(&self) -> News {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or_default()
    }
}

impl News {
    pub(crate) fn extend(&mut self, other: Self) {
        self.services += other.services;
        self.endpoint_slices += other.endpoint_slices;
        self.triggers.extend(other.triggers);
        self.awaited.extend(other.awaited);
    }
}

impl Reconcile for Watched {
    fn want(&mut self, plan: &Plan) {
        self.waiting.extend(self.witness.arrived());
        self.note(plan);
        self.inner.want(plan);
    }

    fn write(&mut self) -> Pass {
        let start = Instant::now();
        let pass = self.inner.write();
        self.witness.metrics.passed(&pass, start.elapsed());
        if self.last_look == Sighting::Something && pass.puts + pass.drops > 0 {
            self.witness.metrics.drifted();
        }
        self.last_look = Sighting::Nothing;
        // Whoever was refused is tried again; the rest is written, so the node is fit to serve.
        if pass.failure.is_none() {
            self.synced();
        }
        pass
    }

    fn try_again(&mut self) -> Retried {
        self.inner.try_again()
    }

    fn look(&mut self) -> Sighting {
        let sighting = self.inner.look();
        if sighting == Sighting::Something {
            self.last_look = sighting;
            self.witness.told.health.queued(self.witness.family);
        }
        sighting
    }
}

impl Watched {
    fn note(&mut self, plan: &Plan) {
        self.node_ports = Some(plan.node.node_ports.clone());
        for (name, ports) in &plan.services {
            match Unserved::of(ports, self.witness.mode) {
                unserved if unserved == Unserved::default() => self.unserved.remove(name),
                unserved => self.unserved.insert(name.clone(), unserved),
            };
            let check = ports.iter().find_map(|port| port.health_check);
            let had_one = match check {
                Some(_) => !self.checked.insert(name.clone()),
                None => self.checked.remove(name),
            };
            if had_one || check.is_some() {
                self.changed_checks.insert(name.clone(), check);
            }
        }
    }

    /// The kernel has all that was planned.
    fn synced(&mut self) {
        let FamilyWitness { family, told, metrics, .. } = &*self.witness;
        told.health.updated(*family);
        metrics.synced();
        let waiting = std::mem::take(&mut self.waiting);
        told.metrics.service_changes_pending.sub(signed(waiting.services));
        told.metrics.endpoint_changes_pending.sub(signed(waiting.endpoint_slices));
        waiting.triggers.into_iter().for_each(|triggered| metrics.programmed(triggered));
        let total = |part: fn(&Unserved) -> i64| self.unserved.values().map(part).sum();
        metrics.no_local_endpoints_internal.set(total(|unserved| unserved.internal));
        metrics.no_local_endpoints_external.set(total(|unserved| unserved.external));
        if let Some(at) = &self.node_ports
            && (!self.changed_checks.is_empty() || self.told_node_ports.as_ref() != Some(at))
        {
            let changed = std::mem::take(&mut self.changed_checks).into_iter().collect();
            // Nobody listens any more when the process ends.
            let _ = told.checks.send(Checks { family: *family, at: at.clone(), changed });
            self.told_node_ports = Some(at.clone());
        }
    }
}

impl Unserved {
    /// Upstream's ipvs mode counts Services, the others service ports.
    fn of(ports: &[ServicePlan], mode: ProxyMode) -> Self {
        let internal = |at: &Address| matches!(at, Address::ClusterIp(..));
        let external = |at: &Address| !matches!(at, Address::ClusterIp(..));
        let count = |part: fn(&Address) -> bool| {
            let count = ports.iter().filter(|port| drops(port, part)).count();
            signed(u64::try_from(count).unwrap_or(u64::MAX))
        };
        let all = Self { internal: count(internal), external: count(external) };
        match mode {
            ProxyMode::Ipvs => Self { internal: all.internal.min(1), external: all.external.min(1) },
            ProxyMode::Iptables | ProxyMode::Nftables | ProxyMode::Userspace => all,
        }
    }
}

/// Whether there is nobody here for those who enter by some addresses, though there is somebody elsewhere.
fn drops(port: &ServicePlan, by: fn(&Address) -> bool) -> bool {
    let mut entrances = port.entrances.iter().filter(|entrance| by(&entrance.at));
    entrances.any(|entrance| entrance.verdicts.last() == Some(&(Source::Anyone, Verdict::Drop)))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
