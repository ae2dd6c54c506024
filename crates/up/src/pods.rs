//! Which pods there shall be, which there are, and what is to be done next. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pod_manifests::{Deployment, ObjectName, Pod};

use crate::rolling::{self, Age, Member, Next, Standing};

/// Whose a pod is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// Its own: the file has it as it is.
    Pod(ObjectName),
    /// A Deployment's.
    Deployment(ObjectName),
}

/// A pod that is there, or is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) name: ObjectName,
    pub(crate) owner: Owner,
    /// What it was made from.
    pub(crate) revision: String,
    pub(crate) course: Course,
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// It runs, or is about to.
    Stands(Standing),
    /// It leaves: it was told to stop, or will be once nobody sends it requests any more.
    Leaves,
    /// It has ended.
    Over(Ending),
}

/// How a pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its containers did, and stay so.
    Itself,
    /// It could not be begun, or somebody stopped it.
    Otherwise,
}

/// What the files want.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Pods, and what they are made from.
    pub(crate) pods: BTreeMap<ObjectName, (Arc<Pod>, String)>,
    /// Deployments, and what their pods are made from.
    pub(crate) deployments: BTreeMap<ObjectName, (Arc<Deployment>, String)>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A pod is to be made; those of a Deployment get a name of their own then.
    Create { owner: Owner, revision: String },
    /// A pod is to be stopped.
    Stop(ObjectName),
    /// What is left of a pod is to be removed.
    Remove(ObjectName),
}

/// What is to be done next.
pub(crate) fn actions(wanted: &Wanted, present: &[Present]) -> Vec<Action> {
    let mut actions = Vec::new();
    for pod in present.iter().filter(|pod| !is_kept(wanted, pod)) {
        match pod.course {
            Course::Stands(_) => actions.push(Action::Stop(pod.name.clone())),
            Course::Leaves => {}
            Course::Over(_) => actions.push(Action::Remove(pod.name.clone())),
        }
    }
    let there: BTreeSet<_> = present.iter().map(|pod| &pod.name).collect();
    for (name, (_, revision)) in wanted.pods.iter().filter(|(name, _)| !there.contains(name)) {
        actions.push(Action::Create { owner: Owner::Pod(name.clone()), revision: revision.clone() });
    }
    for (name, (deployment, revision)) in &wanted.deployments {
        let owner = Owner::Deployment(name.clone());
        let members: Vec<_> =
            present.iter().filter(|pod| pod.owner == owner).filter_map(|pod| member(pod, revision)).collect();
        let replicas = usize::try_from(deployment.replicas).unwrap_or(usize::MAX);
        let Next { create, stop } = rolling::next(replicas, &members);
        actions.extend(stop.into_iter().map(Action::Stop));
        let one = || Action::Create { owner: owner.clone(), revision: revision.clone() };
        actions.extend(std::iter::repeat_with(one).take(create));
    }
    actions
}

/// Whether a pod may stay as it is, as far as it alone counts.
fn is_kept(wanted: &Wanted, pod: &Present) -> bool {
    match (&pod.owner, pod.course) {
        (Owner::Deployment(owner), Course::Stands(_) | Course::Leaves) => {
            wanted.deployments.contains_key(owner)
        }
        // A Deployment replaces pods that have ended, whatever ended them.
        (Owner::Deployment(_), Course::Over(_)) | (Owner::Pod(_), Course::Over(Ending::Otherwise)) => false,
        (Owner::Pod(_), Course::Stands(_) | Course::Leaves | Course::Over(Ending::Itself)) => {
            wanted.pods.get(&pod.name).is_some_and(|(_, revision)| *revision == pod.revision)
        }
    }
}

fn member(pod: &Present, revision: &str) -> Option<Member<ObjectName>> {
    let Course::Stands(standing) = pod.course else { return None };
    let age = if pod.revision == revision { Age::New } else { Age::Old };
    Some(Member { name: pod.name.clone(), age, standing })
}

#[cfg(test)]
mod tests;
