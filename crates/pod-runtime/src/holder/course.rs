//! The course of a pod: init containers one after another, the others together, and everybody's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kernel_io::memory::Program;
use kernel_io::mounts::unmount_all;
use kernel_io::process::Reaper;
use pod_manifests::{Container, Kind, Medium, VolumeSource};
use pod_sandbox::Sandbox;
use tracing::warn;

use super::{Shared, Stop, control, supervisor};
use crate::error::PodError;
use crate::oci::told;
use crate::status::{Phase, State};

/// How often orphans that nobody knows are reaped.
const REAP: Duration = Duration::from_secs(5);
/// How long after it began to wait the holder rests for the first time.
const QUIET: Duration = Duration::from_secs(1);

/// A container that a thread looks after.
#[derive(Debug)]
struct Supervised {
    name: String,
    thread: JoinHandle<()>,
}

/// What init containers leave: the sidecars among them, and whether the pod can go on.
struct Initialized {
    sidecars: Vec<Supervised>,
    outcome: Result<(), ()>,
}

/// How often, while the pod is removed.
const SOON: Duration = Duration::from_millis(20);

/// Runs a pod to its end.
pub(super) fn run(shared: &Arc<Shared>, sandbox: Sandbox) -> Result<(), PodError> {
    let _control = control::listen(shared)?;
    let Initialized { sidecars, outcome } = initialized(shared);
    if outcome.is_ok() && shared.locked().stop.is_none() {
        let mains = shared.pod.spec.containers.iter().filter_map(|one| supervised(shared, one)).collect();
        shared.change(|inner| inner.status.phase = Phase::Running);
        over(shared, mains);
    }
    dismissed(shared, sidecars);
    let left = undone(shared, sandbox);
    shared.change(|inner| conclude(inner, left.as_ref().err()));
    left
}

fn initialized(shared: &Arc<Shared>) -> Initialized {
    let mut sidecars = Vec::new();
    for container in &shared.pod.spec.init_containers {
        let sidecar = container.kind == Kind::Sidecar;
        if sidecar || !has_ended_well(shared, container) {
            let Some(supervised) = supervised(shared, container) else {
                return Initialized { sidecars, outcome: Err(()) };
            };
            if sidecar {
                sidecars.push(supervised);
                begun(shared, container);
            } else {
                over(shared, vec![supervised]);
            }
        }
        let failed = !sidecar && !has_ended_well(shared, container);
        if failed || shared.locked().stop.is_some() {
            return Initialized { sidecars, outcome: Err(()) };
        }
    }
    Initialized { sidecars, outcome: Ok(()) }
}

/// Waits until a sidecar has started.
fn begun(shared: &Shared, container: &Container) {
    let begun = shared.wait_until(deadline(shared), |inner| {
        let started = inner.status.container(&container.name).is_some_and(|status| status.started);
        (started || inner.stop.is_some()).then_some(())
    });
    if begun.is_none() {
        expired(shared);
    }
}

fn has_ended_well(shared: &Shared, container: &Container) -> bool {
    let status = shared.container_status(&container.name);
    matches!(status.map(|status| status.state), Some(State::Terminated(ended)) if ended.exit_code == 0)
}

/// A thread that looks after a container.
fn supervised(shared: &Arc<Shared>, container: &Container) -> Option<Supervised> {
    let (own, container, name) = (Arc::clone(shared), container.clone(), container.name.clone());
    let thread = thread::Builder::new().name("container".to_owned()).stack_size(super::STACK);
    let started = thread.spawn(move || {
        supervisor::supervise(&own, &container);
        own.change(|inner| inner.finished.insert(container.name.clone()));
    });
    let started = started.inspect_err(|error| warn!(%error, "no thread for a container")).ok()?;
    Some(Supervised { name, thread: started })
}

/// Waits until all of these containers are over for good, and tells the pod to stop when its time is over. Meanwhile
/// the holder rests.
fn over(shared: &Arc<Shared>, supervised: Vec<Supervised>) {
    let (limit, mut reaper) = (deadline(shared), Reaper::default());
    let program = Program::of_this_process().inspect_err(|error| warn!(%error, "no rest")).ok();
    let mut pause = QUIET;
    loop {
        let next = Instant::now() + pause;
        let all = shared
            .wait_until(Some(limit.map_or(next, |limit| limit.clamp(Instant::now(), next))), |inner| {
                supervised.iter().all(|one| inner.finished.contains(&one.name)).then_some(())
            });
        if all.is_some() {
            break;
        }
        reaper.reap_others(&pids(shared));
        if limit.is_some_and(|limit| Instant::now() >= limit) {
            expired(shared);
        }
        pause = REAP;
        if let Some(Err(error)) = program.as_ref().map(Program::rest) {
            warn!(%error, "memory not given back");
        }
    }
    for one in supervised {
        let _ = one.thread.join(); // one that panicked is over as well
    }
}

/// The numbers of processes that somebody waits for.
fn pids(shared: &Shared) -> Vec<u32> {
    let inner = shared.locked();
    let running = inner.status.containers.iter().filter_map(|container| match container.state {
        State::Running { pid, .. } => Some(pid),
        State::Waiting { .. } | State::Terminated(_) => None,
    });
    running.collect()
}

/// When the pod has lived too long.
fn deadline(shared: &Shared) -> Option<Instant> {
    shared.pod.spec.deadline.map(|seconds| shared.begun + Duration::from_secs(u64::from(seconds)))
}

fn expired(shared: &Shared) {
    let grace = Duration::from_secs(u64::from(shared.pod.spec.grace));
    let reason = ("DeadlineExceeded".to_owned(), "it ran longer than spec.activeDeadlineSeconds".to_owned());
    shared.change(|inner| {
        let deadline = Instant::now() + grace;
        inner.stop.get_or_insert(Stop { deadline, reason: Some(reason) });
    });
}

/// Lets the sidecars go, the last that was started first.
fn dismissed(shared: &Arc<Shared>, sidecars: Vec<Supervised>) {
    for sidecar in sidecars.into_iter().rev() {
        shared.change(|inner| inner.dismissed.push(sidecar.name.clone()));
        over(shared, vec![sidecar]);
    }
}

/// Undoes what stands outside of the pod's directory.
fn undone(shared: &Shared, mut sandbox: Sandbox) -> Result<(), PodError> {
    for container in shared.pod.spec.all_containers() {
        shared.oci.delete(&container.name, &shared.id(container))?;
    }
    let removed = while_reaping(|| sandbox.remove());
    removed.map_err(|error| PodError::Sandbox(told(&error)))?;
    unmounted(shared)
}

/// Does something while orphans are reaped: what crun leaves and what is killed in the pod would else stay in its cgroup.
fn while_reaping<T>(work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut reaper = Reaper::default();
            while !over.load(Ordering::Acquire) {
                reaper.reap_others(&[]);
                thread::sleep(SOON);
            }
        });
        let result = work();
        over.store(true, Ordering::Release);
        result
    })
}

fn unmounted(shared: &Shared) -> Result<(), PodError> {
    let failed = |error| PodError::Sandbox(told(&error));
    for container in shared.pod.spec.all_containers() {
        unmount_all(&shared.directory.container(&container.name).join("rootfs")).map_err(failed)?;
    }
    for volume in &shared.pod.spec.volumes {
        if matches!(volume.source, VolumeSource::EmptyDir { medium: Medium::Memory, .. }) {
            unmount_all(&shared.directory.volume(&volume.name)).map_err(failed)?;
        }
    }
    Ok(())
}

/// How the pod ended.
fn conclude(inner: &mut super::Inner, left: Option<&PodError>) {
    let status = &mut inner.status;
    let well = |state: &State| matches!(state, State::Terminated(ended) if ended.exit_code == 0);
    let counted = status.containers.iter().filter(|one| one.kind != crate::status::ContainerKind::Sidecar);
    let succeeded = counted.map(|container| &container.state).all(well);
    status.phase = if succeeded { Phase::Succeeded } else { Phase::Failed };
    if let Some((reason, message)) = inner.stop.as_ref().and_then(|stop| stop.reason.clone()) {
        (status.phase, status.reason, status.message) = (Phase::Failed, reason, message);
    }
    if let Some(error) = left {
        "NotRemoved".clone_into(&mut status.reason);
        status.message = error.told();
    }
    status.ready = false;
}
