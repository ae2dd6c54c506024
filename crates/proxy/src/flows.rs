//! The UDP flows that a write leaves stale: the kernel forgets them right after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel_io::conntrack::{self, Conntrack, ConntrackError, Narrowed};
use kernel_state::Retried;
use service_plan::{Family, Flows, NodePlan, Plan, SentOn, ServiceName, StaleFlows, stale_flows};
use tracing::{debug, info, warn};

use crate::modes::Reconcile;
use crate::reconciler::{Pass, Sighting};

/// What became of the flows that a pass left stale.
#[derive(Debug)]
pub struct FlowsPass {
    /// How many are forgotten; an error if some may be left, to be tried again.
    pub outcome: Result<usize, ConntrackError>,
    /// How long it took.
    pub took: Duration,
}

/// What knows the flows of this node.
pub(crate) trait FlowTable: Send {
    /// Forgets those that are stale, and answers how many.
    fn forget(&mut self, family: Family, stale: &StaleFlows) -> Result<usize, ConntrackError>;
}

/// The kernel's connection tracker, opened when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Tracked(Option<Conntrack>);

/// A reconciler after whose writes stale flows are forgotten.
///
/// What was stale before a write would be so again after it, since the old rules make it anew; and what is stale
/// is judged by the rules that are there, not by those that are wanted. So each Service has its flows as they were
/// when the kernel last was as planned, and is looked at from there.
pub(crate) struct WithFlows<T> {
    family: Family,
    sent_on: SentOn,
    reconciler: Box<dyn Reconcile>,
    table: T,
    node: Option<Arc<NodePlan>>,
    /// By Service, those of each that has any.
    wanted: BTreeMap<ServiceName, Flows>,
    settled: BTreeMap<ServiceName, Flows>,
    /// Services whose flows may be stale.
    unsettled: BTreeSet<ServiceName>,
    /// Whether a stranger may have changed the rules since the last write.
    seen: Sighting,
    /// What was last said about a failure.
    told: Option<String>,
}

impl<T: FlowTable> WithFlows<T> {
    /// Nothing known of any flow yet.
    pub(crate) fn new(family: Family, sent_on: SentOn, reconciler: Box<dyn Reconcile>, table: T) -> Self {
        Self {
            family,
            sent_on,
            reconciler,
            table,
            node: None,
            wanted: BTreeMap::new(),
            settled: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            seen: Sighting::Nothing,
            told: None,
        }
    }

    fn note(&mut self, plan: &Plan) {
        self.node = Some(Arc::clone(&plan.node));
        for (name, ports) in &plan.services {
            let flows = Flows::of(ports, self.sent_on);
            let before = if flows.is_empty() {
                self.wanted.remove(name)
            } else {
                self.wanted.insert(name.clone(), flows.clone())
            };
            if before.unwrap_or_default() != flows {
                self.unsettled.insert(name.clone());
            }
        }
    }

    /// While rules were missing, packets went astray that they should have sent on.
    fn distrust(&mut self) {
        for name in self.wanted.keys() {
            self.settled.remove(name);
            self.unsettled.insert(name.clone());
        }
    }

    /// Forgets what is stale by now.
    fn settle(&mut self, pass: &Pass) -> Option<FlowsPass> {
        let stale = self.stale()?;
        let start = Instant::now();
        let outcome = if stale.is_empty() { Ok(0) } else { self.table.forget(self.family, &stale) };
        if outcome.is_ok() && pass.is_complete() {
            for name in std::mem::take(&mut self.unsettled) {
                match self.wanted.get(&name) {
                    Some(flows) => self.settled.insert(name, flows.clone()),
                    None => self.settled.remove(&name),
                };
            }
        }
        (!stale.is_empty()).then(|| FlowsPass { outcome, took: start.elapsed() })
    }

    fn stale(&self) -> Option<StaleFlows> {
        let node = self.node.as_ref().filter(|_| !self.unsettled.is_empty())?;
        let of_unsettled = |flows: &BTreeMap<ServiceName, Flows>| {
            let mut all = Flows::default();
            self.unsettled.iter().filter_map(|name| flows.get(name)).for_each(|flows| all.extend(flows));
            all
        };
        Some(stale_flows(&of_unsettled(&self.settled), &of_unsettled(&self.wanted), node))
    }

    fn tell(&mut self, flows: &FlowsPass) {
        match &flows.outcome {
            Ok(0) => {
                self.told = None;
                debug!(took = ?flows.took, "no UDP flow was stale");
            }
            Ok(forgotten) => {
                self.told = None;
                info!(forgotten, took = ?flows.took, "UDP flows that led astray are forgotten");
            }
            Err(error) => {
                let text = error.to_string();
                if self.told.as_ref() != Some(&text) {
                    warn!(%error, "UDP flows may lead astray, to be tried again");
                }
                self.told = Some(text);
            }
        }
    }
}

impl<T: FlowTable> Reconcile for WithFlows<T> {
    fn want(&mut self, plan: &Plan) {
        self.note(plan);
        self.reconciler.want(plan);
    }

    fn write(&mut self) -> Pass {
        let mut pass = self.reconciler.write();
        if std::mem::replace(&mut self.seen, Sighting::Nothing) == Sighting::Something && pass.puts > 0 {
            self.distrust();
        }
        if pass.failure.is_none() {
            pass.flows = self.settle(&pass);
        }
        if let Some(flows) = &pass.flows {
            self.tell(flows);
        }
        pass
    }

    fn try_again(&mut self) -> Retried {
        self.reconciler.try_again()
    }

    fn look(&mut self) -> Sighting {
        let sighting = self.reconciler.look();
        if sighting == Sighting::Something {
            self.seen = sighting;
        }
        sighting
    }
}

impl FlowTable for Tracked {
    fn forget(&mut self, family: Family, stale: &StaleFlows) -> Result<usize, ConntrackError> {
        let mut conntrack = match self.0.take() {
            Some(conntrack) => conntrack,
            None => Conntrack::open()?,
        };
        let narrowed = match (stale.only_address(), family) {
            (Some(address), _) => Narrowed::ToAsked(address),
            (None, Family::V4) => Narrowed::ToFamily(conntrack::Family::Inet),
            (None, Family::V6) => Narrowed::ToFamily(conntrack::Family::Inet6),
        };
        let forgotten = conntrack.forget(narrowed, |flow| stale.contains(flow.asked, flow.answered_by))?;
        // One that failed may have answers left to read, so only now.
        self.0 = Some(conntrack);
        Ok(forgotten)
    }
}

#[cfg(test)]
mod tests;
