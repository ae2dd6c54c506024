//! The life of a container: started, watched, stopped, started again.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kernel_io::process::{Birth, End, Orphan, Signal};
use pod_manifests::{Container, Kind, RestartPolicy};
use tracing::{info, warn};

use super::attempt::{self, Running};
use super::probing::Probing;
use super::{Sentence, Shared};
use crate::clock;
use crate::oci::told;
use crate::probes;
use crate::status::{ContainerStatus, Ended, State};

/// How long a container waits before its second restart; then twice as long each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// A run that lasted so long forgives those before it.
const GOOD_RUN: Duration = Duration::from_mins(10);
/// A long time; then one waits on.
const LONG: Duration = Duration::from_hours(24);
/// What is left of the grace for whoever used it up before it was signalled.
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a container that ended is started again.
fn restarts(shared: &Shared, container: &Container, code: i32) -> bool {
    let policy = match (container.kind, shared.pod.spec.restart) {
        (Kind::Sidecar, _) => RestartPolicy::Always,
        (Kind::Init, RestartPolicy::Never) => RestartPolicy::Never,
        (Kind::Init, RestartPolicy::Always | RestartPolicy::OnFailure) => RestartPolicy::OnFailure,
        (Kind::Main, policy) => policy,
    };
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    }
}

/// What an earlier holder has left of a container.
enum Inherited {
    /// Nothing that counts.
    Nothing,
    /// It runs.
    Running(Running),
    /// It has ended, and what follows from that is still to be done.
    Ended(Ended),
}

/// Runs a container until it is over for good.
pub(super) fn supervise(shared: &Arc<Shared>, container: &Container) {
    let mut wait = Duration::ZERO;
    let mut inherited = inherited(shared, container);
    loop {
        let begun = Instant::now();
        let ended = match std::mem::replace(&mut inherited, Inherited::Nothing) {
            Inherited::Running(running) => watch(shared, container, running),
            Inherited::Ended(ended) => ended,
            Inherited::Nothing if is_over(shared, container) => return,
            Inherited::Nothing => match attempt::start(shared, container) {
                Ok(running) => watch(shared, container, running),
                Err(error) => failed_to_start(shared, container, error.told()),
            },
        };
        if begun.elapsed() > GOOD_RUN {
            wait = Duration::ZERO;
        }
        let again = restarts(shared, container, ended.exit_code) && !is_over(shared, container);
        shared.change_container(&container.name, |status| record(status, ended));
        if !again || !backed_off(shared, container, wait) {
            return;
        }
        wait = (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        shared.change_container(&container.name, |status| status.restarts += 1);
    }
}

fn inherited(shared: &Shared, container: &Container) -> Inherited {
    let Some(status) = shared.container_status(&container.name) else { return Inherited::Nothing };
    let (pid, birth, since) = match status.state {
        State::Running { pid, birth, since } => (pid, birth, since),
        State::Terminated(ended) => return Inherited::Ended(ended),
        State::Waiting { .. } => return Inherited::Nothing,
    };
    if let Some(running) = attempt::resume(shared, container, pid, Birth(birth)) {
        return Inherited::Running(running);
    }
    let _ = shared.oci.delete(&container.name, &shared.id(container)); // tried again before the next start
    Inherited::Ended(Ended {
        exit_code: 137,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "it ended while nobody held the pod".to_owned(),
        since,
        at: clock::now(),
    })
}

fn record(status: &mut ContainerStatus, ended: Ended) {
    status.ready = false;
    status.started = false;
    status.state = State::Terminated(ended);
}

/// Whether nothing may be started any more.
fn is_over(shared: &Shared, container: &Container) -> bool {
    shared.locked().is_called(container)
}

/// Waits before the next start. Answers whether there shall be one.
fn backed_off(shared: &Shared, container: &Container, wait: Duration) -> bool {
    if !wait.is_zero() {
        shared.change_container(&container.name, |status| {
            if let State::Terminated(ended) = &status.state {
                status.last = Some(ended.clone());
            }
            status.state = State::Waiting {
                reason: "CrashLoopBackOff".to_owned(),
                message: format!("started again {} s after it ended", wait.as_secs()),
            };
        });
    }
    let name = &container.name;
    let over =
        shared.wait_until(Some(Instant::now() + wait), |inner| inner.is_called(container).then_some(()));
    if over.is_some() {
        shared.change_container(name, |status| {
            if let (State::Waiting { .. }, Some(last)) = (&status.state, status.last.take()) {
                status.state = State::Terminated(last);
            }
        });
        return false;
    }
    shared.change_container(name, |status| {
        if let State::Terminated(ended) = &status.state {
            status.last = Some(ended.clone());
        }
        status.state = State::Waiting { reason: "ContainerCreating".to_owned(), message: String::new() };
    });
    true
}

fn failed_to_start(shared: &Shared, container: &Container, message: String) -> Ended {
    warn!(container = container.name, error = message, "container not started");
    let _ = shared.oci.delete(&container.name, &shared.id(container)); // tried again before the next start
    let now = clock::now();
    Ended { exit_code: 128, reason: "StartError".to_owned(), message, since: now.clone(), at: now }
}

/// Watches a container until its process has ended, and ends it when that is wanted.
fn watch(shared: &Arc<Shared>, container: &Container, running: Running) -> Ended {
    let Running { process, birth, pump, stop_signal } = running;
    let since = clock::now();
    let since = match shared.container_status(&container.name).map(|status| status.state) {
        Some(State::Running { since, .. }) => since,
        _ => since,
    };
    let memory = memory_events(process.pid());
    shared.change(|inner| {
        inner.condemned.remove(&container.name);
        inner.ends.remove(&container.name);
    });
    shared.change_container(&container.name, |status| {
        status.state = State::Running { pid: process.pid(), birth: birth.0, since: since.clone() };
    });
    let process = Arc::new(process);
    let waiter = awaited(shared, container, &process);
    let probing = Probing::start(shared, container);
    let mut sentence = Probing::after_start(shared, container);
    let end = loop {
        if let Some(sentence) = sentence.take().or_else(|| sentenced(shared, container)) {
            break stopped(shared, container, &process, stop_signal.as_deref(), &sentence);
        }
        if let Some(end) = shared.wait_until(None, |inner| {
            let end = inner.ends.get(&container.name).copied();
            end.map(Some).or_else(|| inner.is_called(container).then_some(None))
        }) && end.is_some()
        {
            break end;
        }
    };
    if end.is_some() {
        let _ = waiter.map(JoinHandle::join); // it has nothing more to say
    }
    probing.end();
    shared.change(|inner| inner.condemned.remove(&container.name));
    let kills = memory.and_then(|(path, before)| Some(kills_in(&path)?.saturating_sub(before)));
    let message = attempt::clear(shared, container, pump);
    ended(end, kills.unwrap_or(0), since, message)
}

/// A thread that tells when a process has ended.
fn awaited(shared: &Arc<Shared>, container: &Container, process: &Arc<Orphan>) -> Option<JoinHandle<()>> {
    let (shared, process, name) = (Arc::clone(shared), Arc::clone(process), container.name.clone());
    let thread = thread::Builder::new().name("waiter".to_owned()).stack_size(super::STACK);
    let started = thread.spawn(move || {
        let end = loop {
            if let Some(end) = process.wait_for(LONG) {
                break end;
            }
        };
        shared.change(|inner| inner.ends.insert(name, end));
    });
    started.inspect_err(|error| warn!(%error, "no thread for the end of a container")).ok()
}

/// How a container has ended, if it does so in time.
fn ends_within(shared: &Shared, container: &Container, limit: Duration) -> Option<End> {
    shared.wait_until(Some(Instant::now() + limit), |inner| inner.ends.get(&container.name).copied())
}

/// Whether a running container shall end, and how.
fn sentenced(shared: &Shared, container: &Container) -> Option<Sentence> {
    let inner = shared.locked();
    if let Some(sentence) = inner.condemned.get(&container.name) {
        return Some(sentence.clone());
    }
    let grace = match &inner.stop {
        Some(stop) => stop.deadline.saturating_duration_since(Instant::now()),
        None => Duration::from_secs(u64::from(shared.pod.spec.grace)),
    };
    inner.is_called(container).then(|| Sentence { reason: "the pod ends".to_owned(), grace })
}

/// Ends a container: its hook, its signal, and when the grace is over the signal that nobody survives.
fn stopped(
    shared: &Arc<Shared>,
    container: &Container,
    process: &Orphan,
    signal: Option<&str>,
    sentence: &Sentence,
) -> Option<End> {
    let deadline = Instant::now() + sentence.grace;
    info!(container = container.name, reason = sentence.reason, "container told to end");
    if let Some(action) = container.pre_stop.as_ref().filter(|_| !sentence.grace.is_zero())
        && let Err(error) = probes::done(shared, container, action, sentence.grace)
    {
        warn!(container = container.name, error, "preStop failed");
    }
    if !sentence.grace.is_zero() {
        if let Err(error) = process.signal(signal.and_then(named).unwrap_or(Signal::TERM)) {
            warn!(container = container.name, error = told(&error), "signal not sent");
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(LEAST_GRACE.min(sentence.grace));
        if let Some(end) = ends_within(shared, container, left) {
            return Some(end);
        }
    }
    if let Err(error) = process.signal(Signal::KILL) {
        warn!(container = container.name, error = told(&error), "signal not sent");
    }
    ends_within(shared, container, PATIENCE)
}

fn ended(end: Option<End>, kills: u64, since: String, message: String) -> Ended {
    use std::os::unix::process::ExitStatusExt as _;
    let (exit_code, known) = match end {
        Some(End::Status(status)) => {
            (status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(127)), true)
        }
        Some(End::Unknown) | None => (137, false),
    };
    let reason = match (known, exit_code, kills) {
        (_, 137, 1..) => "OOMKilled",
        (false, ..) => "ContainerStatusUnknown",
        (true, 0, _) => "Completed",
        (true, ..) => "Error",
    };
    Ended { exit_code, reason: reason.to_owned(), message, since, at: clock::now() }
}

/// The file that counts those that the kernel killed for want of memory in the cgroup of a process, and its count now.
fn memory_events(pid: u32) -> Option<(PathBuf, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let file = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = path.trim_start_matches('/');
        match controllers {
            "memory" => Some(PathBuf::from("/sys/fs/cgroup/memory").join(path).join("memory.oom_control")),
            "" => Some(PathBuf::from("/sys/fs/cgroup").join(path).join("memory.events"))
                .filter(|path| path.exists()),
            _ => None,
        }
    })?;
    let count = kills_in(&file)?;
    Some((file, count))
}

fn kills_in(path: &PathBuf) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// A signal by its name, with or without SIG, or by its number.
fn named(text: &str) -> Option<Signal> {
    let name = text.trim().to_ascii_uppercase();
    let known = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("KILL", Signal::KILL),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("TERM", Signal::TERM),
        ("WINCH", Signal::WINCH),
    ];
    let word = name.strip_prefix("SIG").unwrap_or(&name);
    let by_name = known.iter().find(|(known, _)| *known == word).map(|(_, signal)| *signal);
    by_name.or_else(|| word.parse().ok().and_then(Signal::from_named_raw))
}
