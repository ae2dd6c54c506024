//! Kernel objects as values, and the one way in which they are diffed.
//!
//! A vocabulary ([`Objects`]) says what an object's name and content are. A [`State`] is a set of such
//! objects. The [`Tracker`] holds what every owner wants and what the kernel has, and hands out the
//! [`Change`]s between the two. Nothing in this crate knows what a Service is, or touches a kernel.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display, Formatter, Write};
use std::hash::Hash;

pub mod ipset;
pub mod ipvs;
pub mod links;
pub mod listeners;
pub mod nft;
pub mod routing;
mod sum;
mod tracker;
pub mod xtables;

pub use sum::{Either, Parts, Sum};
pub use tracker::{Keeping, Owner, Part, Portions, Retried, Tracker};

/// One vocabulary of kernel objects.
pub trait Objects: Sized {
    /// What names an object.
    type Key: Ord + Hash + Clone + Debug + Send + Sync;
    /// What it contains.
    type Value: Eq + Clone + Debug + Send + Sync;

    /// Every rank is less than this, so that vocabularies can stand behind one another.
    const RANKS: u8 = 16;

    /// Objects of a lower rank are put first and dropped last: what others refer to has the lower rank.
    fn rank(key: &Self::Key) -> u8;

    /// Prints one object in the kernel tool's own syntax, a line a rule or element.
    fn print(key: &Self::Key, value: &Self::Value, out: &mut dyn Write) -> fmt::Result;

    /// Prints a whole state in the tool's own syntax; sorted, and such that the tool could read it.
    fn print_state(state: &State<Self>, out: &mut dyn Write) -> fmt::Result {
        state.iter().try_for_each(|(key, value)| Self::print(key, value, out))
    }

    /// Prints changes as they would be written.
    fn print_changes(changes: &[Change<Self>], out: &mut dyn Write) -> fmt::Result;

    /// How many rules of which table an object is, in a vocabulary whose rules are counted.
    fn rules(_key: &Self::Key, _value: &Self::Value) -> Option<(&'static str, usize)> {
        None
    }
}

/// A set of kernel objects, sorted by name.
pub struct State<O: Objects>(BTreeMap<O::Key, O::Value>);

/// One step from what is to what should be.
pub enum Change<O: Objects> {
    /// The object is made, or its content replaced.
    Put {
        /// Its name.
        key: O::Key,
        /// Its content.
        value: O::Value,
        /// The content that it had.
        replaced: Option<O::Value>,
    },
    /// The object is removed.
    Drop {
        /// Its name.
        key: O::Key,
        /// The content that it had.
        value: O::Value,
    },
}

impl<O: Objects> State<O> {
    /// No objects.
    pub fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Puts an object in. Of two values for one key the later counts.
    pub fn put(&mut self, key: O::Key, value: O::Value) {
        self.0.insert(key, value);
    }

    /// Takes an object out.
    pub fn remove(&mut self, key: &O::Key) -> Option<O::Value> {
        self.0.remove(key)
    }

    /// Adds another state's objects.
    pub fn extend(&mut self, other: Self) {
        if self.0.is_empty() {
            self.0 = other.0;
        } else {
            self.0.extend(other.0);
        }
    }

    /// The content of an object.
    pub fn get(&self, key: &O::Key) -> Option<&O::Value> {
        self.0.get(key)
    }

    /// All objects, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&O::Key, &O::Value)> {
        self.0.iter()
    }

    /// The objects from a name on, sorted by name.
    pub fn iter_from(&self, first: &O::Key) -> impl Iterator<Item = (&O::Key, &O::Value)> {
        self.0.range(first..)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it becomes by a change.
    pub fn apply(&mut self, change: &Change<O>) {
        match change {
            Change::Put { key, value, .. } => self.put(key.clone(), value.clone()),
            Change::Drop { key, .. } => {
                self.remove(key);
            }
        }
    }
}

impl<O: Objects> Change<O> {
    /// The name of the object.
    pub fn key(&self) -> &O::Key {
        match self {
            Self::Put { key, .. } | Self::Drop { key, .. } => key,
        }
    }
}

impl<O: Objects> IntoIterator for State<O> {
    type Item = (O::Key, O::Value);
    type IntoIter = std::collections::btree_map::IntoIter<O::Key, O::Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<O: Objects> Default for State<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: Objects> Clone for State<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<O: Objects> PartialEq for State<O> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<O: Objects> Eq for State<O> {}

impl<O: Objects> Debug for State<O> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl<O: Objects> Display for State<O> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        O::print_state(self, out)
    }
}

impl<O: Objects> Clone for Change<O> {
    fn clone(&self) -> Self {
        match self {
            Self::Put { key, value, replaced } => {
                Self::Put { key: key.clone(), value: value.clone(), replaced: replaced.clone() }
            }
            Self::Drop { key, value } => Self::Drop { key: key.clone(), value: value.clone() },
        }
    }
}

impl<O: Objects> PartialEq for Change<O> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Put { key, value, replaced },
                Self::Put { key: key2, value: value2, replaced: replaced2 },
            ) => key == key2 && value == value2 && replaced == replaced2,
            (Self::Drop { key, value }, Self::Drop { key: key2, value: value2 }) => {
                key == key2 && value == value2
            }
            (Self::Put { .. }, Self::Drop { .. }) | (Self::Drop { .. }, Self::Put { .. }) => false,
        }
    }
}

impl<O: Objects> Debug for Change<O> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value, .. } => write!(out, "put {key:?} = {value:?}"),
            Self::Drop { key, .. } => write!(out, "drop {key:?}"),
        }
    }
}
