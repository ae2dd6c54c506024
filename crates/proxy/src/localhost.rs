//! Node ports on localhost beside the rules of a mode that cannot serve them: listeners of our own.
//!
//! A listener that cannot be opened hurts nothing else, neither the rules of its Service nor another listener: the
//! port belongs to another process, which may live as long as we do. So it is told once, and tried again.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel_io::{Target, WriteError};
use kernel_state::listeners::{Key, Listeners};
use kernel_state::{Change, Objects, Portions, Retried, Tracker};
use proxy_modes::Localhost;
use service_plan::Plan;
use tracing::{debug, error, info};

use crate::modes::Reconcile;
use crate::reconciler::{Pass, Sighting, fragment, service_owner};

/// What became of the listeners on localhost in a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalhostPass {
    /// How many are open after it.
    pub open: usize,
    /// How many it could not open, to be tried again.
    pub refused: usize,
}

/// A reconciler of rules, and the listeners beside them.
pub(crate) struct WithLocalhost<T> {
    rules: Box<dyn Reconcile>,
    tracker: Tracker<Listeners>,
    target: T,
    open: BTreeSet<Key>,
    /// Those whose refusal was told.
    told: BTreeSet<Key>,
}

impl<T: Target<Listeners> + Send> WithLocalhost<T> {
    /// No listener is open yet.
    pub(crate) fn new(rules: Box<dyn Reconcile>, target: T) -> Self {
        let (open, told) = (BTreeSet::new(), BTreeSet::new());
        Self { rules, tracker: Tracker::new(), target, open, told }
    }

    fn write_listeners(&mut self) -> LocalhostPass {
        let mut refused = 0;
        let parts = self.tracker.pending(Portions::ALL);
        let changes: Vec<_> = parts.iter().flat_map(|part| self.tracker.changes(part)).collect();
        for change in changes {
            match self.target.write(std::slice::from_ref(&change)) {
                Ok(()) => self.applied(&change),
                Err(error) => {
                    refused += 1;
                    self.tell(change.key(), &error);
                }
            }
        }
        LocalhostPass { open: self.open.len(), refused }
    }

    fn applied(&mut self, change: &Change<Listeners>) {
        self.tracker.applied(std::slice::from_ref(change));
        let key = change.key();
        match change {
            Change::Put { .. } => self.open.insert(key.clone()),
            Change::Drop { .. } => self.open.remove(key),
        };
        if self.told.remove(key) {
            info!(at = %key.place, "a node port is served on localhost after all");
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            let mut text = String::new();
            Listeners::print_changes(std::slice::from_ref(change), &mut text)
                .expect("writing to a String cannot fail");
            debug!(line = text.trim_end(), "written");
        }
    }

    fn tell(&mut self, key: &Key, error: &WriteError) {
        if self.told.insert(key.clone()) {
            let service = self.tracker.owners(key).first().map(|owner| Arc::clone(&owner.name));
            let (service, at, reason) = (service.unwrap_or_default(), &key.place, &error.source);
            error!(%service, %at, %reason, "the node port is not served on localhost, to be tried again");
        }
    }
}

impl<T: Target<Listeners> + Send> Reconcile for WithLocalhost<T> {
    fn want(&mut self, plan: &Plan) {
        self.rules.want(plan);
        for (name, ports) in &plan.services {
            self.tracker.want(&service_owner(name), fragment(&Localhost, ports, &plan.node));
        }
        // A port that nobody wanted for a while is told anew.
        self.told.retain(|key| !self.tracker.owners(key).is_empty());
    }

    fn write(&mut self) -> Pass {
        let mut pass = self.rules.write();
        pass.localhost = Some(self.write_listeners());
        pass
    }

    fn try_again(&mut self) -> Retried {
        self.rules.try_again()
    }

    fn look(&mut self) -> Sighting {
        self.rules.look()
    }
}

#[cfg(test)]
mod tests;
