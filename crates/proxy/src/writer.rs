//! One family's writer: a thread that takes plans and keeps at it until the kernel has them.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use kernel_io::memory;
use service_plan::{Family, Plan};
use tracing::{debug, error, info, warn};

use crate::knowledge::Listed;
use crate::modes::Reconcile;
use crate::reconciler::{Extent, Pass, Sighting};

mod pace;

pub(crate) use pace::Pace;

/// After so many objects much of the memory that a pass took is free again.
const LARGE: usize = 1000;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// How often it is looked whether a stranger changed what is ours.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// A reading was in vain where strangers change what is not ours; such ones may take a twentieth of the time.
const VAIN_SHARE: u32 = 20;

/// When to try again what could not be written.
#[derive(Clone, Copy, Debug)]
struct Retry {
    delay: Duration,
    at: Instant,
}

/// Why a pass is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// There is a plan.
    Plan,
    /// Something could not be written.
    Retry,
    /// A stranger may have changed what is ours.
    Drift,
}

/// A plan on its way to the writer.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    /// Whether the first lists were whole when it was made. Before that it is rendered and not written.
    pub(crate) lists: Listed,
}

/// Writes plans as they come, those of a burst together, until no more can come; between two writes it waits for
/// `pace`. Calls `settled` once, when the kernel is as planned for the first time.
pub(crate) fn write_plans(
    family: Family,
    reconciler: &mut dyn Reconcile,
    plans: &Receiver<Planned>,
    pace: &Pace,
    settled: impl FnOnce(),
) {
    // A pass removes whatever is not wanted, so there is none until all is known that may be.
    loop {
        // They are large at first: none is kept.
        match plans.recv() {
            Ok(Planned { plan, lists }) => {
                reconciler.want(&plan);
                if lists == Listed::Yes {
                    break;
                }
            }
            Err(_) => return,
        }
    }
    let mut settled = Some(settled);
    let mut retry: Option<Retry> = None;
    let mut cause = Some(Cause::Plan);
    let mut look_at = Instant::now();
    loop {
        for Planned { plan, .. } in plans.try_iter() {
            reconciler.want(&plan);
        }
        // Not only when it is quiet: plans may never stop coming.
        let due = retry.filter(|retry| retry.at <= Instant::now());
        if due.is_some() {
            reconciler.try_again();
            cause = cause.or(Some(Cause::Retry));
        }
        if let Some(cause) = cause {
            let start = Instant::now();
            let pass = write(family, reconciler, cause);
            let is_vain = cause == Cause::Drift && pass.is_done() && pass.puts + pass.drops == 0;
            let rest = if is_vain { start.elapsed() * VAIN_SHARE } else { Duration::ZERO };
            look_at = Instant::now() + LOOK_PERIOD.max(rest);
            retry = match (pass.is_done(), retry) {
                (true, _) => None,
                (false, Some(retry)) if due.is_none() => Some(retry),
                (false, _) => Some(Retry::after(due)),
            };
            if let Some(settled) = settled.take_if(|_| pass.is_complete()) {
                settled();
            }
            thread::sleep(pace.get());
        }
        let until = retry.map_or(look_at, |retry| retry.at.min(look_at));
        cause = match plans.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Planned { plan, .. }) => {
                reconciler.want(&plan);
                Some(Cause::Plan)
            }
            Err(RecvTimeoutError::Timeout) => look(reconciler, &mut look_at),
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

/// Looks for drift, if it is time to.
fn look(reconciler: &mut dyn Reconcile, look_at: &mut Instant) -> Option<Cause> {
    if *look_at > Instant::now() {
        return None;
    }
    *look_at = Instant::now() + LOOK_PERIOD;
    (reconciler.look() == Sighting::Something).then_some(Cause::Drift)
}

impl Retry {
    /// The first one, or the one after another.
    fn after(before: Option<Self>) -> Self {
        let delay = before.map_or(FIRST_RETRY, |before| (before.delay * 2).min(LAST_RETRY));
        Self { delay, at: Instant::now() + delay }
    }
}

/// One pass, and what is to be said of it.
pub(crate) fn write(family: Family, reconciler: &mut dyn Reconcile, cause: Cause) -> Pass {
    let span = tracing::info_span!("pass", %family);
    let _entered = span.enter();
    let start = Instant::now();
    let pass = reconciler.write();
    let took = start.elapsed();
    if pass.extent == Extent::Full || pass.puts + pass.drops > LARGE {
        memory::give_back();
    }
    for refusal in &pass.refused {
        let owners: Vec<&str> = refusal.owners.iter().map(|owner| &*owner.name).collect();
        error!(owners = owners.join(" "), reason = %refusal.error, "refused; its owner stays as it was, the rest is written");
    }
    match &pass.failure {
        Some(failure) => error!(reason = %failure, "the kernel is not as planned, to be tried again"),
        None if pass.puts + pass.drops == 0 => debug!(?took, ?cause, "the kernel is as planned already"),
        None if cause == Cause::Drift => {
            warn!(puts = pass.puts, drops = pass.drops, ?took, "undid what a stranger changed");
        }
        None => info!(puts = pass.puts, drops = pass.drops, ?took, ?cause, "kernel brought to plan"),
    }
    pass
}

#[cfg(test)]
mod tests;
