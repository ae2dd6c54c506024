//! One family's writer: a thread that takes plans and keeps at it until the kernel has them.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use service_plan::{Family, Plan};
use tracing::{debug, error, info};

use crate::config::MIN_SYNC_PERIOD;
use crate::modes::Reconcile;
use crate::reconciler::Pass;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// When to try again what could not be written.
#[derive(Clone, Copy, Debug)]
struct Retry {
    delay: Duration,
    at: Instant,
}

/// Writes plans as they come, those of a burst together, until no more can come. Calls `settled` once, when the
/// kernel is as planned for the first time.
pub(crate) fn write_plans(
    family: Family,
    reconciler: &mut dyn Reconcile,
    plans: &Receiver<Plan>,
    settled: impl FnOnce(),
) {
    let mut settled = Some(settled);
    let mut retry: Option<Retry> = None;
    loop {
        let plan = match retry {
            None => plans.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(retry) => plans.recv_timeout(retry.at.saturating_duration_since(Instant::now())),
        };
        match plan {
            Ok(plan) => reconciler.want(&plan),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for plan in plans.try_iter() {
            reconciler.want(&plan);
        }
        // Not only when it is quiet: plans may never stop coming.
        let due = retry.filter(|retry| retry.at <= Instant::now());
        if due.is_some() {
            reconciler.try_again();
        }
        retry = if write(family, reconciler).is_complete() {
            if let Some(settled) = settled.take() {
                settled();
            }
            None
        } else if retry.is_some() && due.is_none() {
            retry
        } else {
            Some(Retry::after(due))
        };
        thread::sleep(MIN_SYNC_PERIOD);
    }
}

impl Retry {
    /// The first one, or the one after another.
    fn after(before: Option<Self>) -> Self {
        let delay = before.map_or(FIRST_RETRY, |before| (before.delay * 2).min(LAST_RETRY));
        Self { delay, at: Instant::now() + delay }
    }
}

/// One pass, and what is to be said of it.
pub(crate) fn write(family: Family, reconciler: &mut dyn Reconcile) -> Pass {
    let span = tracing::info_span!("pass", %family);
    let _entered = span.enter();
    let start = Instant::now();
    let pass = reconciler.write();
    let took = start.elapsed();
    for refusal in &pass.refused {
        let owners: Vec<&str> = refusal.owners.iter().map(|owner| &*owner.name).collect();
        error!(owners = owners.join(" "), reason = %refusal.error, "refused; its owner stays as it was, the rest is written");
    }
    match &pass.failure {
        Some(failure) => error!(reason = %failure, "the kernel is not as planned, to be tried again"),
        None if pass.puts + pass.drops == 0 => debug!(?took, "the kernel is as planned already"),
        None => info!(puts = pass.puts, drops = pass.drops, ?took, "kernel brought to plan"),
    }
    pass
}

#[cfg(test)]
mod tests;
