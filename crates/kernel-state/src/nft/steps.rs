//! Changes as the kernel takes them: one command after another, each of which may rely on those before it.

use std::sync::Arc;

use super::{Chain, Data, Family, Key, Name, Nft, Object, Rule, SetSpec, Tuple, Value};
use crate::Change;

/// One command to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The family of the table.
    pub family: Family,
    /// What is to be done.
    pub command: Command<'a>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Makes the table, with this comment.
    AddTable(&'a str),
    /// Removes the table with all that is in it.
    DeleteTable,
    /// Makes a set or map.
    AddSet(&'a Name, &'a SetSpec),
    /// Removes a set or map.
    DeleteSet(&'a Name),
    /// Makes a chain without rules.
    AddChain(&'a Name, &'a Chain),
    /// Removes the rules of a chain.
    FlushChain(&'a Name),
    /// Removes a chain without rules.
    DeleteChain(&'a Name),
    /// Appends a rule to a chain.
    AddRule(&'a Name, &'a Rule),
    /// Puts an element into a set or map.
    AddElement(&'static str, &'a Tuple, &'a Data),
    /// Takes an element out.
    DeleteElement(&'static str, &'a Tuple),
}

/// Steps, each with the place of the change that it belongs to.
pub type Steps<'a> = Vec<(usize, Step<'a>)>;

/// The steps that make some changes, in the order in which the kernel takes them.
///
/// What others refer to is made before and removed after them. Elements are taken out before others are put in,
/// since ranges may not overlap even for a moment.
pub fn steps(changes: &[Change<Nft>]) -> Steps<'_> {
    let mut phases = Phases::default();
    for (place, change) in changes.iter().enumerate() {
        let mut phase = phases.of_change(place, change.key().family);
        match change {
            Change::Put { key, value, replaced } => phase.put(key, value, replaced.as_ref()),
            Change::Drop { key, .. } => phase.drop(key),
        }
    }
    phases.into_steps()
}

#[derive(Default)]
struct Phases<'a>([Steps<'a>; 9]);

/// The phases, in their order.
#[derive(Clone, Copy)]
enum Phase {
    Tables,
    Sets,
    Chains,
    Rules,
    ElementsOut,
    ElementsIn,
    Flushes,
    ChainsOut,
    SetsOut,
}

struct Writer<'p, 'a> {
    phases: &'p mut Phases<'a>,
    place: usize,
    family: Family,
}

impl<'a> Phases<'a> {
    fn of_change(&mut self, place: usize, family: Family) -> Writer<'_, 'a> {
        Writer { phases: self, place, family }
    }

    fn into_steps(self) -> Steps<'a> {
        let [tables, ..] = &self.0;
        // With the table all else goes, so nothing else need be said.
        let gone = tables.iter().position(|(_, step)| step.command == Command::DeleteTable);
        match gone {
            Some(last) if last + 1 == tables.len() => vec![tables[last]],
            Some(_) | None => self.0.into_iter().flatten().collect(),
        }
    }
}

impl<'a> Writer<'_, 'a> {
    fn put(&mut self, key: &'a Key, value: &'a Value, replaced: Option<&'a Value>) {
        match (&key.object, value) {
            (Object::Table, Value::Table(comment)) => {
                if replaced.is_some() {
                    self.add(Phase::Tables, Command::DeleteTable);
                }
                self.add(Phase::Tables, Command::AddTable(comment));
            }
            (Object::Set(name), Value::Set(spec)) => {
                if replaced.is_some() {
                    self.add(Phase::Sets, Command::DeleteSet(name));
                }
                self.add(Phase::Sets, Command::AddSet(name, spec));
            }
            (Object::Chain(name), Value::Chain(chain)) => self.put_chain(name, chain, replaced),
            (Object::Element(set, tuple), Value::Element(data)) => {
                if replaced.is_some() {
                    self.add(Phase::ElementsOut, Command::DeleteElement(set, tuple));
                }
                self.add(Phase::ElementsIn, Command::AddElement(set, tuple, data));
            }
            // No state has a value of another kind than its key.
            (Object::Table | Object::Set(_) | Object::Chain(_) | Object::Element(..), _) => {}
        }
    }

    fn put_chain(&mut self, name: &'a Name, chain: &'a Arc<Chain>, replaced: Option<&'a Value>) {
        match replaced {
            Some(Value::Chain(before)) if before.hook == chain.hook => {
                self.add(Phase::Rules, Command::FlushChain(name));
            }
            Some(_) => {
                self.add(Phase::Chains, Command::FlushChain(name));
                self.add(Phase::Chains, Command::DeleteChain(name));
                self.add(Phase::Chains, Command::AddChain(name, chain));
            }
            None => self.add(Phase::Chains, Command::AddChain(name, chain)),
        }
        for rule in &chain.rules {
            self.add(Phase::Rules, Command::AddRule(name, rule));
        }
    }

    fn drop(&mut self, key: &'a Key) {
        match &key.object {
            Object::Table => self.add(Phase::Tables, Command::DeleteTable),
            Object::Set(name) => self.add(Phase::SetsOut, Command::DeleteSet(name)),
            Object::Chain(name) => {
                self.add(Phase::Flushes, Command::FlushChain(name));
                self.add(Phase::ChainsOut, Command::DeleteChain(name));
            }
            Object::Element(set, tuple) => {
                self.add(Phase::ElementsOut, Command::DeleteElement(set, tuple));
            }
        }
    }

    fn add(&mut self, phase: Phase, command: Command<'a>) {
        self.phases.0[phase as usize].push((self.place, Step { family: self.family, command }));
    }
}
