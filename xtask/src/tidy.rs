//! `cargo xtask tidy`: the rules of the house that no compiler knows. Every finding is one line, `path:line: what`.

mod code;
mod crates;
mod documents;
mod sources;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::workspace::dist;
use tree::Tree;

/// A room of the house that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    what: String,
}

/// Looks for what breaks one rule.
type Rule = fn(&Tree) -> Vec<Finding>;

/// Every rule by name; `tests.rs` has an input for each that breaks it.
const RULES: [(&str, Rule); 15] = [
    ("pure rooms depend on nothing that acts", crates::pure_rooms),
    ("a room stays behind its door", crates::doors),
    ("the test kit stays out of programs", crates::test_kit),
    ("pure rooms see no clock, file, environment or socket", sources::pure_rooms),
    ("modes know nothing of one another", sources::modes_apart),
    ("Kubernetes types stay at the edge", sources::kubernetes_at_the_edge),
    ("unsafe has three rooms", sources::unsafe_rooms),
    ("the kernel has one door", sources::kernel_door),
    ("names say what is inside", sources::names),
    ("a module is foo.rs", sources::module_files),
    ("a long file has a reason", sources::long_files),
    ("ARCHITECTURE.md is one page and true", documents::architecture),
    ("a decision record is short", documents::decisions),
    ("links lead somewhere", documents::links),
    ("what shows a gotcha is there", documents::gotchas),
];

/// The largest `pause` that we ship: one page.
const PAUSE_LIMIT: u64 = 4096;

/// Checks the whole tree, and what was built from it.
pub(crate) fn check() -> Result<()> {
    let tree = Tree::read()?;
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|(_, rule)| rule(&tree)).collect();
    findings.sort();
    report(&findings)?;
    check_artefacts()
}

/// Checks what `cargo xtask build` has built, if it has.
pub(crate) fn check_artefacts() -> Result<()> {
    let pause = dist().join("pause");
    if !pause.exists() {
        return Ok(());
    }
    let size = fs::metadata(&pause).with_context(|| format!("read the size of {}", pause.display()))?.len();
    report(&Vec::from_iter(too_large(size)))
}

fn too_large(size: u64) -> Option<Finding> {
    let what = format!("{size} bytes, above the limit of {PAUSE_LIMIT}");
    (size > PAUSE_LIMIT).then(|| Finding { path: "target/dist/pause".to_owned(), line: 1, what })
}

fn report(findings: &[Finding]) -> Result<()> {
    for finding in findings {
        eprintln!("{finding}");
    }
    ensure!(findings.is_empty(), "tidy: {} to mend", findings.len());
    Ok(())
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.what)
    }
}
