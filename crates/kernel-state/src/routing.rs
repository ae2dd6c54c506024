//! The vocabulary of policy routing, as far as somebody takes in what is addressed to others. Printed as `ip -batch`
//! reads it, with -4 or -6 beside it.

use std::fmt::{self, Write};

use crate::{Change, Objects, State};

/// The vocabulary.
pub enum Routing {}

/// A state of this vocabulary.
pub type RoutingState = State<Routing>;

/// The name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The one route of a table: every address is this machine's own.
    AllLocal {
        /// The number of the table.
        table: u32,
    },
    /// What carries a mark is routed by a table.
    Marked {
        /// All of its bits are set.
        mark: u32,
        /// The number of the table.
        table: u32,
    },
}

/// That it is there is all there is to say of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present;

/// Where our rules stand: after that of the local addresses, and before most others.
pub const PRIORITY: u32 = 95;

/// How our rules say that they are ours (`FRA_PROTOCOL`; nobody in iproute2 has that number).
pub const PROTOCOL: u8 = 70;

impl Objects for Routing {
    type Key = Key;
    type Value = Present;
    const RANKS: u8 = 2;

    fn rank(key: &Key) -> u8 {
        match key {
            Key::AllLocal { .. } => 0,
            Key::Marked { .. } => 1,
        }
    }

    fn print(key: &Key, _: &Present, out: &mut dyn Write) -> fmt::Result {
        line("add", key, out)
    }

    fn print_changes(changes: &[Change<Self>], out: &mut dyn Write) -> fmt::Result {
        changes.iter().try_for_each(|change| match change {
            Change::Put { key, .. } => line("add", key, out),
            Change::Drop { key, .. } => line("delete", key, out),
        })
    }
}

fn line(verb: &str, key: &Key, out: &mut dyn Write) -> fmt::Result {
    match key {
        Key::AllLocal { table } => writeln!(out, "route {verb} local default dev lo table {table}"),
        Key::Marked { mark, table } => writeln!(
            out,
            "rule {verb} priority {PRIORITY} fwmark {mark:#x}/{mark:#x} lookup {table} protocol {PROTOCOL}"
        ),
    }
}
