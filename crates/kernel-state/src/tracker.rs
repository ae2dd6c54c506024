//! What every owner wants, what the kernel has, and what is pending between the two.
//!
//! The cost of [`Tracker::want`] and [`Tracker::pending`] is that of what changed, never of what there is.
//! What the kernel has is kept only where it differs from what is wanted, so that there is one copy of the
//! state, plus what is pending.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use crate::{Change, Objects, State};

mod parts;

pub use parts::Portions;

/// Somebody who wants objects. Owners of a lower rank come first when a load is large.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its place in the order.
    pub rank: u8,
    /// Its name.
    pub name: Arc<str>,
}

/// The wanted and the actual state of one vocabulary.
pub struct Tracker<O: Objects> {
    entries: BTreeMap<O::Key, Entry<O::Value>>,
    owners: BTreeMap<Owner, OwnerId>,
    records: BTreeMap<OwnerId, Record<O::Key>>,
    /// Keys whose actual value is not the wanted one.
    dirty: BTreeSet<O::Key>,
    set_aside: BTreeSet<OwnerId>,
    /// Refused keys that have no owner.
    held: BTreeSet<O::Key>,
    next_id: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OwnerId(u32);

struct Record<K> {
    owner: Owner,
    keys: Vec<K>,
}

struct Entry<V> {
    wanted: Option<V>,
    actual: Actual<V>,
    owners: Owners,
}

enum Actual<V> {
    AsWanted,
    Absent,
    Other(Box<V>),
}

/// Who wants a key; most keys have one owner.
#[expect(
    clippy::box_collection,
    reason = "the many keys with one owner would be as large as those with many"
)]
enum Owners {
    /// Nobody, as far as this process knows.
    Nobody,
    /// Nobody any more; this one was the last.
    LeftBy(OwnerId),
    One(OwnerId),
    /// Perhaps as many as there are services (a chain of the nftables mode), so one more or less must cost little.
    Many(Box<BTreeSet<OwnerId>>),
}

impl<O: Objects> Tracker<O> {
    /// Nothing wanted, and nothing there.
    pub fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            owners: BTreeMap::new(),
            records: BTreeMap::new(),
            dirty: BTreeSet::new(),
            set_aside: BTreeSet::new(),
            held: BTreeSet::new(),
            next_id: 0,
        }
    }

    /// Replaces all that an owner wants. An owner that was set aside is tried again.
    ///
    /// Where two owners want one key they want the same value; should they not, the later call counts.
    pub fn want(&mut self, owner: &Owner, fragment: State<O>) {
        let id = self.id(owner);
        self.set_aside.remove(&id);
        let mut keys = Vec::with_capacity(fragment.len());
        let before = self.records.get_mut(&id).map(|record| mem::take(&mut record.keys)).unwrap_or_default();
        for key in before.iter().filter(|key| fragment.get(key).is_none()) {
            self.release(key, id);
        }
        for (key, value) in fragment {
            self.claim(&key, value, id);
            keys.push(key);
        }
        if keys.is_empty() {
            self.owners.remove(owner);
            self.records.remove(&id);
        } else if let Some(record) = self.records.get_mut(&id) {
            record.keys = keys;
        }
    }

    /// Forgets what the kernel has: a reading follows, by [`Tracker::found`].
    pub fn begin_reading(&mut self) {
        self.dirty.clear();
        self.entries.retain(|_, entry| entry.wanted.is_some());
        for (key, entry) in &mut self.entries {
            entry.actual = Actual::Absent;
            self.dirty.insert(key.clone());
        }
    }

    /// Takes in an object that the kernel has.
    pub fn found(&mut self, key: &O::Key, value: O::Value) {
        let entry = self.entries.entry(key.clone()).or_insert_with(Entry::unknown);
        entry.now(Some(value));
        self.note(key);
    }

    /// Takes in that an object is now so in the kernel, or gone.
    pub fn seen(&mut self, key: &O::Key, value: Option<O::Value>) {
        match value {
            Some(value) => self.found(key, value),
            None => {
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.now(None);
                    self.note(key);
                }
            }
        }
    }

    /// Whether nothing is pending, not even for owners that are set aside.
    pub fn is_settled(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Takes in that changes were written.
    pub fn applied(&mut self, changes: &[Change<O>]) {
        for change in changes {
            let key = change.key();
            // What is wanted may have changed since the changes were handed out, and the entry be gone.
            let entry = self.entries.entry(key.clone()).or_insert_with(Entry::unknown);
            match change {
                Change::Put { value, .. } => entry.now(Some(value.clone())),
                Change::Drop { .. } => entry.now(None),
            }
            self.note(key);
        }
    }

    /// Takes in that the kernel refused an object: all that its owners alone wait for is held back, until they
    /// want something else or are tried again. Answers who that is; nobody, if the object has no owner left.
    pub fn refused(&mut self, key: &O::Key) -> Vec<Owner> {
        let owners: Vec<OwnerId> =
            self.entries.get(key).into_iter().flat_map(|entry| entry.owners.iter()).collect();
        self.set_aside.extend(&owners);
        if owners.is_empty() {
            self.held.insert(key.clone());
        }
        owners.iter().filter_map(|id| self.records.get(id)).map(|record| record.owner.clone()).collect()
    }

    /// Tries all owners again that were set aside. Answers whether there were any.
    pub fn try_again(&mut self) -> Retried {
        let nobody = self.set_aside.is_empty() && self.held.is_empty();
        self.set_aside.clear();
        self.held.clear();
        if nobody { Retried::Nobody } else { Retried::Some }
    }

    /// The wanted state.
    pub fn wanted(&self) -> State<O> {
        let mut state = State::new();
        for (key, entry) in &self.entries {
            if let Some(value) = &entry.wanted {
                state.put(key.clone(), value.clone());
            }
        }
        state
    }

    fn id(&mut self, owner: &Owner) -> OwnerId {
        if let Some(id) = self.owners.get(owner) {
            return *id;
        }
        let id = OwnerId(self.next_id);
        self.next_id += 1;
        self.owners.insert(owner.clone(), id);
        self.records.insert(id, Record { owner: owner.clone(), keys: Vec::new() });
        id
    }

    fn claim(&mut self, key: &O::Key, value: O::Value, id: OwnerId) {
        let entry = self.entries.entry(key.clone()).or_insert_with(Entry::unknown);
        entry.owners.add(id);
        entry.want(Some(value));
        self.note(key);
    }

    fn release(&mut self, key: &O::Key, id: OwnerId) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.owners.remove(id);
        if entry.owners.is_empty() {
            entry.want(None);
        }
        self.note(key);
    }

    /// Brings the set of dirty keys, and the entry itself, in line with the entry's values.
    fn note(&mut self, key: &O::Key) {
        let Some(entry) = self.entries.get(key) else { return };
        let settled = match (&entry.wanted, &entry.actual) {
            (_, Actual::AsWanted) | (None, Actual::Absent) => true,
            (None, Actual::Other(_)) | (Some(_), Actual::Absent | Actual::Other(_)) => false,
        };
        if settled {
            self.dirty.remove(key);
        } else {
            self.dirty.insert(key.clone());
        }
        if entry.wanted.is_none() && !matches!(entry.actual, Actual::Other(_)) {
            self.entries.remove(key);
        }
    }

    fn is_held(&self, key: &O::Key) -> bool {
        if self.set_aside.is_empty() && self.held.is_empty() {
            return false;
        }
        let mut owners = self.entries.get(key).into_iter().flat_map(|entry| entry.owners.iter()).peekable();
        self.held.contains(key) || (owners.peek().is_some() && owners.all(|id| self.set_aside.contains(&id)))
    }

    fn change(&self, key: &O::Key) -> Option<Change<O>> {
        let entry = self.entries.get(key)?;
        let actual = match &entry.actual {
            Actual::AsWanted => return None,
            Actual::Other(value) => Some((**value).clone()),
            Actual::Absent => None,
        };
        match &entry.wanted {
            Some(value) => Some(Change::Put { key: key.clone(), value: value.clone(), replaced: actual }),
            None => actual.map(|value| Change::Drop { key: key.clone(), value }),
        }
    }
}

/// Whether [`Tracker::try_again`] found anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// There were owners set aside.
    Some,
    /// Nobody was.
    Nobody,
}

impl Owner {
    /// An owner of a rank and name.
    pub fn new(rank: u8, name: &str) -> Self {
        Self { rank, name: name.into() }
    }
}

impl<O: Objects> Default for Tracker<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Eq> Entry<V> {
    fn unknown() -> Self {
        Self { wanted: None, actual: Actual::Absent, owners: Owners::Nobody }
    }

    fn want(&mut self, value: Option<V>) {
        if self.wanted == value {
            return;
        }
        let before = mem::replace(&mut self.wanted, value);
        let actual = match mem::replace(&mut self.actual, Actual::Absent) {
            Actual::AsWanted => before,
            Actual::Other(actual) => Some(*actual),
            Actual::Absent => None,
        };
        self.now(actual);
    }

    fn now(&mut self, actual: Option<V>) {
        self.actual = match actual {
            Some(_) if actual == self.wanted => Actual::AsWanted,
            Some(actual) => Actual::Other(Box::new(actual)),
            None => Actual::Absent,
        };
    }
}

impl Owners {
    fn add(&mut self, id: OwnerId) {
        match self {
            Self::Nobody | Self::LeftBy(_) => *self = Self::One(id),
            Self::One(same) if *same == id => {}
            Self::One(other) => *self = Self::Many(Box::new(BTreeSet::from([*other, id]))),
            Self::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    fn remove(&mut self, id: OwnerId) {
        match self {
            Self::One(last) if *last == id => *self = Self::LeftBy(id),
            Self::Many(ids) => {
                ids.remove(&id);
                if let (1, Some(last)) = (ids.len(), ids.first().copied()) {
                    *self = Self::One(last);
                }
            }
            Self::One(_) | Self::Nobody | Self::LeftBy(_) => {}
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Nobody | Self::LeftBy(_))
    }

    fn iter(&self) -> impl Iterator<Item = OwnerId> {
        let (one, many) = match self {
            Self::Nobody => (None, None),
            Self::One(id) | Self::LeftBy(id) => (Some(*id), None),
            Self::Many(ids) => (None, Some(ids.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests;
