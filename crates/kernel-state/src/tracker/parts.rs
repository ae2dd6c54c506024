//! What is pending, in the parts in which it is best written one after another.

use std::collections::BTreeSet;

use super::Tracker;
use super::entries::{Entry, EntryId};
use super::owners::Owners;
use crate::{Change, Objects};

/// How much is written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portions {
    /// So many changes are not worth being parted.
    pub small: usize,
    /// So many are enough for one part.
    pub large: usize,
}

impl Portions {
    /// All of it in one part.
    pub const ALL: Self = Self { small: usize::MAX, large: usize::MAX };
}

/// What is written at once.
#[derive(Debug, Default)]
pub struct Part(Vec<EntryId>);

impl Part {
    pub(super) fn ids(&self) -> impl Iterator<Item = EntryId> {
        self.0.iter().copied()
    }
}

impl<O: Objects> Tracker<O> {
    /// What is pending, part by part.
    ///
    /// There are several parts only where there is much to write and all of it is new. Then owners of a lower rank are
    /// written before those of the next, and every owner is whole: what it shares with others comes with the first of
    /// them.
    pub fn pending(&self, portions: Portions) -> Vec<Part> {
        if self.dirty.len() > portions.small && self.dirty.iter().all(|id| self.entries[*id].is_new()) {
            return self.parts_by_owner(portions.large);
        }
        let all: Vec<EntryId> = self.dirty.iter().copied().filter(|id| !self.is_held(*id)).collect();
        if all.is_empty() { Vec::new() } else { vec![Part(all)] }
    }

    /// The changes of a part, as far as they are still pending: puts in rising rank, then drops in falling rank.
    pub fn changes(&self, part: &Part) -> Vec<Change<O>> {
        let entries = part.ids().filter_map(|id| self.entries.get(id));
        let mut changes: Vec<Change<O>> = entries.filter_map(Entry::change).collect();
        changes.sort_unstable_by(|one, other| place(one).cmp(&place(other)));
        changes
    }

    fn parts_by_owner(&self, large: usize) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut part = Part::default();
        let mut shared: BTreeSet<EntryId> = BTreeSet::new();
        let mut rank = None;
        for (owner, id) in &self.owners {
            let record = self.records.get(id);
            let mut ids: Vec<EntryId> = Vec::new();
            for id in record.into_iter().flat_map(|record| record.entries.iter().copied()) {
                let entry = &self.entries[id];
                let is_mine = !matches!(entry.owners, Owners::Many(_)) || shared.insert(id);
                if is_mine && entry.is_new() && !self.is_held(id) {
                    ids.push(id);
                }
            }
            if rank.replace(owner.rank) != Some(owner.rank) || part.0.len() + ids.len() > large {
                parts.push(std::mem::take(&mut part));
            }
            part.0.extend(ids);
        }
        parts.push(part);
        parts.retain(|part| !part.0.is_empty());
        parts
    }
}

fn place<O: Objects>(change: &Change<O>) -> (u8, u8, &O::Key) {
    match change {
        Change::Put { key, .. } => (0, O::rank(key), key),
        Change::Drop { key, .. } => (1, u8::MAX - O::rank(key), key),
    }
}
