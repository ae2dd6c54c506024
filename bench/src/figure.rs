//! What was measured, and whether it is as good as it should be.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    ours: f64,
    peer: Option<f64>,
    ratio: Option<f64>,
    goal: String,
    ok: bool,
}

/// What a figure, or its ratio to the peer's, should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Figure {
    /// Ours beside a peer's.
    pub(crate) fn beside(name: &str, unit: &'static str, ours: f64, peer: f64, goal: Goal) -> Self {
        let ratio = ours / peer;
        let (name, ok) = (name.to_owned(), goal.is_met(ratio));
        Self { name, unit, ours, peer: Some(peer), ratio: Some(ratio), goal: goal.text(), ok }
    }

    /// Ours alone.
    pub(crate) fn alone(name: &str, unit: &'static str, ours: f64, goal: Goal) -> Self {
        let (name, ok) = (name.to_owned(), goal.is_met(ours));
        Self { name, unit, ours, peer: None, ratio: None, goal: goal.text(), ok }
    }
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {least}"),
            Self::AtMost(most) => format!("<= {most}"),
        }
    }
}

/// Prints a figure as soon as it is there.
pub(crate) fn print(figure: &Figure) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, figure)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Prints all of them as a table.
pub(crate) fn print_table(figures: &[Figure]) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\n{:<44} {:>12} {:>12} {:>7}  {:<10}", "figure", "ours", "peer", "ratio", "goal")?;
    for Figure { name, unit, ours, peer, ratio, goal, ok } in figures {
        let number = |value: &Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let title = format!("{name} ({unit})");
        let met = if *ok { "" } else { "  missed" };
        writeln!(out, "{title:<44} {ours:>12.2} {:>12} {:>7}  {goal:<8}{met}", number(peer), number(ratio))?;
    }
    Ok(())
}
