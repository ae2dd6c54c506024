//! A scenario's steps, one after another: objects become facts, facts become plans.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;
use std::sync::Arc;

use service_plan::{
    EndpointSlice, FactChange, Facts, Family, Node, NodePlan, Plan, Problem, ServiceName, ServicePlan,
    Touched, plan,
};
use service_watch::{Batch, Event, NodeObject};
use thiserror::Error;

use crate::scenario::{Scenario, Step};

mod directory;

use directory::Directory;

/// What one step came to.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// Both families.
    pub families: Vec<FamilyStep>,
    /// What was reported of the objects.
    pub reports: Vec<String>,
    /// The slices that were read in this step.
    pub slices: Vec<Arc<EndpointSlice>>,
}

/// What one step came to for an IP family.
#[derive(Clone, Debug)]
pub struct FamilyStep {
    /// The family.
    pub family: Family,
    /// What was planned, because it was touched.
    pub touched: Plan,
    /// What was refused.
    pub problems: Vec<Problem>,
    /// All service ports as they are planned now.
    pub services: Vec<ServicePlan>,
}

/// A scenario that cannot be played.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// Its configuration cannot be used.
    #[error("config.yaml: {0}")]
    Config(#[from] proxy::Invalid),
    /// Its objects cannot be read.
    #[error(transparent)]
    Manifests(#[from] service_watch::OpenError),
    /// A step is not what it should be.
    #[error("{0}")]
    Step(String),
    /// Its objects could not be laid down.
    #[error("lay down the manifests: {0}")]
    Io(#[from] io::Error),
}

/// Plays all steps of a scenario.
pub fn replayed(scenario: &Scenario) -> Result<Vec<Replayed>, ReplayError> {
    let mut replay = Replay::new(scenario)?;
    scenario.steps.iter().map(|step| replay.step(step)).collect()
}

struct Replay {
    directory: Directory,
    facts: Facts,
    bare_node: Node,
    planned: BTreeMap<Family, BTreeMap<ServiceName, Vec<ServicePlan>>>,
}

impl Replay {
    fn new(scenario: &Scenario) -> Result<Self, ReplayError> {
        let stage = &scenario.stage;
        let bare_node = Node {
            name: scenario.node_name(),
            zone: "".into(),
            ips: Family::BOTH.into_iter().filter_map(|family| stage.node_address(family)).collect(),
            interface_addresses: stage.addresses.clone(),
            pod_ranges: Vec::new(),
        };
        Ok(Self {
            directory: Directory::new(&scenario.node_name())?,
            facts: Facts::new(scenario.configuration()?.settings, bare_node.clone()),
            bare_node,
            planned: BTreeMap::new(),
        })
    }

    fn step(&mut self, step: &Step) -> Result<Replayed, ReplayError> {
        let Batch { events, reports, .. } = self.directory.apply(step)?;
        let reports = reports.iter().map(|report| self.directory.named(&report.to_string())).collect();
        let mut touched = Touched::nothing();
        let mut slices = Vec::new();
        for event in events {
            if let Event::EndpointSlice(_, Some(slice)) = &event {
                slices.push(Arc::clone(slice));
            }
            touched = touched.and(self.take(event));
        }
        let families = Family::BOTH.into_iter().map(|family| self.family_step(&touched, family));
        let families = families.collect::<Result<_, _>>()?;
        Ok(Replayed { families, reports, slices })
    }

    fn take(&mut self, event: Event) -> Touched {
        self.facts.apply(match event {
            Event::Service(name, service) => FactChange::Service(name, service),
            Event::EndpointSlice(name, slice) => FactChange::EndpointSlice(name, slice),
            Event::Node(object) => FactChange::Node(self.node(object)),
            Event::ServiceRanges(ranges) => FactChange::ServiceRanges(ranges),
            Event::Listed => return Touched::everything(),
            Event::Triggered(_) | Event::Awaited(_) => return Touched::nothing(),
        })
    }

    fn node(&self, object: Option<NodeObject>) -> Node {
        let Some(NodeObject { zone, ips, pod_ranges, .. }) = object else { return self.bare_node.clone() };
        let ips = if ips.is_empty() { self.bare_node.ips.clone() } else { ips };
        Node { zone, ips, pod_ranges, ..self.bare_node.clone() }
    }

    fn family_step(&mut self, touched: &Touched, family: Family) -> Result<FamilyStep, ReplayError> {
        let (touched, problems) = plan(&self.facts, touched, family);
        let planned = self.planned.entry(family).or_default();
        for (name, ports) in &touched.services {
            planned.insert(name.clone(), ports.clone());
        }
        planned.retain(|_, ports| !ports.is_empty());
        let services: Vec<_> = planned.values().flatten().cloned().collect();
        let (whole, _) = plan(&self.facts, &Touched::everything(), family);
        if !whole.services.iter().flat_map(|(_, ports)| ports).eq(&services) {
            let message = format!("{family}: what was planned again is not all that a change touched");
            return Err(ReplayError::Step(message));
        }
        Ok(FamilyStep { family, touched, problems, services })
    }
}

impl Replayed {
    /// The plans of what was touched, as the plan golden has them.
    pub fn plan_text(&self) -> String {
        let mut text = String::new();
        let parts = self.families_with_something().map(|step| step.touched.to_string());
        text += &parts.collect::<Vec<_>>().join("\n");
        let problems = self.families.iter().flat_map(|step| &step.problems).map(ToString::to_string);
        let problems: BTreeSet<String> = problems.collect();
        for (title, lines) in [("refused", Vec::from_iter(problems)), ("reported", self.reports.clone())] {
            if !lines.is_empty() {
                writeln!(text, "\n{title}\n  {}", lines.join("\n  "))
                    .expect("writing to a String cannot fail");
            }
        }
        text
    }

    /// The families that anything was planned for; IPv4 if none was.
    pub fn families_with_something(&self) -> impl Iterator<Item = &FamilyStep> {
        let nothing = self.families.iter().all(|step| !step.has_something());
        self.families
            .iter()
            .filter(move |step| step.has_something() || (nothing && step.family == Family::V4))
    }
}

impl FamilyStep {
    /// The node's part of the plan.
    pub fn node(&self) -> &Arc<NodePlan> {
        &self.touched.node
    }

    fn has_something(&self) -> bool {
        !self.services.is_empty() || self.touched.services.iter().any(|(_, ports)| !ports.is_empty())
    }
}
