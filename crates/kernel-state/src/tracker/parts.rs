//! What is pending, in the parts in which it is best written one after another.

use std::collections::BTreeSet;

use super::{Actual, Entry, Owners, Tracker};
use crate::{Change, Objects};

/// How much is written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portions {
    /// So many changes are not worth being parted.
    pub small: usize,
    /// So many are enough for one part.
    pub large: usize,
}

impl<O: Objects> Tracker<O> {
    /// The keys of what is pending, part by part.
    ///
    /// There are several parts only where there is much to write and all of it is new. Then owners of a lower rank are
    /// written before those of the next, and every owner is whole: what it shares with others comes with the first of
    /// them.
    pub fn pending(&self, portions: Portions) -> Vec<Vec<O::Key>> {
        let is_pending = |key: &&O::Key| !self.is_held(key);
        if self.dirty.len() > portions.small && self.is_all_new() {
            return self.parts_by_owner(portions.large);
        }
        let all: Vec<O::Key> = self.dirty.iter().filter(is_pending).cloned().collect();
        if all.is_empty() { Vec::new() } else { vec![all] }
    }

    /// The changes of a part, as far as they are still pending: puts in rising rank, then drops in falling rank.
    pub fn changes(&self, keys: &[O::Key]) -> Vec<Change<O>> {
        let mut changes: Vec<Change<O>> = keys.iter().filter_map(|key| self.change(key)).collect();
        changes.sort_by_key(|change| match change {
            Change::Put { key, .. } => (0, O::rank(key)),
            Change::Drop { key, .. } => (1, u8::MAX - O::rank(key)),
        });
        changes
    }

    fn is_all_new(&self) -> bool {
        self.dirty.iter().filter_map(|key| self.entries.get(key)).all(is_new)
    }

    fn parts_by_owner(&self, large: usize) -> Vec<Vec<O::Key>> {
        let mut parts: Vec<Vec<O::Key>> = Vec::new();
        let mut part: Vec<O::Key> = Vec::new();
        let mut shared: BTreeSet<&O::Key> = BTreeSet::new();
        let mut rank = None;
        for (owner, id) in &self.owners {
            let record = self.records.get(id);
            let mut keys: Vec<O::Key> = Vec::new();
            for key in record.into_iter().flat_map(|record| &record.keys) {
                let Some(entry) = self.entries.get(key) else { continue };
                let is_mine = !matches!(entry.owners, Owners::Many(_)) || shared.insert(key);
                if is_mine && is_new(entry) && !self.is_held(key) {
                    keys.push(key.clone());
                }
            }
            if rank.replace(owner.rank) != Some(owner.rank) || part.len() + keys.len() > large {
                parts.push(std::mem::take(&mut part));
            }
            part.extend(keys);
        }
        parts.push(part);
        parts.retain(|part| !part.is_empty());
        parts
    }
}

fn is_new<V>(entry: &Entry<V>) -> bool {
    entry.wanted.is_some() && matches!(entry.actual, Actual::Absent)
}
