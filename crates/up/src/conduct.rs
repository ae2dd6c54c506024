//! The loop that keeps pods, endpoints and rules in step with the files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use pod_manifests::{ObjectName, Pod};
use pod_runtime::{NodeFacts, Root};
use proxy::{Feed, ProxyError, forward, pass_on};
use service_watch::{Awaited, Changes, Directory};
use tracing::{info, warn};

use crate::allocation::{Served, allocated};
use crate::crew::{Crew, Done, Task};
use crate::known::Known;
use crate::made::Making;
use crate::objects::{Fact, Key, Objects, Words, told};
use crate::pods::{Action, Course, Owner, Present, Wanted, actions};
use crate::proxying::Proxying;
use crate::publish::Publisher;
use crate::rolling::Standing;
use crate::snapshot::{PodRow, Snapshot};
use crate::state::{self, Kept, Place};
use crate::trouble::{self, Troubles};
use crate::{Settings, UpError, node};

/// How often it is looked what pods do.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether holders have died.
const ADOPT: Duration = Duration::from_secs(1);
/// So many reports of the files are shown.
const REPORTS: usize = 5;
/// So long a pod waits at most until the kernel sends it no more requests, before it is told to stop.
const LONGEST_FAREWELL: Duration = Duration::from_secs(10);

/// What the loop is told.
#[derive(Debug)]
pub(crate) enum Message {
    Files(Changes<Key, Fact>),
    Done(Done),
    Proxy(Result<(), ProxyError>),
    Stop,
}

/// A pod that is to be stopped once the kernel sends it no more requests.
#[derive(Debug)]
struct Farewell {
    since: Instant,
    /// None until the proxy was told.
    written: Option<Weak<Awaited>>,
}

/// Whether the files have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    Yes,
    NotYet,
}

struct Conductor<'a> {
    settings: &'a Settings,
    root: Root,
    place: Place,
    kept: Kept,
    node_name: Arc<str>,
    objects: Objects,
    listed: Listed,
    wanted: Wanted,
    served: Served,
    /// What is wrong with Services together.
    unserved: Vec<String>,
    known: Known,
    farewells: BTreeMap<ObjectName, Farewell>,
    crew: Crew,
    troubles: Troubles,
    publisher: Publisher,
    told: BTreeSet<String>,
    reports: Vec<String>,
    shown: Snapshot,
    adopted: Option<Instant>,
}

/// Keeps pods, endpoints and rules in step with the files until told to stop; then they stay as they are. What can be
/// seen of it is shown each time that something may have changed.
pub fn up(settings: &Settings, stop: Receiver<()>, show: &mut dyn FnMut(&Snapshot)) -> Result<(), UpError> {
    let directory = fs::canonicalize(&settings.directory);
    let directory = directory.map_err(state::failed("find", &settings.directory))?;
    let facts = NodeFacts {
        name: settings.node_name.clone(),
        ranges: settings.pod_ranges.clone(),
        cni: settings.cni.clone(),
    };
    let root = Root::open(&settings.root, settings.holder.clone(), facts)?;
    let place = Place::of(&settings.root);
    let _lock = place.lock()?.map_err(|pid| UpError::Busy { root: settings.root.clone(), pid })?;
    let mut kept = place.read()?.unwrap_or_default();
    if kept.directory.as_os_str().is_empty() {
        kept.directory.clone_from(&directory);
    } else if kept.directory != directory {
        return Err(UpError::Other { root: settings.root.clone(), other: kept.directory });
    }
    node::prepared(&settings.pod_ranges, &mut kept.sysctls)?;
    place.write(&kept)?;
    let (out, messages) = mpsc::channel();
    let (feed, source) = Feed::new();
    let ended = out.clone();
    let proxying = Proxying::start(settings, source, move |result| drop(ended.send(Message::Proxy(result))))?;
    let words = Words::of(&settings.node_name);
    let files = forward(out.clone(), Message::Files).map_err(UpError::Thread)?;
    let _watching = Directory::of(directory.clone(), words)?.watch(files)?;
    pass_on(stop, out.clone(), |()| Message::Stop).map_err(UpError::Thread)?;
    let shown = Snapshot {
        directory: directory.clone(),
        mode: proxying.mode.name().to_owned(),
        ..Snapshot::default()
    };
    let mut conductor = Conductor {
        settings,
        place,
        kept,
        node_name: settings.node_name.as_str().into(),
        objects: Objects::default(),
        listed: Listed::NotYet,
        wanted: Wanted::default(),
        served: Served::new(),
        unserved: Vec::new(),
        known: Known::of(root.clone(), directory),
        farewells: BTreeMap::new(),
        crew: Crew::new(root.clone(), out),
        root,
        troubles: Troubles::default(),
        publisher: Publisher::new(feed),
        told: BTreeSet::new(),
        reports: Vec::new(),
        shown,
        adopted: None,
    };
    conductor.run(&messages, show)
}

impl Conductor<'_> {
    fn run(&mut self, messages: &Receiver<Message>, show: &mut dyn FnMut(&Snapshot)) -> Result<(), UpError> {
        loop {
            match messages.recv_timeout(LOOK) {
                Ok(Message::Files(changes)) => self.take(changes)?,
                Ok(Message::Done(done)) => self.take_done(&done),
                Ok(Message::Proxy(Err(error))) => return Err(error.into()),
                Ok(Message::Proxy(Ok(())) | Message::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.adopt()?;
            if self.listed == Listed::Yes {
                self.known.look()?;
                let idle = self.act();
                self.publish();
                self.let_go();
                self.tell(idle)?;
                show(&self.shown);
            }
        }
    }

    /// Takes in what the files say.
    fn take(&mut self, changes: Changes<Key, Fact>) -> Result<(), UpError> {
        if changes.lists.is_first() {
            self.listed = Listed::Yes;
        }
        for report in self.objects.take(changes) {
            warn!("{report}");
            self.reports.push(report.to_string());
        }
        let surplus = self.reports.len().saturating_sub(REPORTS);
        self.reports.drain(..surplus);
        let objects = &self.objects;
        let pods = objects.pods.iter();
        let deployments = objects.deployments.iter();
        self.wanted = Wanted {
            pods: pods.map(|(name, pod)| (name.clone(), (Arc::clone(pod), objects.revision(pod)))).collect(),
            deployments: deployments
                .map(|(name, one)| (name.clone(), (Arc::clone(one), objects.revision(&one.template))))
                .collect(),
        };
        let wanted = &self.wanted;
        self.troubles.retain(|owner| match owner {
            Owner::Pod(name) => wanted.pods.contains_key(name),
            Owner::Deployment(name) => wanted.deployments.contains_key(name),
        });
        let services = objects.services.iter().map(|(name, service)| (name, &**service));
        let before = self.kept.held.clone();
        let (served, problems) = allocated(services, &self.settings.ranges, &mut self.kept.held);
        self.served = served;
        self.unserved = problems.iter().map(told).collect();
        if before != self.kept.held {
            self.place.write(&self.kept)?;
        }
        Ok(())
    }

    fn take_done(&mut self, done: &Done) {
        let now = Instant::now();
        match (self.crew.done(done), &done.outcome) {
            (Some(Task::Make(making)), Err(error)) => {
                let line = trouble::line(&making.owner, error);
                self.troubles.add(&making.owner, &making.revision, line, now);
            }
            (Some(Task::Make(making)), Ok(())) => info!(pod = %making.name, "pod begun"),
            (Some(Task::Remove), Ok(())) => info!(pod = %done.pod, "pod removed"),
            (Some(Task::Remove), Err(error)) => {
                let ours = self.known.get(&done.pod).and_then(|known| known.made.ours.as_ref());
                if let Some((owner, revision)) = ours {
                    let line = format!("Pod {}: is not removed: {}", done.pod, error.told());
                    self.troubles.add(owner, revision, line, now);
                }
            }
            (None, _) => {}
        }
        self.farewells.remove(&done.pod);
    }

    /// Gives pods whose holders have died others.
    fn adopt(&mut self) -> Result<(), UpError> {
        if self.adopted.is_some_and(|at| at.elapsed() < ADOPT) {
            return Ok(());
        }
        self.adopted = Some(Instant::now());
        for adoption in self.root.adopt()? {
            match adoption.outcome {
                Ok(()) => warn!(pod = adoption.pod, "its holder had died; another goes on with it"),
                Err(message) => warn!(pod = adoption.pod, message, "its holder had died, and it is removed"),
            }
        }
        Ok(())
    }

    /// Does what is next. Answers whether there was nothing.
    fn act(&mut self) -> Idle {
        let now = Instant::now();
        let present = self.present();
        for pod in &present {
            if pod.course == Course::Stands(Standing::Available) {
                self.troubles.end(&pod.owner);
            }
        }
        let actions = actions(&self.wanted, &present);
        let idle = actions.is_empty() && self.crew.is_idle() && self.farewells.is_empty();
        for action in actions {
            match action {
                Action::Create { owner, revision } => self.create(owner, revision, now),
                Action::Stop(pod) => {
                    let farewell = Farewell { since: now, written: None };
                    self.farewells.entry(pod).or_insert(farewell);
                }
                Action::Remove(pod) => self.clear(&pod, now),
            }
        }
        let stands =
            |pod: &Present| matches!(pod.course, Course::Stands(Standing::Available) | Course::Over(_));
        if idle && present.iter().all(stands) { Idle::Yes } else { Idle::No }
    }

    /// The pods of this directory that are there or are being made.
    fn present(&self) -> Vec<Present> {
        let deployments = &self.wanted.deployments;
        let patience = |owner: &Owner| match owner {
            Owner::Pod(_) => Duration::ZERO,
            Owner::Deployment(name) => deployments
                .get(name)
                .map_or(Duration::ZERO, |(one, _)| Duration::from_secs(u64::from(one.min_ready))),
        };
        let mut present = self.known.present(&|pod| self.is_leaving(pod), patience);
        let making = self.crew.making().filter(|making| self.known.get(&making.name).is_none());
        present.extend(making.map(|making| Present {
            name: making.name.clone(),
            owner: making.owner.clone(),
            revision: making.revision.clone(),
            course: Course::Stands(Standing::Unavailable),
        }));
        present
    }

    fn is_leaving(&self, pod: &ObjectName) -> bool {
        self.farewells.contains_key(pod) || matches!(self.crew.task(pod), Some(Task::Remove))
    }

    fn create(&mut self, owner: Owner, revision: String, now: Instant) {
        if !self.crew.has_room() || !self.troubles.may_try(&owner, &revision, now) {
            return;
        }
        let (name, template): (ObjectName, Pod) = match &owner {
            Owner::Pod(name) => match self.wanted.pods.get(name) {
                Some((pod, _)) => (name.clone(), (**pod).clone()),
                None => return,
            },
            Owner::Deployment(deployment) => match self.wanted.deployments.get(deployment) {
                Some((one, _)) => (member_name(deployment, &revision), one.template.clone()),
                None => return,
            },
        };
        let making = Making { name, owner, revision };
        let pod = making.pod(&template, &self.shown.directory, &self.served);
        self.crew.make(making, pod, self.objects.values(), self.settings.runtime.clone());
    }

    /// Removes what is left of a pod that has ended.
    fn clear(&mut self, pod: &ObjectName, now: Instant) {
        let Some(known) = self.known.get(pod) else { return };
        let Some((owner, revision)) = &known.made.ours else { return };
        if self.crew.task(pod).is_some() || !self.troubles.may_try(owner, revision, now) {
            return;
        }
        if known.begun_in_vain() {
            let line = trouble::begun_in_vain(owner, &known.status.message);
            self.troubles.add(owner, revision, line, now);
        }
        self.crew.remove(pod);
    }

    fn publish(&mut self) {
        let backends = self.known.backends(&|pod| self.is_leaving(pod));
        let ranges = &self.settings.ranges.addresses;
        let written = self.publisher.publish(&self.objects, &self.served, &backends, &self.node_name, ranges);
        for farewell in self.farewells.values_mut() {
            farewell.written.get_or_insert_with(|| written.clone());
        }
    }

    /// Stops the pods that the kernel sends no more requests.
    fn let_go(&mut self) {
        for (pod, farewell) in &self.farewells {
            let is_written = farewell.written.as_ref().is_some_and(|written| written.strong_count() == 0);
            if is_written || farewell.since.elapsed() > LONGEST_FAREWELL {
                self.crew.remove(pod);
            }
        }
    }

    /// Tells what is news to a person.
    fn tell(&mut self, idle: Idle) -> Result<(), UpError> {
        let mut problems: BTreeSet<String> = self.unserved.iter().cloned().collect();
        problems.extend(self.troubles.lines().map(str::to_owned));
        for (name, known) in self.known.iter().filter(|(_, known)| known.made.ours.is_some()) {
            problems.extend(known.start_error().map(|message| format!("Pod {name}: {message}")));
        }
        for problem in problems.difference(&self.told) {
            warn!("{problem}");
        }
        let leaving = |pod: &ObjectName| self.is_leaving(pod);
        let row = |(name, known): (&ObjectName, &crate::known::KnownPod)| PodRow {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            deployment: match &known.made.ours {
                Some((Owner::Deployment(deployment), _)) => Some(deployment.name.clone()),
                Some((Owner::Pod(_), _)) | None => None,
            },
            status: known.word(&leaving),
            ready: known.status.ready,
            restarts: known.status.containers.iter().map(|container| container.restarts).sum(),
            ips: known.status.ips.clone(),
        };
        let shown = Snapshot {
            directory: self.shown.directory.clone(),
            mode: self.shown.mode.clone(),
            settled: idle == Idle::Yes && problems.is_empty(),
            pods: self.known.iter().map(row).collect(),
            services: self.publisher.rows(&self.objects, &self.served),
            problems: problems.iter().cloned().collect(),
            reports: self.reports.clone(),
        };
        self.told = problems;
        if shown != self.shown {
            state::write(&self.place.shown(), &shown)?;
            self.shown = shown;
        }
        Ok(())
    }
}

/// Whether there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    Yes,
    No,
}

/// A name for one more pod of a Deployment. The last part comes from the kernel and says nothing.
fn member_name(deployment: &ObjectName, revision: &str) -> ObjectName {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let suffix = random.get(..5).unwrap_or("00000");
    let name = format!("{}-{revision}-{suffix}", deployment.name);
    ObjectName { namespace: deployment.namespace.clone(), name }
}
