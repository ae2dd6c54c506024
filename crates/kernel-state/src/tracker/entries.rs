//! The entries of a tracker: each key is kept once, and is known by a small number from then on.

use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::ops::{Index, IndexMut};

use hashbrown::HashTable;
use slab::Slab;

use super::OwnerId;
use super::owners::Owners;
use crate::{Change, Objects};

/// All that is wanted or there.
pub(super) struct Entries<O: Objects> {
    slots: Slab<Entry<O>>,
    by_key: HashTable<Place>,
    hasher: RandomState,
}

/// Where an entry is. With half of its key's hash, so that no entry is looked at for being in another one's way.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    id: EntryId,
}

/// The number of an entry, for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId(u32);

/// An object: who wants it and how, and how the kernel has it.
pub(super) struct Entry<O: Objects> {
    pub(super) key: O::Key,
    pub(super) wanted: Option<O::Value>,
    pub(super) actual: Actual<O::Value>,
    pub(super) owners: Owners,
}

/// What the kernel has; a copy of it only where it is not what is wanted.
pub(super) enum Actual<V> {
    AsWanted,
    Absent,
    Other(Box<V>),
}

impl<O: Objects> Entries<O> {
    pub(super) fn new() -> Self {
        Self { slots: Slab::new(), by_key: HashTable::new(), hasher: RandomState::new() }
    }

    /// The entry of a key, if there is one.
    pub(super) fn find(&self, key: &O::Key) -> Option<EntryId> {
        self.find_hashed(self.hash(key), key)
    }

    /// The entry of a number, if there is one.
    pub(super) fn get(&self, id: EntryId) -> Option<&Entry<O>> {
        self.slots.get(id.place())
    }

    /// The entry of a key, which is neither wanted nor there if it is new.
    pub(super) fn entry(&mut self, key: &O::Key) -> EntryId {
        let hash = self.hash(key);
        if let Some(id) = self.find_hashed(hash, key) {
            return id;
        }
        let number = self.slots.insert(Entry::unknown(key.clone()));
        let id = EntryId(u32::try_from(number).expect("a kernel has fewer objects"));
        self.by_key.insert_unique(spread(hash), Place { hash, id }, |place| spread(place.hash));
        id
    }

    /// Forgets an entry.
    pub(super) fn remove(&mut self, id: EntryId) {
        let entry = self.slots.remove(id.place());
        if let Ok(found) = self.by_key.find_entry(spread(self.hash(&entry.key)), |place| place.id == id) {
            found.remove();
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<O>> {
        self.slots.iter().map(|(_, entry)| entry)
    }

    /// The numbers of all of them, in no order.
    pub(super) fn ids(&self) -> Vec<EntryId> {
        self.slots
            .iter()
            .map(|(number, _)| EntryId(u32::try_from(number).expect("as it was given")))
            .collect()
    }

    fn find_hashed(&self, hash: u32, key: &O::Key) -> Option<EntryId> {
        let is_it = |place: &Place| place.hash == hash && self[place.id].key == *key;
        self.by_key.find(spread(hash), is_it).map(|place| place.id)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a half is enough")]
    fn hash(&self, key: &O::Key) -> u32 {
        self.hasher.hash_one(key) as u32
    }
}

/// A half as a whole: a table takes its places from one end, and what tells those of a place apart from the other.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl EntryId {
    fn place(self) -> usize {
        self.0 as usize
    }
}

impl<O: Objects> Index<EntryId> for Entries<O> {
    type Output = Entry<O>;

    fn index(&self, id: EntryId) -> &Entry<O> {
        &self.slots[id.place()]
    }
}

impl<O: Objects> IndexMut<EntryId> for Entries<O> {
    fn index_mut(&mut self, id: EntryId) -> &mut Entry<O> {
        &mut self.slots[id.place()]
    }
}

impl<O: Objects> Entry<O> {
    fn unknown(key: O::Key) -> Self {
        Self { key, wanted: None, actual: Actual::Absent, owners: Owners::Nobody }
    }

    /// From now on this is wanted.
    pub(super) fn want(&mut self, value: Option<O::Value>) {
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

    /// The kernel has this.
    pub(super) fn now(&mut self, actual: Option<O::Value>) {
        self.actual = match actual {
            Some(_) if actual == self.wanted => Actual::AsWanted,
            Some(actual) => Actual::Other(Box::new(actual)),
            None => Actual::Absent,
        };
    }

    /// The kernel has what is wanted.
    pub(super) fn settle(&mut self) {
        self.actual = if self.wanted.is_some() { Actual::AsWanted } else { Actual::Absent };
    }

    /// What is to be written.
    pub(super) fn change(&self) -> Option<Change<O>> {
        let key = || self.key.clone();
        match (&self.wanted, &self.actual) {
            (_, Actual::AsWanted) | (None, Actual::Absent) => None,
            (Some(value), Actual::Absent) => {
                Some(Change::Put { key: key(), value: value.clone(), replaced: None })
            }
            (Some(value), Actual::Other(there)) => {
                Some(Change::Put { key: key(), value: value.clone(), replaced: Some((**there).clone()) })
            }
            (None, Actual::Other(there)) => Some(Change::Drop { key: key(), value: (**there).clone() }),
        }
    }

    /// Whether it is wanted, and not there at all.
    pub(super) fn is_new(&self) -> bool {
        self.wanted.is_some() && matches!(self.actual, Actual::Absent)
    }

    /// Whether there is nothing to write.
    pub(super) fn is_settled(&self) -> bool {
        match (&self.wanted, &self.actual) {
            (_, Actual::AsWanted) | (None, Actual::Absent) => true,
            (None, Actual::Other(_)) | (Some(_), Actual::Absent | Actual::Other(_)) => false,
        }
    }

    /// Whether it is of no use any more.
    pub(super) fn is_over(&self) -> bool {
        self.wanted.is_none() && !matches!(self.actual, Actual::Other(_))
    }

    /// Those who want it.
    pub(super) fn owners(&self) -> impl Iterator<Item = OwnerId> {
        self.owners.iter()
    }
}
