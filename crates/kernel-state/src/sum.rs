//! Two vocabularies as one, for a mode that needs both.
//!
//! The second one refers to the first one: what is put is put in the first before the second, what is dropped is
//! dropped in the second before the first. More than two are a sum of a vocabulary and a sum.

use std::fmt::{self, Write};
use std::marker::PhantomData;

use crate::{Change, Objects, State};

/// The sum of two vocabularies.
pub struct Sum<First, Then>(PhantomData<(First, Then)>);

/// Something of the first vocabulary of a sum, or of the second.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Either<First, Then> {
    /// Of the first.
    First(First),
    /// Of the second.
    Then(Then),
}

/// Changes of a sum, each in its own vocabulary, in the order in which they are to be written.
pub struct Parts<First: Objects, Then: Objects> {
    /// What is put in the first.
    pub first_puts: Vec<Change<First>>,
    /// All changes of the second.
    pub then: Vec<Change<Then>>,
    /// What is dropped in the first.
    pub first_drops: Vec<Change<First>>,
}

impl<First: Objects, Then: Objects> Parts<First, Then> {
    /// Takes changes apart. They keep their order, in which the three parts follow one another.
    pub fn of(changes: &[Change<Sum<First, Then>>]) -> Self {
        let mut parts = Self { first_puts: Vec::new(), then: Vec::new(), first_drops: Vec::new() };
        for change in changes {
            match change.clone() {
                Change::Put { key: Either::First(key), value: Either::First(value), replaced } => {
                    parts.first_puts.push(Change::Put { key, value, replaced: replaced.and_then(first) });
                }
                Change::Put { key: Either::Then(key), value: Either::Then(value), replaced } => {
                    parts.then.push(Change::Put { key, value, replaced: replaced.and_then(then) });
                }
                Change::Drop { key: Either::First(key), value: Either::First(value) } => {
                    parts.first_drops.push(Change::Drop { key, value });
                }
                Change::Drop { key: Either::Then(key), value: Either::Then(value) } => {
                    parts.then.push(Change::Drop { key, value });
                }
                // A key of one vocabulary never has a value of the other.
                Change::Put { .. } | Change::Drop { .. } => {}
            }
        }
        parts
    }
}

impl<First: Objects, Then: Objects> State<Sum<First, Then>> {
    /// The objects of each vocabulary.
    pub fn parts(&self) -> (State<First>, State<Then>) {
        let (mut in_first, mut in_then) = (State::new(), State::new());
        for (key, value) in self.iter() {
            match (key.clone(), value.clone()) {
                (Either::First(key), Either::First(value)) => in_first.put(key, value),
                (Either::Then(key), Either::Then(value)) => in_then.put(key, value),
                (Either::First(_), Either::Then(_)) | (Either::Then(_), Either::First(_)) => {}
            }
        }
        (in_first, in_then)
    }

    /// A state of both.
    pub fn of(in_first: State<First>, in_then: State<Then>) -> Self {
        let mut state = Self::new();
        for (key, value) in in_first {
            state.put(Either::First(key), Either::First(value));
        }
        for (key, value) in in_then {
            state.put(Either::Then(key), Either::Then(value));
        }
        state
    }
}

impl<First: Objects, Then: Objects> Objects for Sum<First, Then> {
    type Key = Either<First::Key, Then::Key>;
    type Value = Either<First::Value, Then::Value>;
    const RANKS: u8 = First::RANKS + Then::RANKS;

    fn rank(key: &Self::Key) -> u8 {
        match key {
            Either::First(key) => First::rank(key),
            Either::Then(key) => First::RANKS + Then::rank(key),
        }
    }

    fn print(key: &Self::Key, value: &Self::Value, out: &mut dyn Write) -> fmt::Result {
        match (key, value) {
            (Either::First(key), Either::First(value)) => First::print(key, value, out),
            (Either::Then(key), Either::Then(value)) => Then::print(key, value, out),
            (Either::First(_), Either::Then(_)) | (Either::Then(_), Either::First(_)) => Ok(()),
        }
    }

    fn print_state(state: &State<Self>, out: &mut dyn Write) -> fmt::Result {
        let (in_first, in_then) = state.parts();
        First::print_state(&in_first, out)?;
        Then::print_state(&in_then, out)
    }

    fn print_changes(changes: &[Change<Self>], out: &mut dyn Write) -> fmt::Result {
        let parts = Parts::of(changes);
        First::print_changes(&parts.first_puts, out)?;
        Then::print_changes(&parts.then, out)?;
        First::print_changes(&parts.first_drops, out)
    }

    fn rules(key: &Self::Key, value: &Self::Value) -> Option<(&'static str, usize)> {
        match (key, value) {
            (Either::First(key), Either::First(value)) => First::rules(key, value),
            (Either::Then(key), Either::Then(value)) => Then::rules(key, value),
            (Either::First(_), Either::Then(_)) | (Either::Then(_), Either::First(_)) => None,
        }
    }
}

fn first<First, Then>(either: Either<First, Then>) -> Option<First> {
    if let Either::First(value) = either { Some(value) } else { None }
}

fn then<First, Then>(either: Either<First, Then>) -> Option<Then> {
    if let Either::Then(value) = either { Some(value) } else { None }
}

#[cfg(test)]
mod tests;
