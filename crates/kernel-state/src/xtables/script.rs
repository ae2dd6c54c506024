//! Changes as one input for `iptables-restore --noflush`.
//!
//! Its cost is that of the changes: a chain of ours is refilled, but from a chain that is shared only the rules
//! of the owners that changed are taken and put, one by one. In every table the chains come first, since a rule
//! can jump only to what exists, and the ends of chains come last, when nothing jumps to them any more.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{ChainName, Key, Part, Rule, Rules, Table, Xtables};
use crate::Change;

/// An input for `iptables-restore --noflush`, and which of its lines stand for which change.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// The input.
    pub text: String,
    lines: Vec<Option<usize>>,
}

impl Script {
    /// The change that a line stands for, by its number from 1, as an index into the changes.
    pub fn change_at(&self, line: usize) -> Option<usize> {
        line.checked_sub(1).and_then(|index| self.lines.get(index).copied()).flatten()
    }

    fn line(&mut self, change: Option<usize>, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("writing to a String cannot fail");
        self.text.push('\n');
        self.lines.push(change);
    }
}

/// Writes changes down for `iptables-restore --noflush`.
pub fn script(changes: &[Change<Xtables>]) -> Script {
    let mut script = Script::default();
    for table in Table::ALL {
        let of_table = || changes.iter().enumerate().filter(|(_, change)| change.key().table == table);
        if of_table().next().is_none() {
            continue;
        }
        script.line(None, format_args!("*{}", table.name()));
        let edited: Vec<_> = of_table().collect();
        let chains = Chains::of(&edited);
        declare_chains(&mut script, &edited);
        take_old_rules(&mut script, &edited, &chains);
        put_new_rules(&mut script, &edited, &chains);
        end_chains(&mut script, &edited);
        script.line(None, format_args!("COMMIT"));
    }
    script
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
fn declare_chains(script: &mut Script, edited: &Edited<'_>) {
    for (index, change) in edited.iter().filter(|(_, change)| change.key().part == Part::Chain) {
        script.line(Some(*index), format_args!(":{} - [0:0]", change.key().chain));
    }
}

fn take_old_rules(script: &mut Script, edited: &Edited<'_>, chains: &Chains) {
    for (index, change) in edited {
        let (Change::Put { key, replaced: Some(rules), .. } | Change::Drop { key, value: rules }) = change
        else {
            continue;
        };
        if key.part != Part::Chain && !chains.ending.contains(&key.chain) {
            for rule in rules.iter() {
                script.line(Some(*index), format_args!("-D {}{rule}", key.chain));
            }
        }
    }
}

fn put_new_rules(script: &mut Script, edited: &Edited<'_>, chains: &Chains) {
    let puts = edited.iter().filter_map(|(index, change)| match change {
        Change::Put { key, value, .. } => Some((*index, key, value)),
        Change::Drop { .. } => None,
    });
    let (at_head, in_order): (Vec<_>, Vec<_>) = puts.partition(|(_, key, _)| {
        key.part != Part::Chain && !chains.new.contains(&key.chain) && key.part != Part::Tail
    });
    let mut in_order = in_order;
    in_order.sort_by_key(|(_, key, _)| *key);
    for (index, key, rules) in in_order {
        for rule in rules.iter() {
            script.line(Some(index), format_args!("-A {}{rule}", key.chain));
        }
    }
    // The last one inserted stands first, so the runs and their rules go in backwards.
    let mut at_head = at_head;
    at_head.sort_by_key(|(_, key, _)| std::cmp::Reverse(*key));
    for (index, key, rules) in at_head {
        insert_at_head(script, index, key, rules);
    }
}

fn insert_at_head(script: &mut Script, index: usize, key: &Key, rules: &Rules) {
    for rule in rules.iter().rev() {
        let rule: &Rule = rule;
        script.line(Some(index), format_args!("-I {}{rule}", key.chain));
    }
}

fn end_chains(script: &mut Script, edited: &Edited<'_>) {
    for (index, change) in edited {
        if let Change::Drop { key, .. } = change
            && key.part == Part::Chain
        {
            script.line(Some(*index), format_args!("-X {}", key.chain));
        }
    }
}
