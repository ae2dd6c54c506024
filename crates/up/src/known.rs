//! The pods that are there: what they were made from, read once, and what they do, read again and again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pod_manifests::ObjectName;
use pod_runtime::{PodError, PodStatus, Root, State};

use crate::made::Made;
use crate::pods::{Course, Ending, Owner, Present};
use crate::rolling::Standing;
use crate::slices::{Backend, Life, Serving};

/// The pods that are there.
#[derive(Debug)]
pub(crate) struct Known {
    root: Root,
    directory: PathBuf,
    pods: BTreeMap<ObjectName, KnownPod>,
}

/// A pod that is there.
#[derive(Debug)]
pub(crate) struct KnownPod {
    pub(crate) made: Made,
    pub(crate) status: PodStatus,
    /// Since when it is ready without a break, as far as we saw.
    ready_since: Option<Instant>,
}

/// Whether a pod is still to be sent requests.
pub(crate) type IsLeaving<'a> = &'a dyn Fn(&ObjectName) -> bool;

impl Known {
    pub(crate) fn of(root: Root, directory: PathBuf) -> Self {
        Self { root, directory, pods: BTreeMap::new() }
    }

    /// Looks at all of them.
    pub(crate) fn look(&mut self) -> Result<(), PodError> {
        let mut before = std::mem::take(&mut self.pods);
        for status in self.root.pods()? {
            let name = ObjectName { namespace: status.namespace.clone(), name: status.name.clone() };
            let known = before.remove(&name).filter(|known| known.status.uid == status.uid);
            let (made, ready_since) = match known {
                Some(known) => (known.made, known.ready_since),
                // One that is being made may have no order yet, and one that is being removed none any more.
                None => match self.root.pod(&name) {
                    Ok(pod) => (Made::of(pod, &self.directory), None),
                    Err(_) => continue,
                },
            };
            let ready_since = status.ready.then(|| ready_since.unwrap_or_else(Instant::now));
            self.pods.insert(name, KnownPod { made, status, ready_since });
        }
        Ok(())
    }

    pub(crate) fn get(&self, name: &ObjectName) -> Option<&KnownPod> {
        self.pods.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ObjectName, &KnownPod)> {
        self.pods.iter()
    }

    /// Those of this directory. How long a pod of an owner must be ready before it counts is told by `patience`.
    pub(crate) fn present(
        &self,
        is_leaving: IsLeaving<'_>,
        patience: impl Fn(&Owner) -> Duration,
    ) -> Vec<Present> {
        let present = |(name, known): (&ObjectName, &KnownPod)| {
            let (owner, revision) = known.made.ours.clone()?;
            let course = match known.course(patience(&owner)) {
                Course::Stands(_) if is_leaving(name) => Course::Leaves,
                course @ (Course::Stands(_) | Course::Leaves | Course::Over(_)) => course,
            };
            Some(Present { name: name.clone(), owner, revision, course })
        };
        self.pods.iter().filter_map(present).collect()
    }

    /// Those that Services may lead to, whoever made them.
    pub(crate) fn backends(&self, is_leaving: IsLeaving<'_>) -> Vec<Backend> {
        let stand = self.pods.iter().filter(|(_, known)| !known.status.is_over());
        stand
            .map(|(name, known)| {
                let leaves = known.status.terminating || is_leaving(name);
                Backend {
                    namespace: name.namespace.clone(),
                    labels: known.made.pod.labels.clone(),
                    ips: known.status.ips.clone(),
                    ports: known.made.ports.clone(),
                    serving: if known.status.ready { Serving::Yes } else { Serving::No },
                    life: if leaves { Life::Terminates } else { Life::Stays },
                }
            })
            .collect()
    }
}

impl KnownPod {
    fn course(&self, patience: Duration) -> Course {
        if self.status.is_over() {
            let by_itself = !self.status.terminating && !self.begun_in_vain();
            return Course::Over(if by_itself { Ending::Itself } else { Ending::Otherwise });
        }
        if self.status.terminating {
            return Course::Leaves;
        }
        let available = self.ready_since.is_some_and(|since| since.elapsed() >= patience);
        Course::Stands(if available { Standing::Available } else { Standing::Unavailable })
    }

    /// Whether it ended because its sandbox could not be made.
    pub(crate) fn begun_in_vain(&self) -> bool {
        self.status.is_over() && self.status.reason == "Failed"
    }

    /// How it is, in a word.
    pub(crate) fn word(&self, is_leaving: IsLeaving<'_>) -> String {
        let name = &self.made.pod.name;
        if !self.status.is_over() && is_leaving(name) {
            return "Terminating".to_owned();
        }
        self.status.in_a_word()
    }

    /// Why a container of it cannot be started, if that is so.
    pub(crate) fn start_error(&self) -> Option<String> {
        self.status.containers.iter().find_map(|container| {
            let ended = match (&container.state, &container.last) {
                (State::Terminated(ended), _) | (State::Waiting { .. }, Some(ended)) => ended,
                (State::Waiting { .. }, None) | (State::Running { .. }, _) => return None,
            };
            (ended.reason == "StartError").then(|| ended.message.clone())
        })
    }
}
