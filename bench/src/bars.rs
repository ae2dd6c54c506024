//! A bar chart as SVG: several measures beside each other, of the same things.

use crate::svg::{escaped, page, push, words};

/// What the chart says.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// Above it.
    pub title: String,
    /// What is measured, from top to bottom.
    pub names: Vec<String>,
    /// From left to right.
    pub panels: Vec<Panel>,
}

/// One measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What it is, and its unit.
    pub title: String,
    /// For each name.
    pub values: Vec<f64>,
}

const LEFT: f64 = 90.0;
const TOP: f64 = 74.0;
const PANEL: f64 = 250.0;
const LONGEST: f64 = 170.0;
const BAR: f64 = 20.0;
const STEP: f64 = 30.0;
const COLOURS: [&str; 5] = ["#7f8c8d", "#2471a3", "#7d3c98", "#c0392b", "#b7950b"];

impl Bars {
    /// The whole file, the same for the same numbers.
    pub fn svg(&self) -> String {
        let width = LEFT + PANEL * size(self.panels.len());
        let height = TOP + STEP * size(self.names.len()) + 10.0;
        let mut out = page((width, height), (10.0, 24.0), &self.title);
        for (row, name) in self.names.iter().enumerate() {
            words(&mut out, (LEFT - 8.0, middle(row)), "end", &escaped(name));
        }
        for (column, panel) in self.panels.iter().enumerate() {
            let x = LEFT + PANEL * size(column);
            words(&mut out, (x, TOP - 16.0), "start", &escaped(&panel.title));
            let most = panel.values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            for ((row, value), colour) in panel.values.iter().enumerate().zip(COLOURS) {
                let (y, long) = (TOP + STEP * size(row), value / most * LONGEST);
                let bar = format!(
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{long:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
                );
                push(&mut out, &bar);
                words(&mut out, (x + long + 6.0, middle(row)), "start", &short(*value));
            }
        }
        out.push_str("</svg>\n");
        out
    }
}

/// Where the text of a row stands.
fn middle(row: usize) -> f64 {
    TOP + STEP * size(row) + BAR - 5.0
}

/// Three digits or so.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn size(count: usize) -> f64 {
    u32::try_from(count).map_or(0.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::{Bars, Panel};

    #[test]
    fn the_longest_bar_is_that_of_the_most() {
        let panel = Panel { title: "GB/s".to_owned(), values: vec![2.0, 1.0, 512.4] };
        let names = ["a < b", "b", "c"].map(str::to_owned).to_vec();
        let svg = Bars { title: "t".to_owned(), names, panels: vec![panel.clone(), panel] }.svg();
        assert!(svg.contains("width=\"170.0\" height=\"20\" fill=\"#7d3c98\"/>"), "{svg}");
        assert!(svg.contains("<rect x=\"340.0\" y=\"74.0\" width=\"0.7\""), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains(">512<") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
