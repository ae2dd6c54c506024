//! Changes as one input for `iptables-restore --noflush`.
//!
//! Its cost is that of the changes: a chain of ours is refilled, but from a chain that is shared only the rules
//! that changed are taken and put, one by one. In every table the chains come first, since a rule can jump only
//! to what exists, and the ends of chains come last, when nothing jumps to them any more.
//!
//! Each table is a transaction of its own. Whoever is to be refused is refused before the nat table stops to
//! forward him, and is let through only after it forwards again: in between, no packet goes astray.

use std::collections::BTreeSet;
use std::fmt;

use super::{ChainName, Key, Part, Rule, Rules, Table, Xtables};
use crate::Change;

/// A line of an input for `iptables-restore --noflush`.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The change that it stands for, as an index into the changes.
    pub change: Option<usize>,
    /// Its text, without its end.
    pub text: fmt::Arguments<'a>,
}

/// What ends a transaction.
pub const COMMIT: &str = "COMMIT";

/// Says changes line by line for `iptables-restore --noflush`. A large input is never whole in memory; to find one
/// of its lines again, it is said again.
pub fn script(changes: &[Change<Xtables>], say: &mut dyn FnMut(Line<'_>)) {
    let mut script = Script(say);
    for (table, kinds) in SECTIONS {
        let is_of_section = |(_, change): &(usize, &Change<Xtables>)| {
            change.key().table == table && kinds.contains(&Kind::of(change))
        };
        let edited: Vec<_> = changes.iter().enumerate().filter(is_of_section).collect();
        if edited.is_empty() {
            continue;
        }
        script.line(None, format_args!("*{}", table.name()));
        let chains = Chains::of(&edited);
        declare_chains(&mut script, &edited);
        take_old_rules(&mut script, &edited, &chains);
        put_new_rules(&mut script, &edited, &chains);
        end_chains(&mut script, &edited);
        script.line(None, format_args!("{COMMIT}"));
    }
}

/// Where the lines go.
struct Script<'a>(&'a mut dyn FnMut(Line<'_>));

impl Script<'_> {
    fn line(&mut self, change: Option<usize>, text: fmt::Arguments<'_>) {
        (self.0)(Line { change, text });
    }
}

/// The transactions in their order.
const SECTIONS: [(Table, &[Kind]); 4] = [
    (Table::Mangle, &[Kind::Put, Kind::Drop]),
    (Table::Filter, &[Kind::Put]),
    (Table::Nat, &[Kind::Put, Kind::Drop]),
    (Table::Filter, &[Kind::Drop]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Drop,
}

impl Kind {
    fn of(change: &Change<Xtables>) -> Self {
        match change {
            Change::Put { .. } => Self::Put,
            Change::Drop { .. } => Self::Drop,
        }
    }
}

type Edited<'a> = [(usize, &'a Change<Xtables>)];

/// The chains that come and go by the same changes.
struct Chains {
    /// Their old rules are gone with them.
    ending: BTreeSet<ChainName>,
    /// They are empty, so their rules are appended in order.
    new: BTreeSet<ChainName>,
}

impl Chains {
    fn of(edited: &Edited<'_>) -> Self {
        let named = |wanted: fn(&Change<Xtables>) -> bool| {
            let chains = edited.iter().map(|(_, change)| *change);
            chains.filter(|change| wanted(change)).map(|change| change.key().chain).collect()
        };
        Self {
            ending: named(|change| matches!(change, Change::Drop { key, .. } if key.part == Part::Chain)),
            new: named(
                |change| matches!(change, Change::Put { key, replaced: None, .. } if key.part == Part::Chain),
            ),
        }
    }
}

/// A line for a chain makes it, or empties it.
fn declare_chains(script: &mut Script<'_>, edited: &Edited<'_>) {
    for (index, change) in edited.iter().filter(|(_, change)| change.key().part == Part::Chain) {
        script.line(Some(*index), format_args!(":{} - [0:0]", change.key().chain));
    }
}

fn take_old_rules(script: &mut Script<'_>, edited: &Edited<'_>, chains: &Chains) {
    for (index, change) in edited {
        let (Change::Put { key, replaced: Some(rules), .. } | Change::Drop { key, value: rules }) = change
        else {
            continue;
        };
        if key.part != Part::Chain && !chains.ending.contains(&key.chain) {
            let kept = match change {
                Change::Put { value, .. } => value,
                Change::Drop { .. } => &Rules::from([]),
            };
            for rule in without(rules, kept, &key.part) {
                script.line(Some(*index), format_args!("-D {}{rule}", key.chain));
            }
        }
    }
}

fn put_new_rules(script: &mut Script<'_>, edited: &Edited<'_>, chains: &Chains) {
    let puts = edited.iter().filter_map(|(index, change)| match change {
        Change::Put { key, value, replaced } => {
            Some(Put { index: *index, key, rules: value, replaced: replaced.as_ref() })
        }
        Change::Drop { .. } => None,
    });
    let goes_to_head = |put: &Put<'_>| {
        put.key.part != Part::Chain && !chains.new.contains(&put.key.chain) && put.key.part != Part::Tail
    };
    let (mut at_head, mut in_order): (Vec<_>, Vec<_>) = puts.partition(goes_to_head);
    in_order.sort_by_key(|put| put.key);
    for put in in_order {
        for rule in put.rules.iter() {
            script.line(Some(put.index), format_args!("-A {}{rule}", put.key.chain));
        }
    }
    // The last one inserted stands first, so the runs and their rules go in backwards.
    at_head.sort_by_key(|put| std::cmp::Reverse(put.key));
    for put in at_head {
        let there = put.replaced.map_or(&[][..], |rules| rules);
        for rule in without(put.rules, there, &put.key.part).into_iter().rev() {
            script.line(Some(put.index), format_args!("-I {}{rule}", put.key.chain));
        }
    }
}

/// Rules to write.
struct Put<'a> {
    index: usize,
    key: &'a Key,
    rules: &'a Rules,
    replaced: Option<&'a Rules>,
}

/// Those of a run that another content of it has not. Where the order means something, that is all of them.
fn without<'a>(rules: &'a [Rule], others: &[Rule], part: &Part) -> Vec<&'a Rule> {
    if !matches!(part, Part::Of(..)) {
        return rules.iter().collect();
    }
    let mut others: Vec<&Rule> = others.iter().collect();
    let is_missing = |rule: &&Rule| match others.iter().position(|other| other == rule) {
        Some(place) => {
            others.swap_remove(place);
            false
        }
        None => true,
    };
    rules.iter().filter(is_missing).collect()
}

fn end_chains(script: &mut Script<'_>, edited: &Edited<'_>) {
    for (index, change) in edited {
        if let Change::Drop { key, .. } = change
            && key.part == Part::Chain
        {
            script.line(Some(*index), format_args!("-X {}", key.chain));
        }
    }
}
