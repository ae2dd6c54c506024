//! What the server told of one kind of object, and what a new word of it changes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::objects::{Fact, Key, Statement};
use crate::vocabulary::{About, Claim};
use crate::{Batch, Event, Report};
use manifest_documents::FieldError;

/// The objects of one kind.
#[derive(Debug)]
pub(super) struct Known {
    /// Who tells it, for reports.
    server: String,
    /// Those that are there, and what was last reported of each.
    objects: BTreeMap<Key, Vec<FieldError>>,
    /// While a list is read: those that it has not shown yet.
    unseen: Option<BTreeSet<Key>>,
    ranges: BTreeMap<Arc<str>, Arc<[IpNet]>>,
}

impl Known {
    pub(super) fn new(server: String) -> Self {
        Self { server, objects: BTreeMap::new(), unseen: None, ranges: BTreeMap::new() }
    }

    /// From now on everything is told anew; what is not, is gone.
    pub(super) fn begin_list(&mut self) {
        self.unseen = Some(self.objects.keys().cloned().collect());
    }

    /// All was told.
    pub(super) fn end_list(&mut self) -> Batch {
        let mut batch = Batch::default();
        for key in self.unseen.take().unwrap_or_default() {
            let gone = self.end(&key);
            batch.events.extend(gone);
        }
        batch
    }

    /// An object is so.
    pub(super) fn take(&mut self, statement: Statement) -> Batch {
        let mut batch = Batch::default();
        let About::Object(key, claim) = statement.about else {
            batch.reports.extend(statement.problems.iter().map(|problem| self.report(problem)));
            return batch;
        };
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(&key);
        }
        let before = self.objects.get(&key);
        let is_new = |problem: &&FieldError| before.is_none_or(|before| !before.contains(problem));
        batch.reports.extend(statement.problems.iter().filter(is_new).map(|problem| self.report(problem)));
        let is_known = before.is_some();
        match claim {
            Claim::Is(fact) => {
                batch.events.extend(self.event(&key, fact));
                self.objects.insert(key, statement.problems);
            }
            Claim::NotOurs => batch.events.extend(self.end(&key)),
            // It stays what it was. One that never was is remembered all the same, to be reported once.
            Claim::Refused => {
                self.objects.insert(key, statement.problems);
                tracing::debug!(is_known, "an object was refused");
            }
        }
        batch
    }

    /// An object is no more.
    pub(super) fn gone(&mut self, key: &Key) -> Batch {
        Batch { events: self.end(key).into_iter().collect(), ..Batch::default() }
    }

    /// A Node that is gone stays what it was: the last word on this node's addresses and ranges.
    fn end(&mut self, key: &Key) -> Option<Event> {
        self.objects.remove(key)?;
        match key {
            Key::Service(name) => Some(Event::Service(name.clone(), None)),
            Key::EndpointSlice(name) => Some(Event::EndpointSlice(name.clone(), None)),
            Key::Node(name) => {
                tracing::info!(%name, "the Node object is gone; what it told still counts");
                None
            }
            Key::ServiceCidr(name) => {
                self.ranges.remove(name);
                Some(self.service_ranges())
            }
        }
    }

    fn event(&mut self, key: &Key, fact: Fact) -> Option<Event> {
        match (key, fact) {
            (Key::Service(name), Fact::Service(service)) => Some(Event::Service(name.clone(), Some(service))),
            (Key::EndpointSlice(name), Fact::EndpointSlice(slice)) => {
                Some(Event::EndpointSlice(name.clone(), Some(slice)))
            }
            (Key::Node(_), Fact::Node(node)) => Some(Event::Node(Some(Arc::unwrap_or_clone(node)))),
            (Key::ServiceCidr(name), Fact::ServiceCidr(ranges)) => {
                self.ranges.insert(Arc::clone(name), ranges);
                Some(self.service_ranges())
            }
            _ => None,
        }
    }

    fn service_ranges(&self) -> Event {
        let all: BTreeSet<IpNet> = self.ranges.values().flat_map(|ranges| ranges.iter().copied()).collect();
        Event::ServiceRanges(all.into_iter().collect())
    }

    fn report(&self, problem: &FieldError) -> Report {
        Report { place: self.server.clone(), message: problem.to_string() }
    }
}

#[cfg(test)]
mod tests;
