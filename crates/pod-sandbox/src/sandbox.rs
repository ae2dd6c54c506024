//! A sandbox that stands: made, taken over after a crash, and removed.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use kernel_io::cgroup::Cgroup;
use kernel_io::link::Links;
use kernel_io::namespaces::{IdRange, Namespace, Namespaces};
use kernel_io::netns::Netns;
use kernel_io::process::{Found, Launch, Started};
use thiserror::Error;

use crate::journal::{self, Journal, JournalError, Record, Stage};
use crate::kernel::{Kernel, StepError};
use crate::linux::Linux;
use crate::node::Node;
use crate::spec::{PidSharing, SandboxSpec};
use crate::steps::{Step, Trace, Wiring, own_namespaces, reservations, steps};

/// A sandbox that stands. Dropping the value leaves it alone: it outlives this process.
#[derive(Debug)]
pub struct Sandbox(Linux);

/// What became of a sandbox that an earlier process had made, or had begun to make.
#[derive(Debug)]
pub enum Adopted {
    /// It stands as it was made.
    Standing(Box<Sandbox>),
    /// It did not, and what was left of it is removed.
    Removed(Broken),
}

/// Why a sandbox is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Broken {
    /// The machine has started anew since.
    #[error("the machine has started anew")]
    Rebooted,
    /// Whoever made it ended before it was ready.
    #[error("it was never finished")]
    Unfinished,
    /// Whoever removed it ended before all was gone.
    #[error("its removal was not finished")]
    HalfRemoved,
    /// A namespace is gone.
    #[error("its {0} namespace is gone")]
    Namespace(Namespace),
    /// The process that held the pod has ended.
    #[error("pause has ended")]
    Pause,
    /// The cgroup is gone.
    #[error("its cgroup is gone")]
    Cgroup,
    /// The node's end of its link is gone.
    #[error("its link {0} is gone")]
    Link(String),
    /// What was mounted is gone.
    #[error("its memory for /dev/shm is gone")]
    Memory,
}

/// A sandbox that could not be made. Everything that was done is undone, save what `left` names.
#[derive(Debug, Error)]
pub enum CreateError {
    /// Nothing was begun.
    #[error("sandbox {name}: {cause}")]
    Refused {
        /// The sandbox.
        name: String,
        /// Why.
        cause: Box<StepError>,
    },
    /// A step failed.
    #[error("sandbox {name}: {step}: {}{left}", chain(cause))]
    Failed {
        /// The sandbox.
        name: String,
        /// The step.
        step: Box<Step>,
        /// Why.
        cause: Box<StepError>,
        /// What could not be undone.
        left: Left,
    },
}

/// Something of a sandbox could not be removed; the rest is, and another try may do it.
#[derive(Debug, Error)]
pub enum RemoveError {
    /// Its state.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// That it is to be removed could not be written down.
    #[error(transparent)]
    State(Box<StepError>),
    /// What could not be undone.
    #[error("remove sandbox {name}{left}")]
    Left {
        /// The sandbox.
        name: String,
        /// What is left.
        left: Left,
    },
}

/// What could not be undone, and why, in the order in which it was tried.
#[derive(Debug, Default)]
pub struct Left(pub Vec<(Trace, StepError)>);

/// Does all steps, in order; when one fails, undoes backwards those that were begun, and forgets the sandbox.
pub fn make<K: Kernel>(kernel: &mut K) -> Result<(), CreateError> {
    let first = reservations(&kernel.record().spec, &kernel.wiring());
    all(kernel, &first)?;
    // What the first have taken decides about the others.
    let others = steps(&kernel.record().spec, &kernel.wiring(), &kernel.record().known);
    all(kernel, &others)?;
    kernel.finish().map_err(|cause| failed(kernel, &Step::AdmitProcesses, cause))
}

fn all<K: Kernel>(kernel: &mut K, steps: &[Step]) -> Result<(), CreateError> {
    steps.iter().try_for_each(|step| {
        let begun = step.trace().map_or(Ok(()), |trace| kernel.begin(trace));
        begun.and_then(|()| kernel.apply(step)).map_err(|cause| failed(kernel, step, cause))
    })
}

fn failed<K: Kernel>(kernel: &mut K, step: &Step, cause: StepError) -> CreateError {
    let left = undone(kernel);
    let name = kernel.record().spec.name.clone();
    CreateError::Failed { name, step: Box::new(step.clone()), cause: Box::new(cause), left }
}

/// Undoes everything backwards. What fails does not keep the rest from being undone; the sandbox is forgotten only when
/// nothing is left.
pub fn unmake<K: Kernel>(kernel: &mut K) -> Result<(), RemoveError> {
    kernel.leave().map_err(|cause| RemoveError::State(Box::new(cause)))?;
    match undone(kernel) {
        left if left.0.is_empty() => Ok(()),
        left => Err(RemoveError::Left { name: kernel.record().spec.name.clone(), left }),
    }
}

fn undone<K: Kernel>(kernel: &mut K) -> Left {
    let mut left = Vec::new();
    for trace in kernel.record().traces.clone().into_iter().rev() {
        if let Err(error) = kernel.undo(&trace) {
            left.push((trace, error));
        }
    }
    if left.is_empty()
        && let Err(error) = kernel.forget()
    {
        left.push((Trace::Processes, error));
    }
    Left(left)
}

impl Sandbox {
    /// Makes a sandbox.
    pub fn create(spec: &SandboxSpec, node: &Node) -> Result<Self, CreateError> {
        let mut linux = Linux::begin(spec, node)
            .map_err(|cause| CreateError::Refused { name: spec.name.clone(), cause: Box::new(cause) })?;
        make(&mut linux)?;
        Ok(Self(linux))
    }

    /// Takes over the sandbox of this name that an earlier process has made, if it stands as it was made; removes what is
    /// left of it otherwise.
    pub fn adopt(name: &str, node: &Node) -> Result<Adopted, RemoveError> {
        let journal = match Journal::open(node, name) {
            // Nothing is made before the first line is there.
            Err(JournalError::Unreadable { .. }) => {
                journal::remove(&node.sandboxes().join(name))?;
                return Ok(Adopted::Removed(Broken::Unfinished));
            }
            journal => journal?,
        };
        let mut sandbox = Self(Linux::over(node, journal, Wiring::Routed));
        match sandbox.broken() {
            None => {
                sandbox.0.journal().release()?;
                Ok(Adopted::Standing(Box::new(sandbox)))
            }
            Some(broken) => {
                unmake(&mut sandbox.0)?;
                Ok(Adopted::Removed(broken))
            }
        }
    }

    /// Takes over, or removes, every sandbox of the node, in the order of their names.
    #[expect(clippy::type_complexity, reason = "a name and what became of it")]
    pub fn adopt_all(node: &Node) -> Result<Vec<(String, Result<Adopted, RemoveError>)>, JournalError> {
        let names = Self::names(node)?;
        Ok(names.into_iter().map(|name| (name.clone(), Self::adopt(&name, node))).collect())
    }

    /// The names of all sandboxes of the node, whole or not.
    pub fn names(node: &Node) -> Result<Vec<String>, JournalError> {
        let path = node.sandboxes();
        let entries = fs::read_dir(&path).map_err(|source: io::Error| JournalError::File {
            verb: "read",
            path,
            source,
        })?;
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// What is known of a sandbox, whoever is at work on it.
    pub fn look(name: &str, node: &Node) -> Result<Record, JournalError> {
        journal::read(&node.sandboxes().join(name), name)
    }

    /// Ends every process of the pod and undoes everything. What fails is kept for another call, and does not keep the
    /// rest from being undone. Whoever started processes in the pod must reap them, else the kernel keeps pause waiting.
    pub fn remove(&mut self) -> Result<(), RemoveError> {
        match self.0.journal().hold() {
            // Another was faster.
            Err(JournalError::Absent { .. }) => Ok(()),
            held => {
                held?;
                unmake(&mut self.0)
            }
        }
    }

    /// What is wrong with it, if something is.
    pub fn broken(&self) -> Option<Broken> {
        let record = self.0.record();
        match record.stage {
            _ if record.boot != journal::boot() => return Some(Broken::Rebooted),
            Stage::Making => return Some(Broken::Unfinished),
            Stage::Removing => return Some(Broken::HalfRemoved),
            Stage::Ready => {}
        }
        let files = self.0.namespaces();
        let gone = record.known.namespaces.iter().find(|(kind, known)| files.identity(*kind) != Some(*known));
        if let Some((kind, _)) = gone {
            return Some(Broken::Namespace(*kind));
        }
        record.traces.iter().find_map(|trace| self.broken_trace(trace))
    }

    fn broken_trace(&self, trace: &Trace) -> Option<Broken> {
        match trace {
            Trace::Pause => self.pause().is_none().then_some(Broken::Pause),
            Trace::Cgroup => (!self.0.cgroup().is_ok_and(|cgroup| cgroup.exists())).then_some(Broken::Cgroup),
            Trace::Link(name) => {
                let there = Links::of(self.0.node().netns()).and_then(|mut links| links.get(name));
                there.is_err().then(|| Broken::Link(name.clone()))
            }
            Trace::Memory => {
                let device = |path: PathBuf| fs::metadata(path).map(|file| file.dev()).ok();
                let outside = device(self.0.directory().to_path_buf());
                (device(self.0.memory()) == outside).then_some(Broken::Memory)
            }
            // Namespaces are looked at by number, and what plugins made is theirs to check.
            Trace::Addresses
            | Trace::Ports
            | Trace::PortMap(_)
            | Trace::Ids
            | Trace::Namespaces(_)
            | Trace::Attachment(_)
            | Trace::Processes => None,
        }
    }

    /// What it was made to be.
    pub fn spec(&self) -> &SandboxSpec {
        &self.0.record().spec
    }

    /// The pod's addresses; none on the node's network.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.0.record().known.addresses
    }

    /// The pod's user and group numbers, if it has its own: what 0, 1, 2, … inside are outside.
    pub fn ids(&self) -> Option<IdRange> {
        self.0.record().known.ids
    }

    /// The namespaces that containers join, each with the file that stands for it; the others are the node's, but that
    /// with [`PidSharing::Container`] each container makes a PID namespace of its own.
    pub fn namespaces(&self) -> Vec<(Namespace, PathBuf)> {
        let files = self.0.namespaces();
        let kinds = self.0.record().known.namespaces.iter().map(|(kind, _)| *kind);
        kinds.map(|kind| (kind, files.path(kind))).collect()
    }

    /// The file that stands for a namespace, if the pod has its own.
    pub fn namespace(&self, kind: Namespace) -> Option<PathBuf> {
        self.namespaces().into_iter().find(|(own, _)| *own == kind).map(|(_, path)| path)
    }

    /// The pod's network namespace, or the node's if the pod has none of its own.
    pub fn netns(&self) -> Result<Netns, StepError> {
        match self.namespace(Namespace::Net) {
            Some(path) => Ok(Netns::at(&path)?),
            None => Ok(self.0.node().netns().clone()),
        }
    }

    /// What becomes the containers' /etc/hosts.
    pub fn hosts(&self) -> PathBuf {
        self.0.directory().join("hosts")
    }

    /// What becomes the containers' /etc/hostname.
    pub fn hostname(&self) -> PathBuf {
        self.0.directory().join("hostname")
    }

    /// What becomes the containers' /etc/resolv.conf.
    pub fn resolv_conf(&self) -> PathBuf {
        self.0.directory().join("resolv.conf")
    }

    /// The directory that becomes the containers' /dev/shm.
    pub fn shm(&self) -> PathBuf {
        self.0.memory()
    }

    /// The name of the pod's cgroup, or of a container's below it: its place in every tree, as an OCI runtime takes it
    /// with a `/` in front. The pod's limits hold for all that are below it.
    pub fn cgroup_name(&self, container: Option<&str>) -> String {
        self.0.cgroup_name(container)
    }

    /// The cgroup of a container, made if it is not there. It goes with the sandbox.
    pub fn container_cgroup(&self, container: &str) -> Result<Cgroup, StepError> {
        Ok(self.0.node().cgroups().ensure(&self.cgroup_name(Some(container)))?)
    }

    /// The process that holds the pod's PID namespace, if there is one and it runs. The containers end with it.
    pub fn pause(&self) -> Option<Found> {
        self.0.pause()
    }

    /// Asks the plugins of a CNI network whether all is as they made it.
    pub fn check_network(&self) -> Result<(), StepError> {
        self.0.check_attachment()
    }

    /// The processes of the pod, `pause` among them, by the numbers that we see.
    pub fn processes(&self) -> Result<Vec<u32>, StepError> {
        Ok(self.0.cgroup()?.pids()?)
    }

    /// A command made ready to start inside the pod, as a container without a root of its own: in its namespaces, with a
    /// /proc that shows its processes, and in a cgroup of this name.
    pub fn launch(&self, container: &str, command: Command) -> Result<Launch, StepError> {
        let launch = Launch::new(command).in_cgroup(self.container_cgroup(container)?.entrances()?);
        let mut kinds = own_namespaces(self.spec());
        kinds.extend(self.ids().map(|_| Namespace::User));
        Ok(match self.spec().pids {
            PidSharing::Pod => {
                kinds.push(Namespace::Pid);
                launch.joining(self.held(&kinds)?).in_new(&[Namespace::Mount]).with_own_proc()
            }
            PidSharing::Container => {
                launch.joining(self.held(&kinds)?).in_new(&[Namespace::Pid, Namespace::Mount]).with_own_proc()
            }
            PidSharing::Node => launch.joining(self.held(&kinds)?),
        })
    }

    /// Starts a process inside the pod that ends with us.
    pub fn join(&self, container: &str, command: Command) -> Result<Started, StepError> {
        Ok(self.launch(container, command)?.dying_with_us().start()?)
    }

    fn held(&self, kinds: &[Namespace]) -> Result<Namespaces, StepError> {
        Ok(self.0.namespaces().open(kinds)?)
    }
}

/// An error and all that caused it, in one line.
fn chain(error: &StepError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl fmt::Display for Left {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (trace, error) in &self.0 {
            write!(formatter, "; not undone: {trace} ({})", chain(error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
