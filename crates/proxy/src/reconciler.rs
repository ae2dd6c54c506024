//! One mode, one target, one tracker, one IP family: where plan, render, diff and write meet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel_io::{Applied, Drift, Target, Unwritten, WriteError};
use kernel_state::{Change, Keeping, Objects, Owner, Part, Portions, Retried, State, Tracker};
use proxy_modes::Mode;
use service_plan::{NodePlan, Plan, ServiceName, ServicePlan};

use crate::flows::FlowsPass;
use crate::localhost::LocalhostPass;
use crate::modes::Reconcile;

/// Brings the kernel's state of one family to the plan.
pub struct Reconciler<M: Mode, T> {
    mode: M,
    target: T,
    tracker: Tracker<M::Objects>,
    node: Option<Arc<NodePlan>>,
    reading: Reading,
    census: Census,
}

/// So many changes are written at once, whoever waits for them.
const SMALL: usize = 1000;

/// With so many objects some of them are dear to make again.
const MANY: usize = 20_000;

/// How many rules each table has.
type Census = BTreeMap<&'static str, i64>;

/// What one pass came to.
#[derive(Debug, Default)]
pub struct Pass {
    /// Objects made or replaced.
    pub puts: usize,
    /// Objects removed.
    pub drops: usize,
    /// What was refused, and why: nothing else of that owner was written either.
    pub refused: Vec<Refusal>,
    /// Whether objects are held back, for what was refused now or in an earlier pass.
    pub holds_back: bool,
    /// Why the pass ended early.
    pub failure: Option<Failure>,
    /// What became of the UDP flows that it left stale, if any.
    pub flows: Option<FlowsPass>,
    /// What became of the listeners on localhost, in a mode that has some.
    pub localhost: Option<LocalhostPass>,
    /// How much of the kernel's state was looked at.
    pub extent: Extent,
    /// What it cost.
    pub spent: Spent,
    /// Writes that failed.
    pub failures: Failures,
    /// The rules of each table, where the vocabulary has some.
    pub rules: BTreeMap<&'static str, Rules>,
}

/// How much of the kernel's state a pass looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// What changed.
    #[default]
    Partial,
    /// All of it was read.
    Full,
}

/// What a pass cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Bytes that the kernel or its tools were given.
    pub bytes: u64,
    /// Time for reading.
    pub reading: Duration,
    /// Time for writing.
    pub writing: Duration,
}

/// Writes that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Of what the kernel was thought to have.
    pub partial: usize,
    /// Of what had been read in the same pass.
    pub full: usize,
}

/// Rules of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Those of ours that are there.
    pub there: i64,
    /// Those that the pass wrote.
    pub written: i64,
}

/// An owner whose objects the kernel does not take.
#[derive(Debug)]
pub struct Refusal {
    /// Who wanted the object; nobody, if it is only to be removed.
    pub owners: Vec<Owner>,
    /// What was refused, and why.
    pub error: WriteError,
}

/// Why a pass ended before the kernel was as planned.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What is there could not be read.
    #[error(transparent)]
    Read(#[from] kernel_io::ReadError),
    /// The changes could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What a look at the kernel showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// Nobody touched what is ours.
    Nothing,
    /// Somebody may have.
    Something,
}

/// Whether what was last read still tells what the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It was read, and everything since was written by us.
    Current,
    /// It must be read first.
    Stale,
}

impl Pass {
    /// Whether the kernel is as planned.
    pub fn is_complete(&self) -> bool {
        self.failure.is_none() && !self.holds_back
    }

    /// Whether nothing is left to be tried again.
    pub fn is_done(&self) -> bool {
        self.is_complete()
            && self.flows.as_ref().is_none_or(|flows| flows.outcome.is_ok())
            && self.localhost.is_none_or(|localhost| localhost.refused == 0)
    }
}

impl<M: Mode, T: Target<M::Objects>> Reconciler<M, T> {
    /// Nothing wanted, and nothing known of the kernel yet.
    pub fn new(mode: M, target: T) -> Self {
        Self {
            mode,
            target,
            tracker: Tracker::new().keeping(Keeping { many: MANY, is_dear: M::is_dear }),
            node: None,
            reading: Reading::Stale,
            census: Census::new(),
        }
    }

    /// Takes a plan in: what it does not name stays as it was planned before.
    pub fn want(&mut self, plan: &Plan) {
        if self.node.as_ref() != Some(&plan.node) {
            self.tracker.want(&skeleton_owner(), self.mode.skeleton(&plan.node));
            self.node = Some(Arc::clone(&plan.node));
        }
        for (name, ports) in &plan.services {
            self.tracker.want(&service_owner(name), fragment(&self.mode, ports, &plan.node));
        }
    }

    /// Brings the kernel to what is wanted, as far as it lets us.
    pub fn write(&mut self) -> Pass {
        let mut pass = Pass::default();
        let sent = self.target.bytes_sent();
        self.write_all(&mut pass);
        pass.spent.bytes = self.target.bytes_sent() - sent;
        for (table, there) in &self.census {
            pass.rules.entry(table).or_default().there = *there;
        }
        pass
    }

    fn write_all(&mut self, pass: &mut Pass) {
        loop {
            if let Err(error) = self.read_if_stale(pass) {
                pass.failure = Some(error.into());
                return;
            }
            let parts = self.tracker.pending(Portions { small: SMALL, large: T::LARGE });
            if parts.is_empty() {
                pass.holds_back = !self.tracker.is_settled();
                return;
            }
            if let Err(Some(failure)) = self.write_parts(&parts, pass) {
                pass.failure = Some(failure.into());
                return;
            }
        }
    }

    /// Fails with nothing, if the rest is to be looked at anew.
    fn write_parts(&mut self, parts: &[Part], pass: &mut Pass) -> Result<(), Option<WriteError>> {
        let start = Instant::now();
        let mut count = 0;
        let (tracker, census) = (&self.tracker, &mut self.census);
        let written =
            self.target.write_parts(&mut parts.iter().map(|part| tracker.changes(part)), &mut |changes| {
                count += 1;
                note(changes, census, pass);
            });
        pass.spent.writing += start.elapsed();
        parts[..count].iter().for_each(|part| self.tracker.written(part));
        let Err(Unwritten { changes, error }) = written else { return Ok(()) };
        let done = &changes[..applied(&error)];
        self.tracker.applied(done);
        note(done, &mut self.census, pass);
        self.reading = Reading::Stale;
        if pass.extent == Extent::Partial {
            // What we believed may be wrong, so the first failure only makes us read.
            pass.failures.partial += 1;
            return Err(None);
        }
        pass.failures.full += 1;
        Err(self.set_aside(error, &changes, pass))
    }

    /// Tries again what was refused.
    pub fn try_again(&mut self) -> Retried {
        self.tracker.try_again()
    }

    /// Reads the kernel's state before the next write.
    pub fn distrust(&mut self) {
        self.reading = Reading::Stale;
    }

    /// Looks whether a stranger may have changed what is ours; if so, the next pass sees to it.
    pub fn look(&mut self) -> Sighting {
        match self.target.drift() {
            Drift::None => return Sighting::Nothing,
            Drift::Possible => self.distrust(),
            Drift::Objects(objects) => {
                for (key, value) in objects {
                    self.tracker.seen(&key, value);
                }
            }
        }
        Sighting::Something
    }

    /// The whole wanted state.
    pub fn wanted(&self) -> State<M::Objects> {
        self.tracker.wanted()
    }

    fn read_if_stale(&mut self, pass: &mut Pass) -> Result<(), kernel_io::ReadError> {
        if self.reading == Reading::Stale {
            self.tracker.begin_reading();
            self.census.clear();
            let (tracker, census) = (&mut self.tracker, &mut self.census);
            pass.extent = Extent::Full;
            let start = Instant::now();
            let read = self.target.read(&mut |key, value| {
                count::<M::Objects>(census, &key, &value, 1);
                tracker.found(&key, value);
            });
            pass.spent.reading += start.elapsed();
            read?;
            self.reading = Reading::Current;
        }
        Ok(())
    }

    /// Holds a refused object's owners back, so that the rest can be written. Gives the error back where that
    /// does not help: nobody knows what was refused, or nothing can be served without it.
    fn set_aside(
        &mut self,
        error: WriteError,
        changes: &[Change<M::Objects>],
        pass: &mut Pass,
    ) -> Option<WriteError> {
        let Some(change) = error.refused.as_ref().and_then(|refused| changes.get(refused.index)) else {
            return Some(error);
        };
        let owners = self.tracker.refused(change.key());
        if owners.contains(&skeleton_owner()) {
            // Else the next pass would hold back the skeleton and write the rest.
            self.tracker.try_again();
            return Some(error);
        }
        pass.refused.push(Refusal { owners, error });
        None
    }
}

impl<M, T> Reconcile for Reconciler<M, T>
where
    M: Mode + Send,
    T: Target<M::Objects> + Send,
{
    fn want(&mut self, plan: &Plan) {
        Self::want(self, plan);
    }

    fn write(&mut self) -> Pass {
        Self::write(self)
    }

    fn try_again(&mut self) -> Retried {
        Self::try_again(self)
    }

    fn look(&mut self) -> Sighting {
        Self::look(self)
    }
}

/// What a mode says of the ports of one Service.
pub(crate) fn fragment<M: Mode>(mode: &M, ports: &[ServicePlan], node: &NodePlan) -> State<M::Objects> {
    let mut fragment = State::new();
    for plan in ports {
        fragment.extend(mode.render(plan, node));
    }
    fragment
}

/// Takes in that changes were written.
fn note<O: Objects>(changes: &[Change<O>], census: &mut Census, pass: &mut Pass) {
    for change in changes {
        match change {
            Change::Put { key, value, replaced } => {
                pass.puts += 1;
                if let Some(replaced) = replaced {
                    count::<O>(census, key, replaced, -1);
                }
                count::<O>(census, key, value, 1);
                if let Some((table, rules)) = O::rules(key, value) {
                    pass.rules.entry(table).or_default().written += i64::try_from(rules).unwrap_or(i64::MAX);
                }
            }
            Change::Drop { key, value } => {
                pass.drops += 1;
                count::<O>(census, key, value, -1);
            }
        }
    }
    if tracing::enabled!(tracing::Level::DEBUG) {
        let mut text = String::new();
        O::print_changes(changes, &mut text).expect("writing to a String cannot fail");
        text.lines().for_each(|line| tracing::debug!(line, "written"));
    }
}

/// Adds an object's rules to the count, or takes them off.
fn count<O: Objects>(census: &mut Census, key: &O::Key, value: &O::Value, sign: i64) {
    if let Some((table, rules)) = O::rules(key, value) {
        *census.entry(table).or_default() += sign * i64::try_from(rules).unwrap_or(i64::MAX);
    }
}

fn applied(error: &WriteError) -> usize {
    match error.applied {
        Applied::First(count) => count,
        Applied::Nothing | Applied::Unknown => 0,
    }
}

/// What all Services stand on.
fn skeleton_owner() -> Owner {
    Owner::new(0, "skeleton")
}

/// The API server's own Service comes with the skeleton before the others, since everybody on the node waits for it.
pub(crate) fn service_owner(name: &ServiceName) -> Owner {
    let is_api_server = &*name.namespace == "default" && &*name.name == "kubernetes";
    Owner::new(u8::from(!is_api_server), &name.to_string())
}

#[cfg(test)]
mod tests;
