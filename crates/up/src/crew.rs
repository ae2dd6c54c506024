//! Work that takes its time, each in a thread of its own: pods are made, and stopped and removed.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::thread;

use pod_manifests::{Manifests, ObjectName, Pod};
use pod_runtime::{PodError, Root};

use crate::conduct::Message;
use crate::made::Making;

/// So many pods are made at once.
const AT_ONCE: usize = 4;

/// What is being done.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// A pod is made.
    Make(Making),
    /// A pod is stopped and removed.
    Remove,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) pod: ObjectName,
    pub(crate) outcome: Result<(), PodError>,
}

/// Those at work.
#[derive(Debug)]
pub(crate) struct Crew {
    root: Root,
    out: Sender<Message>,
    tasks: BTreeMap<ObjectName, Task>,
}

impl Crew {
    pub(crate) fn new(root: Root, out: Sender<Message>) -> Self {
        Self { root, out, tasks: BTreeMap::new() }
    }

    /// What is being done with a pod.
    pub(crate) fn task(&self, pod: &ObjectName) -> Option<&Task> {
        self.tasks.get(pod)
    }

    /// The pods that are being made.
    pub(crate) fn making(&self) -> impl Iterator<Item = &Making> {
        self.tasks.values().filter_map(|task| match task {
            Task::Make(making) => Some(making),
            Task::Remove => None,
        })
    }

    /// Whether there are hands for another pod.
    pub(crate) fn has_room(&self) -> bool {
        self.making().count() < AT_ONCE
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Makes a pod.
    pub(crate) fn make(&mut self, making: Making, pod: Pod, values: Manifests, runtime: Option<String>) {
        let name = making.name.clone();
        self.start(name, Task::Make(making), move |root| root.run(&pod, &values, runtime.as_deref()));
    }

    /// Stops a pod and removes what is left of it.
    pub(crate) fn remove(&mut self, pod: &ObjectName) {
        let name = pod.clone();
        self.start(pod.clone(), Task::Remove, move |root| removed(root, &name));
    }

    /// What came of a task.
    pub(crate) fn done(&mut self, done: &Done) -> Option<Task> {
        self.tasks.remove(&done.pod)
    }

    fn start(
        &mut self,
        pod: ObjectName,
        task: Task,
        work: impl FnOnce(&Root) -> Result<(), PodError> + Send + 'static,
    ) {
        if self.tasks.contains_key(&pod) {
            return;
        }
        let (root, out, name) = (self.root.clone(), self.out.clone(), pod.clone());
        let thread = thread::Builder::new().name("pod".to_owned());
        // Nobody listens any more when the process ends.
        let work = move || drop(out.send(Message::Done(Done { outcome: work(&root), pod: name })));
        if thread.spawn(work).is_ok() {
            self.tasks.insert(pod, task);
        }
    }
}

/// Stops a pod and removes what is left of it; one that is gone already is what was wanted.
pub(crate) fn removed(root: &Root, pod: &ObjectName) -> Result<(), PodError> {
    match root.stop(pod, None).and_then(|()| root.remove(pod)) {
        Err(PodError::Unknown { .. }) => Ok(()),
        result => result,
    }
}
