//! A measured figure, beside its peer's and its goal: a JSON object a line for a program, a table for a person.

use std::io::{self, Write};

use anyhow::Result;
use serde_json::{Value, json};

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    name: String,
    unit: &'static str,
    ours: f64,
    peer: Option<f64>,
    goal: Option<Goal>,
}

/// What a figure should be; its ratio to the peer's, where there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
    /// This, and nothing else.
    Exactly(f64),
}

/// What was measured, and what could not be.
#[derive(Debug, Default)]
pub struct Figures {
    measured: Vec<Figure>,
    skipped: Vec<String>,
    remarks: Vec<String>,
}

impl Figure {
    /// A figure of ours, beside no peer and without a goal.
    pub fn new(name: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self { name: name.into(), unit, ours, peer: None, goal: None }
    }

    /// The same under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Beside a peer's, if there is one.
    #[must_use]
    pub fn against(mut self, peer: Option<f64>) -> Self {
        self.peer = peer;
        self
    }

    /// With a goal for its ratio to the peer's, or for itself where there is no peer.
    #[must_use]
    pub fn goal(mut self, goal: impl Into<Option<Goal>>) -> Self {
        self.goal = goal.into();
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.peer.filter(|peer| *peer > 0.0).map(|peer| self.ours / peer)
    }

    fn is_ok(&self) -> bool {
        let judged = self.ratio().unwrap_or(self.ours);
        self.goal.is_none_or(|goal| goal.is_met(judged))
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "unit": self.unit,
            "ours": rounded(self.ours),
            "peer": self.peer.map(rounded),
            "ratio": self.ratio().map(rounded),
            "goal": self.goal.map(Goal::text),
            "ok": self.is_ok(),
        })
    }

    fn cells(&self) -> [String; 7] {
        let optional = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), short);
        [
            self.name.clone(),
            self.unit.to_owned(),
            short(self.ours),
            optional(self.peer),
            optional(self.ratio()),
            self.goal.map_or_else(|| "-".to_owned(), Goal::text),
            if self.is_ok() { "yes" } else { "NO" }.to_owned(),
        ]
    }
}

impl Goal {
    fn is_met(self, number: f64) -> bool {
        match self {
            Self::AtLeast(least) => number >= least,
            Self::AtMost(most) => number <= most,
            Self::Exactly(wanted) => (number - wanted).abs() < f64::EPSILON,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {}", rounded(least)),
            Self::AtMost(most) => format!("<= {}", rounded(most)),
            Self::Exactly(wanted) => format!("= {}", rounded(wanted)),
        }
    }
}

impl Figures {
    /// Adds a figure, and prints it for a program.
    pub fn add(&mut self, figure: Figure) -> Result<()> {
        writeln!(io::stdout(), "{}", figure.json())?;
        self.measured.push(figure);
        Ok(())
    }

    /// Says what could not be measured, and why.
    pub fn skip(&mut self, what: &str, why: &str) {
        self.skipped.push(format!("skipped: {what}: {why}"));
    }

    /// Says something of how it was measured.
    pub fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// Prints the table. Answers how many figures are not as they should be.
    pub fn print_table(&self) -> Result<usize> {
        let head = ["NAME", "UNIT", "OURS", "PEER", "RATIO", "GOAL", "OK"].map(str::to_owned);
        let rows: Vec<[String; 7]> =
            std::iter::once(head).chain(self.measured.iter().map(Figure::cells)).collect();
        let width =
            |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let mut out = io::stdout().lock();
        writeln!(out)?;
        for row in &rows {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let width = width(column);
                if matches!(column, 2..=4) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        for line in self.remarks.iter().chain(&self.skipped) {
            writeln!(out, "{line}")?;
        }
        Ok(self.measured.iter().filter(|figure| !figure.is_ok()).count())
    }
}

/// What so many percent of the samples are at or below.
pub fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Three digits that tell something, and whole numbers whole.
fn short(number: f64) -> String {
    if number.fract() == 0.0 || number >= 100.0 {
        format!("{number:.0}")
    } else if number >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Goal, percentile};

    #[test]
    fn a_goal_is_judged_on_the_ratio_where_there_is_one() {
        let figure = Figure::new("load", "ms", 50.0).goal(Goal::AtMost(0.6));
        assert!(!figure.is_ok());
        assert!(figure.clone().against(Some(100.0)).is_ok());
        assert_eq!(
            figure.against(Some(100.0)).json().to_string(),
            r#"{"goal":"<= 0.6","name":"load","ok":true,"ours":50.0,"peer":100.0,"ratio":0.5,"unit":"ms"}"#
        );
    }

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        let found = [50, 95, 1].map(|percent| percentile(&samples, percent).to_string());
        assert_eq!(found, ["3", "5", "1"]);
    }
}
