//! The probes of a container that runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pod_manifests::{Container, Probe};
use tracing::warn;

use super::{Sentence, Shared};
use crate::probes;

/// What asks a container how it is, as long as it runs.
#[derive(Debug)]
pub(super) struct Probing {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Startup,
    Liveness,
    Readiness,
}

impl Probing {
    /// Begins to ask. A container without a startup probe has started, and one without a readiness probe is ready
    /// once it has.
    pub(super) fn start(shared: &Arc<Shared>, container: &Container) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut probing = Self { over, threads: Vec::new() };
        for (purpose, probe) in [
            (Purpose::Startup, &container.startup),
            (Purpose::Liveness, &container.liveness),
            (Purpose::Readiness, &container.readiness),
        ] {
            if let Some(probe) = probe {
                probing.spawn(shared, container, purpose, probe);
            }
        }
        probing
    }

    /// Does what is to be done right after the start. Answers why the container shall end, if it failed.
    pub(super) fn after_start(shared: &Arc<Shared>, container: &Container) -> Option<Sentence> {
        let status = shared.container_status(&container.name)?;
        if let Some(action) = container.post_start.as_ref().filter(|_| !status.started) {
            let limit = Duration::from_secs(u64::from(shared.pod.spec.grace).max(30));
            if let Err(error) = probes::done(shared, container, action, limit) {
                let grace = Duration::from_secs(u64::from(shared.pod.spec.grace));
                return Some(Sentence { reason: format!("lifecycle.postStart failed: {error}"), grace });
            }
        }
        if container.startup.is_none() {
            started(shared, container);
        }
        None
    }

    /// Asks no more.
    pub(super) fn end(self) {
        self.over.store(true, Ordering::Release);
        for thread in self.threads {
            thread.thread().unpark();
            let _ = thread.join(); // one that panicked is gone as well
        }
    }

    fn spawn(&mut self, shared: &Arc<Shared>, container: &Container, purpose: Purpose, probe: &Probe) {
        let asking = Asking {
            shared: Arc::clone(shared),
            over: Arc::clone(&self.over),
            container: container.clone(),
            purpose,
            probe: probe.clone(),
        };
        let thread = thread::Builder::new().name("probe".to_owned()).stack_size(super::STACK);
        match thread.spawn(move || asking.run()) {
            Ok(thread) => self.threads.push(thread),
            Err(error) => warn!(container = container.name, %error, "no thread for a probe"),
        }
    }
}

fn started(shared: &Shared, container: &Container) {
    shared.change_container(&container.name, |status| {
        status.started = true;
        if container.readiness.is_none() {
            status.ready = true;
        }
    });
}

struct Asking {
    shared: Arc<Shared>,
    over: Arc<AtomicBool>,
    container: Container,
    purpose: Purpose,
    probe: Probe,
}

impl Asking {
    fn run(&self) {
        self.pause(Duration::from_secs(u64::from(self.probe.initial_delay)));
        let (mut good, mut bad) = (0, 0);
        while !self.is_over() {
            if self.purpose != Purpose::Startup && !self.has_started() {
                self.pause(Duration::from_millis(100));
                continue;
            }
            let limit = Duration::from_secs(u64::from(self.probe.timeout));
            match probes::done(&self.shared, &self.container, &self.probe.action, limit) {
                Ok(()) => (good, bad) = (good + 1, 0),
                Err(error) => {
                    (good, bad) = (0, bad + 1);
                    warn!(
                        container = self.container.name,
                        probe = self.purpose.word(),
                        error,
                        "probe failed"
                    );
                }
            }
            if self.is_over() || self.answered(good, bad) {
                return;
            }
            self.pause(Duration::from_secs(u64::from(self.probe.period)));
        }
    }

    /// Draws the consequences. Answers whether there is nothing more to ask.
    fn answered(&self, good: u32, bad: u32) -> bool {
        let (well, unwell) = (good >= self.probe.successes, bad >= self.probe.failures);
        let name = &self.container.name;
        match self.purpose {
            Purpose::Startup if well => {
                started(&self.shared, &self.container);
                true
            }
            Purpose::Startup | Purpose::Liveness if unwell => {
                let grace = self.probe.grace.unwrap_or(self.shared.pod.spec.grace);
                let sentence = Sentence {
                    reason: format!("its {} failed {bad} times", self.purpose.word()),
                    grace: Duration::from_secs(u64::from(grace)),
                };
                self.shared.change(|inner| inner.condemned.insert(name.clone(), sentence));
                true
            }
            Purpose::Readiness if well || unwell => {
                self.shared.change_container(name, |status| status.ready = well);
                false
            }
            Purpose::Startup | Purpose::Liveness | Purpose::Readiness => false,
        }
    }

    fn has_started(&self) -> bool {
        self.shared.container_status(&self.container.name).is_some_and(|status| status.started)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn pause(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.is_over() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Startup => "startupProbe",
            Self::Liveness => "livenessProbe",
            Self::Readiness => "readinessProbe",
        }
    }
}
