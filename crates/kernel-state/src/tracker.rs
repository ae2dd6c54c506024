//! What every owner wants, what the kernel has, and what is pending between the two.
//!
//! The cost of [`Tracker::want`] and [`Tracker::pending`] is that of what changed, never of what there is.
//! What the kernel has is kept only where it differs from what is wanted, and owners know their objects by numbers,
//! so that there is one copy of the state, plus what is pending.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use crate::{Change, Objects, State};
use entries::{Entries, EntryId};

mod entries;
mod owners;
mod parts;

pub use parts::{Part, Portions};

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
    entries: Entries<O>,
    owners: BTreeMap<Owner, OwnerId>,
    records: BTreeMap<OwnerId, Record>,
    /// Those whose actual value is not the wanted one.
    dirty: BTreeSet<EntryId>,
    set_aside: BTreeSet<OwnerId>,
    /// Refused keys that have no owner.
    held: BTreeSet<O::Key>,
    next_id: u32,
    keeping: Keeping<O::Key>,
}

/// Which objects stay when their last owner is gone, until the kernel's state is read again: those that are dear to make
/// again where there are many.
pub struct Keeping<K> {
    /// So many objects are many.
    pub many: usize,
    /// Whether such an object is dear.
    pub is_dear: fn(&K) -> bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OwnerId(u32);

/// What an owner wants.
struct Record {
    owner: Owner,
    entries: Box<[EntryId]>,
}

impl<O: Objects> Tracker<O> {
    /// Nothing wanted, and nothing there.
    pub fn new() -> Self {
        Self {
            entries: Entries::new(),
            owners: BTreeMap::new(),
            records: BTreeMap::new(),
            dirty: BTreeSet::new(),
            set_aside: BTreeSet::new(),
            held: BTreeSet::new(),
            next_id: 0,
            keeping: Keeping { many: usize::MAX, is_dear: |_| false },
        }
    }

    /// As it is, but for what stays when nobody wants it any more.
    #[must_use]
    pub fn keeping(self, keeping: Keeping<O::Key>) -> Self {
        Self { keeping, ..self }
    }

    /// Replaces all that an owner wants. An owner that was set aside is tried again.
    ///
    /// Where two owners want one key they want the same value; should they not, the later call counts.
    pub fn want(&mut self, owner: &Owner, fragment: State<O>) {
        let id = self.id(owner);
        self.set_aside.remove(&id);
        let before = self.records.get_mut(&id).map(|record| mem::take(&mut record.entries));
        for entry in before.unwrap_or_default() {
            if fragment.get(&self.entries[entry].key).is_none() {
                self.release(entry, id);
            }
        }
        let entries: Box<[EntryId]> =
            fragment.into_iter().map(|(key, value)| self.claim(&key, value, id)).collect();
        if entries.is_empty() {
            self.owners.remove(owner);
            self.records.remove(&id);
        } else if let Some(record) = self.records.get_mut(&id) {
            record.entries = entries;
        }
    }

    /// Forgets what the kernel has: a reading follows, by [`Tracker::found`].
    pub fn begin_reading(&mut self) {
        for id in self.entries.ids() {
            if self.entries[id].owners.is_empty() {
                self.entries[id].want(None);
            }
            self.entries[id].now(None);
            self.note(id);
        }
    }

    /// Takes in an object that the kernel has.
    pub fn found(&mut self, key: &O::Key, value: O::Value) {
        let id = self.entries.entry(key);
        self.now(id, Some(value));
    }

    /// Takes in that an object is now so in the kernel, or gone.
    pub fn seen(&mut self, key: &O::Key, value: Option<O::Value>) {
        match value {
            Some(value) => self.found(key, value),
            None => {
                if let Some(id) = self.entries.find(key) {
                    self.now(id, None);
                }
            }
        }
    }

    /// Whether nothing is pending, not even for owners that are set aside.
    pub fn is_settled(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Takes in that all changes of a part were written.
    pub fn written(&mut self, part: &Part) {
        for id in part.ids() {
            if self.entries.get(id).is_some_and(|entry| !entry.is_settled()) {
                self.entries[id].settle();
                self.note(id);
            }
        }
    }

    /// Takes in that changes were written, of a part of which others were not.
    pub fn applied(&mut self, changes: &[Change<O>]) {
        for change in changes {
            // What is wanted may have changed since the changes were handed out, and the entry be gone.
            let id = self.entries.entry(change.key());
            match change {
                Change::Put { value, .. } => self.now(id, Some(value.clone())),
                Change::Drop { .. } => self.now(id, None),
            }
        }
    }

    /// Takes in that the kernel refused an object: all that its owners alone wait for is held back, until they
    /// want something else or are tried again. Answers who that is; nobody, if the object has no owner left.
    pub fn refused(&mut self, key: &O::Key) -> Vec<Owner> {
        let owners: Vec<OwnerId> =
            self.entries.find(key).into_iter().flat_map(|id| self.entries[id].owners()).collect();
        self.set_aside.extend(&owners);
        if owners.is_empty() {
            self.held.insert(key.clone());
        }
        self.owners(key)
    }

    /// Who wants an object, or was the last that did.
    pub fn owners(&self, key: &O::Key) -> Vec<Owner> {
        let ids = self.entries.find(key).into_iter().flat_map(|id| self.entries[id].owners());
        ids.filter_map(|id| self.records.get(&id)).map(|record| record.owner.clone()).collect()
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
        for entry in self.entries.iter() {
            if let Some(value) = &entry.wanted {
                state.put(entry.key.clone(), value.clone());
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
        self.records.insert(id, Record { owner: owner.clone(), entries: Box::default() });
        id
    }

    fn claim(&mut self, key: &O::Key, value: O::Value, owner: OwnerId) -> EntryId {
        let id = self.entries.entry(key);
        let entry = &mut self.entries[id];
        entry.owners.add(owner);
        entry.want(Some(value));
        self.note(id);
        id
    }

    fn release(&mut self, id: EntryId, owner: OwnerId) {
        let are_many = self.entries.count() >= self.keeping.many;
        let entry = &mut self.entries[id];
        entry.owners.remove(owner);
        if entry.owners.is_empty() && !(are_many && (self.keeping.is_dear)(&entry.key)) {
            entry.want(None);
        }
        self.note(id);
    }

    fn now(&mut self, id: EntryId, actual: Option<O::Value>) {
        self.entries[id].now(actual);
        self.note(id);
    }

    /// Brings the set of dirty entries, and their number, in line with an entry's values.
    fn note(&mut self, id: EntryId) {
        let entry = &self.entries[id];
        if entry.is_settled() {
            self.dirty.remove(&id);
        } else {
            self.dirty.insert(id);
        }
        if entry.is_over() {
            self.entries.remove(id);
        }
    }

    fn is_held(&self, id: EntryId) -> bool {
        if self.held.is_empty() && self.set_aside.is_empty() {
            return false;
        }
        let entry = &self.entries[id];
        let mut owners = entry.owners().peekable();
        self.held.contains(&entry.key)
            || (owners.peek().is_some() && owners.all(|owner| self.set_aside.contains(&owner)))
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

#[cfg(test)]
mod tests;
