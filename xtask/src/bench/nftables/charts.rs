//! What growth costs each proxy, drawn.

use std::fs;

use anyhow::{Context, Result};
use bench::chart::{Chart, Scale, Series};
use bench::figure::percentile;

use super::Report;
use crate::workspace::root;

/// A file, its title, what is above the axis, and what is drawn.
type Drawing = (&'static str, &'static str, &'static str, fn(&Report) -> f64);

const DRAWINGS: [Drawing; 3] = [
    ("start", "From start until the last Service answers", "seconds", |report| report.in_all / 1000.0),
    ("change", "From an event until the data path follows", "milliseconds, median", |report| {
        percentile(&report.changes, 50)
    }),
    ("memory", "Memory at its peak", "MB", |report| report.megabytes),
];

pub(super) fn draw(reports: &[Report]) -> Result<()> {
    for (name, title, y, value) in DRAWINGS {
        let mut series: Vec<Series> = Vec::new();
        for report in reports {
            let point = (f64::from(report.shape.services), value(report));
            match series.iter_mut().find(|series| series.name == report.name) {
                Some(series) => series.points.push(point),
                None => series.push(Series { name: report.name.to_owned(), points: vec![point] }),
            }
        }
        let chart = Chart {
            title: title.to_owned(),
            x: "Services, ten endpoints each".to_owned(),
            y: y.to_owned(),
            scale: Scale::ByFactors,
            series,
        };
        let file = root().join(format!("docs/nftables-{name}.svg"));
        fs::write(&file, chart.svg()).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}
