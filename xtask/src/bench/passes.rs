//! The passes that a proxy's log tells of.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What the log says of a pass that wrote something.
const WRITTEN: &str = "kernel brought to plan";

/// How many there were so far. The last line may be half there, so nothing else of it is read.
pub(super) fn count(log: &Path) -> Result<usize> {
    Ok(fs::read_to_string(log)?.matches(WRITTEN).count())
}

/// How many ms the longest of them took.
pub(super) fn longest(log: &Path) -> Result<f64> {
    all(log)?.into_iter().max_by(f64::total_cmp).context("there was a pass")
}

/// How many ms each pass took that wrote something, as the log tells.
fn all(log: &Path) -> Result<Vec<f64>> {
    let text = fs::read_to_string(log)?;
    let lines = text.lines().filter(|line| line.contains(WRITTEN));
    lines.map(|line| took(line).with_context(|| format!("no time in {line:?}"))).collect()
}

/// How many ms each took that came after so many.
pub(super) fn after(log: &Path, before: usize) -> Result<Vec<f64>> {
    Ok(all(log)?.split_off(before))
}

/// A duration as Rust prints it: `took=1.25ms`.
fn took(line: &str) -> Option<f64> {
    let (_, text) = line.split_once("took=")?;
    let text = text.split_whitespace().next()?;
    let scales = [("ns", 1e-6), ("µs", 1e-3), ("ms", 1.0), ("s", 1000.0)];
    let (number, scale) =
        scales.into_iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))?;
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::took;

    #[test]
    fn a_pass_tells_how_long_it_took() {
        let line =
            |text: &str| took(&format!("INFO pass: kernel brought to plan puts=1 took={text} cause=Plan"));
        assert_eq!(line("1.5s").map(|ms| ms.to_string()), Some("1500".to_owned()));
        assert_eq!(line("250µs").map(|ms| ms.to_string()), Some("0.25".to_owned()));
        assert_eq!(line("soon"), None);
    }
}
