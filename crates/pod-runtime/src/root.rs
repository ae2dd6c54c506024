//! The directory in which everything about pods is kept, and what can be done with the pods in it.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kernel_io::mounts::unmount_all;
use kernel_io::process::Launch;
use pod_manifests::{Manifests, ObjectName, Pod};
use pod_sandbox::Sandbox;
use rustix::fs::{FlockOperation, flock};

use crate::error::{PodError, file};
use crate::holder::{self, is_held};
use crate::image;
use crate::logs::Follow;
use crate::oci::{self, Oci, told};
use crate::order::{NodeFacts, Order, PodDirectory, key, make_directory};
use crate::sandbox;
use crate::status::{ContainerKind, PodStatus, State};

/// How often a file is looked at that another process writes.
const LOOK: Duration = Duration::from_millis(20);
/// How long a holder may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The directory in which everything about pods is kept.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    holder: Vec<OsString>,
    node: NodeFacts,
}

/// Held while the list of pods is changed.
#[derive(Debug)]
struct Lock(#[expect(dead_code, reason = "its life is the lock")] File);

/// What became of a pod whose holder had died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// The pod.
    pub pod: String,
    /// What became of it.
    pub outcome: Result<(), String>,
}

impl Root {
    /// Takes hold of a directory, which is made if it is not there. `holder` is the command line that calls
    /// [`crate::hold`] with two more words: the directory and a pod's place in it.
    pub fn open(path: &Path, holder: Vec<OsString>, node: NodeFacts) -> Result<Self, PodError> {
        make_directory(&path.join("pods"), 0o711)?;
        let path = fs::canonicalize(path).map_err(file("find", path))?;
        Ok(Self { path, holder, node })
    }

    /// What all pods are doing, in the order of their names.
    pub fn pods(&self) -> Result<Vec<PodStatus>, PodError> {
        let names = self.names()?;
        Ok(names.into_iter().filter_map(|name| self.directory(&name).status().ok()).collect())
    }

    /// What a pod is doing.
    pub fn status(&self, pod: &ObjectName) -> Result<PodStatus, PodError> {
        self.known(pod)?.status()
    }

    /// What a pod was told to be.
    pub fn pod(&self, pod: &ObjectName) -> Result<Pod, PodError> {
        let directory = self.known(pod)?;
        Ok(directory.order()?.read(&directory)?.0)
    }

    /// Starts a pod, with the `ConfigMaps` and Secrets of `objects`, and returns as soon as a holder has it.
    pub fn run(&self, pod: &Pod, objects: &Manifests, runtime: Option<&str>) -> Result<(), PodError> {
        let order = self.order(pod, objects, runtime)?;
        let directory = PodDirectory::of(&self.path, &pod.name);
        let _lock = self.lock()?;
        if directory.path.exists() {
            return Err(PodError::Exists { pod: pod.name.to_string() });
        }
        let made = directory.make(pod).and_then(|()| directory.write_order(&order));
        let started = made.and_then(|()| {
            let status = PodStatus::of(pod, order.uid.clone(), order.runtime.display().to_string());
            status.write(&directory.status_file())?;
            self.start_holder(&directory)
        });
        if started.is_err() {
            let _ = fs::remove_dir_all(&directory.path); // the first error is the one to tell
        }
        started
    }

    /// Waits until a pod is ready, or has done its work.
    pub fn await_ready(&self, pod: &ObjectName, limit: Option<Duration>) -> Result<PodStatus, PodError> {
        let directory = self.known(pod)?;
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            let status = directory.status()?;
            if status.ready || status.phase == crate::status::Phase::Succeeded {
                return Ok(status);
            }
            let not_ready = |message| Err(PodError::NotReady { pod: pod.to_string(), message });
            if status.is_over() {
                return not_ready(why_over(&status));
            }
            if let Some(message) = hopeless(&status) {
                return not_ready(message);
            }
            if !is_held(&directory) && !directory.status()?.is_over() {
                return not_ready("its holder has ended".to_owned());
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return not_ready(format!("it is {:?} still", status.phase));
            }
            thread::sleep(LOOK);
        }
    }

    /// Stops a pod and waits until nothing of it runs.
    pub fn stop(&self, pod: &ObjectName, grace: Option<u32>) -> Result<(), PodError> {
        let directory = self.known(pod)?;
        if is_held(&directory) {
            let told = holder::stop(&directory.socket(), grace);
            if let Err(source) = told
                && is_held(&directory)
            {
                return Err(file("reach the holder at", &directory.socket())(source));
            }
        }
        while is_held(&directory) {
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Removes a pod that runs no more.
    pub fn remove(&self, pod: &ObjectName) -> Result<(), PodError> {
        let _lock = self.lock()?;
        let directory = self.known(pod)?;
        if is_held(&directory) {
            return Err(PodError::Runs { pod: pod.to_string() });
        }
        self.clear(pod, &directory)
    }

    /// Gives every pod whose holder has died another one.
    pub fn adopt(&self) -> Result<Vec<Adoption>, PodError> {
        let _lock = self.lock()?;
        let mut adoptions = Vec::new();
        for name in self.names()? {
            let directory = self.directory(&name);
            if is_held(&directory) {
                continue;
            }
            let outcome = match directory.status() {
                Ok(status) if status.is_over() => continue,
                Ok(_) => self.start_holder(&directory).map_err(|error| error.told()),
                // Whoever made it ended before it was whole: nothing of it ran.
                Err(_) => {
                    let removed = fs::remove_dir_all(&directory.path);
                    Err(removed.map_or_else(|error| error.to_string(), |()| "was never whole".to_owned()))
                }
            };
            adoptions.push(Adoption { pod: name.replacen('_', "/", 1), outcome });
        }
        Ok(adoptions)
    }

    /// A command that becomes a program in a container.
    pub fn exec(
        &self,
        pod: &ObjectName,
        container: Option<&str>,
        words: &[String],
    ) -> Result<Command, PodError> {
        let directory = self.known(pod)?;
        let status = directory.status()?;
        let name = Self::container(&status, container)?;
        let state = status.container(&name).map(|container| container.state.clone());
        if let Some(state) = state.filter(|state| !matches!(state, State::Running { .. })) {
            let (pod, state) = (pod.to_string(), state.told());
            return Err(PodError::NotRunning { pod, container: name, state });
        }
        let oci = Oci::new(PathBuf::from(&status.runtime), &directory.path);
        Ok(oci.attached(&holder::id(pod, &name), words))
    }

    /// The log of a container.
    pub fn log(&self, pod: &ObjectName, container: Option<&str>) -> Result<Follow, PodError> {
        let directory = self.known(pod)?;
        let path = directory.log(&Self::container(&directory.status()?, container)?);
        Follow::new(&path).map_err(file("read", &path))
    }

    /// Whether nothing more will be written to the log of a container.
    pub fn log_is_over(&self, pod: &ObjectName) -> bool {
        let directory = PodDirectory::of(&self.path, pod);
        !is_held(&directory)
    }

    fn container(status: &PodStatus, wanted: Option<&str>) -> Result<String, PodError> {
        let names: Vec<_> = status.containers.iter().map(|container| container.name.as_str()).collect();
        let mut mains = status.containers.iter().filter(|one| one.kind == ContainerKind::Main);
        let wrong = |wanted: String| {
            Err(PodError::Container { pod: status.full_name(), has: names.join(", "), wanted })
        };
        match (wanted, mains.next(), mains.next()) {
            (Some(name), ..) if names.contains(&name) => Ok(name.to_owned()),
            (Some(name), ..) => wrong(format!("none is {name}")),
            (None, Some(only), None) => Ok(only.name.clone()),
            (None, ..) => wrong("say which (-c)".to_owned()),
        }
    }

    fn order(&self, pod: &Pod, objects: &Manifests, runtime: Option<&str>) -> Result<Order, PodError> {
        let runtime = oci::find(runtime)?;
        let images = image::fetched(pod, &self.path)?;
        let mut all = vec![pod.manifest.clone().into()];
        all.extend(objects.values_of(&pod.name.namespace));
        // As all who use plugins are told where they are.
        let plugins = env::var_os("CNI_PATH").unwrap_or_default();
        let plugins = env::split_paths(&plugins).filter(|path| path.is_absolute()).collect();
        Ok(Order { objects: all, images, runtime, uid: uid(), node: self.node.clone(), plugins })
    }

    fn start_holder(&self, directory: &PodDirectory) -> Result<(), PodError> {
        let log = directory.holder_log();
        let opened = File::options().create(true).append(true).open(&log).map_err(file("open", &log))?;
        let pod = directory.path.file_name().unwrap_or_default();
        let failed = |message| PodError::Holder { pod: pod.to_string_lossy().into_owned(), message };
        let Some((program, words)) = self.holder.split_first() else {
            return Err(failed("there is no command for it".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(words).arg(&self.path).arg(pod).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(opened);
        let started = Launch::new(command).in_own_session().start().map_err(|error| failed(told(&error)))?;
        let begun = Instant::now();
        while !is_held(directory) {
            if let Some(status) = started.process.ended() {
                // What cannot even begin has its reason written down, and stays to be looked at.
                if directory.status().is_ok_and(|status| status.is_over()) {
                    return Ok(());
                }
                let told = fs::read_to_string(&log).unwrap_or_default();
                let last = told.lines().last().unwrap_or_default().to_owned();
                return Err(failed(format!("ended with {status}: {last}")));
            }
            if begun.elapsed() > PATIENCE {
                return Err(failed("does not begin".to_owned()));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Removes all of a pod that has no holder.
    fn clear(&self, pod: &ObjectName, directory: &PodDirectory) -> Result<(), PodError> {
        if let Ok(order) = directory.order() {
            let oci = Oci::new(order.runtime.clone(), &directory.path);
            let containers = directory.path.join("containers");
            for container in entries(&containers)? {
                oci.delete(&container, &holder::id(pod, &container))?;
            }
            let node = sandbox::node(&self.path, &order)?;
            let name = key(pod);
            let failed = |error: &dyn std::error::Error| PodError::Sandbox(told(error));
            if Sandbox::names(&node).map_err(|error| failed(&error))?.contains(&name)
                && let pod_sandbox::Adopted::Standing(mut sandbox) =
                    Sandbox::adopt(&name, &node).map_err(|error| failed(&error))?
            {
                sandbox.remove().map_err(|error| failed(&error))?;
            }
        }
        // By name and first of all: behind them are directories of the node.
        let views = entries(&directory.path.join("views")).unwrap_or_default();
        let views = views.iter().map(|volume| directory.view(volume));
        for below in views.chain(mounts_below(&directory.path)) {
            unmount_all(&below).map_err(|error| PodError::Sandbox(told(&error)))?;
        }
        fs::remove_dir_all(&directory.path).map_err(file("remove", &directory.path))
    }

    fn known(&self, pod: &ObjectName) -> Result<PodDirectory, PodError> {
        let directory = PodDirectory::of(&self.path, pod);
        if directory.path.is_dir() { Ok(directory) } else { Err(PodError::Unknown { pod: pod.to_string() }) }
    }

    fn names(&self) -> Result<Vec<String>, PodError> {
        entries(&self.path.join("pods"))
    }

    fn directory(&self, name: &str) -> PodDirectory {
        PodDirectory { path: self.path.join("pods").join(name) }
    }

    fn lock(&self) -> Result<Lock, PodError> {
        let path = self.path.join("pods.lock");
        let mut lock = File::create(&path).map_err(file("open", &path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| file("lock", &path)(errno.into()))?;
        let _ = write!(lock, "{}", std::process::id()); // for people who look
        Ok(Lock(lock))
    }
}

/// What is in a directory, in order.
fn entries(path: &Path) -> Result<Vec<String>, PodError> {
    let entries = fs::read_dir(path).map_err(file("read", path))?;
    let mut names: Vec<_> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// What is mounted below a directory, the last that was mounted first.
fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut below: Vec<_> = places.filter(|place| place.starts_with(path)).collect();
    below.reverse();
    below
}

/// Why a pod is over, in a line.
fn why_over(status: &PodStatus) -> String {
    if !status.message.is_empty() {
        return status.message.clone();
    }
    let bad = status.containers.iter().find_map(|container| match &container.state {
        State::Terminated(ended) if ended.exit_code != 0 => Some((container, ended)),
        State::Terminated(_) | State::Waiting { .. } | State::Running { .. } => None,
    });
    match bad {
        Some((_, ended)) if ended.reason == "StartError" => ended.message.clone(),
        Some((container, ended)) => {
            format!("container {} ended: {} ({})", container.name, ended.reason, ended.exit_code)
        }
        None => "it is over".to_owned(),
    }
}

/// Why a pod cannot become ready by waiting: a container cannot be started at all.
fn hopeless(status: &PodStatus) -> Option<String> {
    status.containers.iter().find_map(|container| {
        let last = container.last.as_ref()?;
        (last.reason == "StartError" && container.restarts > 0).then(|| last.message.clone())
    })
}

/// A number that no other pod has, from the kernel.
fn uid() -> String {
    let read = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    read.trim().to_owned()
}
