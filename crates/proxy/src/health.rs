//! Whether the proxy keeps up with what it is told, and whether this node should get traffic at all.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use service_plan::Family;
use service_watch::Eligibility;

/// The health of all families. Everybody may ask, and those who know tell.
#[derive(Debug)]
pub(crate) struct ProxyHealth {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whatever is told must be written within this time.
    patience: Duration,
    updated: BTreeMap<Family, SystemTime>,
    /// Since when something waits to be written.
    waiting: BTreeMap<Family, Instant>,
    node: Option<Eligibility>,
}

/// Which question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Whether this process works: /livez.
    Proxy,
    /// Whether this node should get traffic: /healthz.
    Node,
}

/// Whether all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Well,
    Unwell,
}

/// What is answered, in upstream's words.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<String, FamilyReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyReport {
    last_updated: String,
    healthy: bool,
}

impl ProxyHealth {
    /// Whatever is told must be written within this time. Of the node nothing is known, unless it is given.
    pub(crate) fn new(patience: Duration, node: Option<Eligibility>) -> Self {
        Self { state: Mutex::new(State { patience, node, ..State::default() }) }
    }

    /// From now on within this time.
    pub(crate) fn be_patient(&self, patience: Duration) {
        self.state().patience = patience;
    }

    /// Something is to be written.
    pub(crate) fn queued(&self, family: Family) {
        self.state().waiting.entry(family).or_insert_with(Instant::now);
    }

    /// All is written; or nothing was told yet.
    pub(crate) fn updated(&self, family: Family) {
        let mut state = self.state();
        state.updated.insert(family, SystemTime::now());
        state.waiting.remove(&family);
    }

    /// What the Node object tells of our node.
    pub(crate) fn node(&self, eligibility: Eligibility) {
        self.state().node = Some(eligibility);
    }

    /// Whether everything is written in time.
    pub(crate) fn proxy(&self) -> Verdict {
        self.state().proxy()
    }

    /// The answer to a question, and its details.
    pub(crate) fn report(&self, question: Question) -> (Verdict, Report) {
        let (state, now) = (self.state(), SystemTime::now());
        let proxy = state.proxy();
        let is_eligible = state.node == Some(Eligibility::Eligible);
        let verdict = match question {
            Question::Node if !is_eligible => Verdict::Unwell,
            Question::Node | Question::Proxy => proxy,
        };
        // Whoever is well is as new as can be: clients look at the age alone.
        let newest = state.updated.values().max().copied();
        let last_updated = if verdict == Verdict::Well { Some(now) } else { newest };
        let report = Report {
            last_updated: timestamp(last_updated),
            current_time: timestamp(Some(now)),
            node_eligible: (question == Question::Node).then_some(is_eligible),
            healthy: proxy == Verdict::Well,
            status: state.families(),
        };
        (verdict, report)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Families count from their first update on.
    fn proxy(&self) -> Verdict {
        let all_well = self.updated.keys().all(|family| self.family(*family) == Verdict::Well);
        if all_well { Verdict::Well } else { Verdict::Unwell }
    }

    fn family(&self, family: Family) -> Verdict {
        match self.waiting.get(&family) {
            Some(since) if since.elapsed() >= self.patience => Verdict::Unwell,
            Some(_) | None => Verdict::Well,
        }
    }

    fn families(&self) -> BTreeMap<String, FamilyReport> {
        let report = |(family, updated): (&Family, &SystemTime)| {
            let healthy = self.family(*family) == Verdict::Well;
            (family.to_string(), FamilyReport { last_updated: timestamp(Some(*updated)), healthy })
        };
        self.updated.iter().map(report).collect()
    }
}

/// As RFC 3339 writes it. What never was is upstream's zero time.
pub(crate) fn timestamp(time: Option<SystemTime>) -> String {
    let known = time.and_then(|time| jiff::Timestamp::try_from(time).ok());
    known.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests;
