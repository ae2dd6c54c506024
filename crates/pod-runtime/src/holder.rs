//! The process that holds a pod: it makes the sandbox, runs the containers, and keeps what is known of them in a file.
//!
//! It is small, has no async runtime, and nobody waits for it: whoever started it may die. If it dies itself, the
//! containers go on, and another takes over by what stands in the pod's directory.

mod attempt;
mod control;
mod course;
mod probing;
mod supervisor;

pub(crate) use control::stop;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kernel_io::memory;
use kernel_io::namespaces::{IdRange, Namespace};
use kernel_io::process::{End, adopt_orphans};
use pod_manifests::{Container, Facts, Manifests, Pod, Values};
use pod_sandbox::{Adopted, Node, Sandbox};
use rustix::fs::{FlockOperation, flock};

use crate::error::{PodError, file};
use crate::image::Image;
use crate::oci::{Oci, told};
use crate::order::{NodeFacts, PodDirectory, key};
use crate::sandbox;
use crate::status::{ContainerStatus, PodStatus, State};
use crate::volumes::{self, Places};

/// Enough for a thread of a holder: it waits most of its life.
const STACK: usize = 256 * 1024;

/// Longer than anybody looks at a lock.
const LOOKS: Duration = Duration::from_secs(2);

/// What the threads of a holder share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) pod: Pod,
    pub(crate) objects: Manifests,
    pub(crate) facts: Facts,
    pub(crate) directory: PodDirectory,
    pub(crate) oci: Oci,
    images: BTreeMap<String, Image>,
    places: Places,
    surroundings: Surroundings,
    inner: Mutex<Inner>,
    bell: Condvar,
    begun: Instant,
}

/// What containers get from the sandbox.
#[derive(Debug)]
struct Surroundings {
    namespaces: Vec<(Namespace, PathBuf)>,
    hosts: PathBuf,
    hostname: PathBuf,
    resolv_conf: PathBuf,
    shm: PathBuf,
    users: Option<OwnUsers>,
    cgroups: BTreeMap<String, String>,
}

/// The pod's own user numbers.
#[derive(Clone, Debug)]
pub(crate) struct OwnUsers {
    /// The file that stands for its user namespace.
    pub(crate) namespace: PathBuf,
    /// What they are outside.
    pub(crate) ids: IdRange,
}

/// What changes.
#[derive(Debug)]
struct Inner {
    status: PodStatus,
    stop: Option<Stop>,
    /// Containers whose end is wanted although the pod was not told to stop: sidecars, when the others have ended.
    dismissed: Vec<String>,
    /// Containers that are over for good.
    finished: BTreeSet<String>,
    /// Why a running container shall end.
    condemned: BTreeMap<String, Sentence>,
    /// How the processes of containers have ended.
    ends: BTreeMap<String, End>,
    /// What the file says.
    written: Option<PodStatus>,
}

/// That the pod shall end.
#[derive(Clone, Debug)]
struct Stop {
    /// When whoever still runs is killed.
    deadline: Instant,
    reason: Option<(String, String)>,
}

/// Why a running container shall end.
#[derive(Clone, Debug)]
struct Sentence {
    reason: String,
    grace: Duration,
}

/// Holds a pod until it is over.
pub fn hold(root: &Path, pod: &str) -> Result<(), PodError> {
    memory::share_one_heap();
    let directory = PodDirectory { path: root.join("pods").join(pod) };
    let _lock = lock(&directory)?;
    let outcome = begin(root, &directory);
    match outcome {
        Ok((shared, sandbox)) => course::run(&Arc::new(shared), sandbox),
        Err(error) => {
            give_up(&directory, &error);
            Err(error)
        }
    }
}

/// Held as long as the holder lives; who finds it free knows that there is none.
fn lock(directory: &PodDirectory) -> Result<File, PodError> {
    let path = directory.lock();
    let lock = File::create(&path).map_err(file("open", &path))?;
    let begun = Instant::now();
    // Who looks whether there is a holder holds the lock for an instant as well.
    while let Err(errno) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        if begun.elapsed() > LOOKS {
            return Err(file("lock", &path)(errno.into()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(lock)
}

/// Whether somebody holds a pod.
pub(crate) fn is_held(directory: &PodDirectory) -> bool {
    match File::options().read(true).open(directory.lock()) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockShared).is_err(),
        Err(_) => false,
    }
}

/// What could not even begin has failed, and says so.
fn give_up(directory: &PodDirectory, error: &PodError) {
    let Ok(order) = directory.order() else { return };
    let Ok((pod, _)) = order.read(directory) else { return };
    let mut status = directory
        .status()
        .unwrap_or_else(|_| PodStatus::of(&pod, order.uid.clone(), order.runtime.display().to_string()));
    status.phase = crate::status::Phase::Failed;
    "Failed".clone_into(&mut status.reason);
    status.message = error.told();
    status.ready = false;
    let _ = status.write(&directory.status_file()); // the error is told to our log as well
}

fn begin(root: &Path, directory: &PodDirectory) -> Result<(Shared, Sandbox), PodError> {
    adopt_orphans().map_err(file("adopt orphans of", &directory.path))?;
    let order = directory.order()?;
    let (pod, objects) = order.read(directory)?;
    let runtime = order.runtime.display().to_string();
    let known = directory.status().ok();
    let mut status = known.unwrap_or_else(|| PodStatus::of(&pod, order.uid.clone(), runtime));
    status.holder = std::process::id();
    status.write(&directory.status_file())?;
    let oci = Oci::new(order.runtime.clone(), &directory.path);
    let node = sandbox::node(root, &order)?;
    let sandbox = stand(&pod, &order.uid, &node, &oci, &status)?;
    status.ips = sandbox.addresses().to_vec();
    let facts = facts(&order.node, &order.uid, &sandbox);
    let users = sandbox.namespace(Namespace::User).zip(sandbox.ids());
    let users = users.map(|(namespace, ids)| OwnUsers { namespace, ids });
    let values = Values { pod: &pod, objects: &objects, facts: &facts };
    let places = volumes::make(values, directory, users.as_ref())?;
    let surroundings = Surroundings {
        namespaces: sandbox.namespaces(),
        hosts: sandbox.hosts(),
        hostname: sandbox.hostname(),
        resolv_conf: sandbox.resolv_conf(),
        shm: sandbox.shm(),
        users,
        cgroups: pod
            .spec
            .all_containers()
            .map(|container| (container.name.clone(), sandbox.cgroup_name(Some(&container.name))))
            .collect(),
    };
    let inner = Inner {
        status,
        stop: None,
        dismissed: Vec::new(),
        finished: BTreeSet::new(),
        condemned: BTreeMap::new(),
        ends: BTreeMap::new(),
        written: None,
    };
    let shared = Shared {
        directory: directory.clone(),
        images: order.images,
        inner: Mutex::new(inner),
        bell: Condvar::new(),
        begun: Instant::now(),
        pod,
        objects,
        facts,
        oci,
        places,
        surroundings,
    };
    shared.change(|_| ());
    Ok((shared, sandbox))
}

/// The sandbox: the one that an earlier holder made, or a new one if no container was ever in it.
fn stand(pod: &Pod, uid: &str, node: &Node, oci: &Oci, status: &PodStatus) -> Result<Sandbox, PodError> {
    let name = key(&pod.name);
    let names = Sandbox::names(node).map_err(|error| PodError::Sandbox(told(&error)))?;
    let untouched = |container: &ContainerStatus| {
        matches!(container.state, State::Waiting { .. })
            && container.last.is_none()
            && container.restarts == 0
    };
    let fresh = status.containers.iter().all(untouched);
    if names.contains(&name) {
        match Sandbox::adopt(&name, node).map_err(|error| PodError::Sandbox(told(&error)))? {
            Adopted::Standing(sandbox) => return Ok(*sandbox),
            Adopted::Removed(broken) if !fresh => {
                for container in pod.spec.all_containers() {
                    let _ = oci.delete(&container.name, &id(&pod.name, &container.name)); // its sandbox is gone
                }
                return Err(PodError::Sandbox(format!("the sandbox was removed: {broken}")));
            }
            Adopted::Removed(_) => {}
        }
    }
    let spec = sandbox::spec(pod, &name, uid);
    Sandbox::create(&spec, node).map_err(|error| PodError::Sandbox(told(&error)))
}

fn facts(node: &NodeFacts, uid: &str, sandbox: &Sandbox) -> Facts {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let memory = memory.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let resources = pod_manifests::Resources {
        memory_limit: memory.map(|kilobytes| kilobytes * 1024),
        cpu_limit: Some(processors * 1000),
        ..pod_manifests::Resources::default()
    };
    let own = sandbox.addresses().to_vec();
    Facts {
        pod_ips: own,
        host_ips: Vec::new(),
        node_name: node.name.clone(),
        uid: uid.to_owned(),
        node: resources,
    }
}

/// What a container is called in the runtime.
pub(crate) fn id(pod: &pod_manifests::ObjectName, container: &str) -> String {
    format!("{}_{container}", key(pod))
}

impl Shared {
    /// What a container is called in the runtime.
    pub(crate) fn id(&self, container: &Container) -> String {
        id(&self.pod.name, &container.name)
    }

    /// The address at which the pod's own ports are.
    pub(crate) fn own_address(&self) -> IpAddr {
        self.facts.pod_ips.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn values(&self) -> Values<'_> {
        Values { pod: &self.pod, objects: &self.objects, facts: &self.facts }
    }

    /// Changes what is known, writes it down if it is something else than before, and wakes who waits for it.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.locked();
        let result = change(&mut inner);
        inner.settle(&self.pod);
        if inner.written.as_ref() != Some(&inner.status) {
            // A disk that is full must not end the pod; the next change tries again.
            if inner.status.write(&self.directory.status_file()).is_ok() {
                inner.written = Some(inner.status.clone());
            }
        }
        self.bell.notify_all();
        result
    }

    fn change_container<T>(&self, name: &str, change: impl FnOnce(&mut ContainerStatus) -> T) -> Option<T> {
        self.change(|inner| {
            inner.status.containers.iter_mut().find(|container| container.name == name).map(change)
        })
    }

    fn container_status(&self, name: &str) -> Option<ContainerStatus> {
        self.locked().status.container(name).cloned()
    }

    /// Waits until this is so, but no longer than until then.
    fn wait_until<T>(
        &self,
        deadline: Option<Instant>,
        mut is_so: impl FnMut(&mut Inner) -> Option<T>,
    ) -> Option<T> {
        let mut inner = self.locked();
        loop {
            if let Some(result) = is_so(&mut inner) {
                return Some(result);
            }
            let limit = match deadline {
                None => Duration::from_hours(1),
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            };
            if limit.is_zero() {
                return None;
            }
            (inner, _) = self.bell.wait_timeout(inner, limit).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether a container is called to end with its pod: a sidecar is so only when the others have.
    fn is_called(&self, container: &Container) -> bool {
        let with_the_others = self.stop.is_some() && container.kind != pod_manifests::Kind::Sidecar;
        let condemned = self.condemned.contains_key(&container.name);
        with_the_others || condemned || self.dismissed.contains(&container.name)
    }

    /// What follows for the pod from what its containers do.
    fn settle(&mut self, pod: &Pod) {
        let serving =
            pod.spec.all_containers().filter(|container| container.kind != pod_manifests::Kind::Init);
        let ready = serving.map(|container| self.status.container(&container.name)).all(|status| {
            status.is_some_and(|status| status.ready && matches!(status.state, State::Running { .. }))
        });
        self.status.ready = ready && !self.status.is_over();
    }
}
