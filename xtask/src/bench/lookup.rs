//! What finding a Service costs, among few and among many: the first and the last of them, beside a direct connect.
//!
//! Measured in this kernel and in a second one that has IPVS; each tells what it found in a file.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bench::chart::{Chart, Scale, Series};
use bench::figure::{Figure, Figures, Goal, percentile};
use kernel_io::netns::Netns;
use serde::{Deserialize, Serialize};

use super::cluster::{endpoint_of_first, first};
use super::round::Round;
use crate::field::{Field, Tools};
use crate::workspace::output;

const SIZES: [u32; 4] = [10, 100, 1000, 5000];
/// Each place connects so often in its turn, and has so many turns.
const CONNECTS: usize = 20;
const TURNS: usize = 15;

/// What was found for a mode and a number of Services.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    mode: String,
    kernel: String,
    services: u32,
    rules: usize,
    direct: f64,
    first: f64,
    last: f64,
}

/// Measures the modes of this kernel, and adds to the file.
pub(super) fn measure(modes: &[&'static str], folder: &Path, file: &Path) -> Result<()> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let kernel = release.split(['-', '+']).next().unwrap_or_default().to_owned();
    let bare = Field::around(Netns::new()?)?;
    for mode in modes {
        for services in SIZES {
            let round = Round::start(
                mode,
                &Tools::of_machine(),
                services,
                &folder.join(format!("{mode}-{services}")),
            )?;
            round.load()?;
            let took = connects(&bare, &round.field, [first(), round.last()]);
            let (direct, [first, last]) = took.with_context(|| format!("{mode}, {services} services"))?;
            let rules = rules(mode, &round.field.node)?;
            round.proxy.stop()?;
            let found = Found {
                mode: (*mode).to_owned(),
                kernel: kernel.clone(),
                services,
                rules,
                direct,
                first,
                last,
            };
            let mut out = OpenOptions::new().append(true).create(true).open(file)?;
            writeln!(out, "{}", serde_json::to_string(&found)?)?;
        }
    }
    Ok(())
}

/// The median µs of a connect to each from a node's pod, and first of one past a node without any rules: among many a
/// direct connect passes by them, too. They take turns, so that whatever else the machine does meets them alike.
pub(super) fn connects<const N: usize>(
    bare: &Field,
    field: &Field,
    to: [SocketAddr; N],
) -> Result<(f64, [f64; N])> {
    let mut direct = Vec::new();
    let mut samples = [const { Vec::new() }; N];
    for _ in 0..TURNS {
        direct.extend(bare.pod.run(|| several(endpoint_of_first()))??);
        for (at, samples) in to.iter().zip(&mut samples) {
            samples.extend(field.pod.run(|| several(*at))??);
        }
    }
    Ok((percentile(&direct, 50), samples.map(|samples| percentile(&samples, 50))))
}

fn several(at: SocketAddr) -> Result<Vec<f64>> {
    (0..CONNECTS).map(|_| connect(at)).collect()
}

fn connect(at: SocketAddr) -> Result<f64> {
    let start = Instant::now();
    let stream = TcpStream::connect_timeout(&at, Duration::from_secs(10))
        .with_context(|| format!("connect to {at}"))?;
    let took = start.elapsed();
    // Its port is free at once then.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(took.as_secs_f64() * 1e6)
}

/// How many rules the node has.
pub(super) fn rules(mode: &str, node: &Netns) -> Result<usize> {
    let (program, arguments): (_, &[&str]) = if mode == "nftables" {
        ("nft", &["-n", "list", "table", "ip", "fairlead"])
    } else {
        ("iptables-save", &[])
    };
    let text = node.run(|| output(Tools::of_machine().command(program).args(arguments)))??;
    if mode != "nftables" {
        return Ok(text.lines().filter(|line| line.starts_with("-A")).count());
    }
    let mut in_chain = false;
    let mut count = 0;
    for line in text.lines().map(str::trim) {
        match line {
            _ if line.starts_with("chain ") => in_chain = true,
            "}" => in_chain = false,
            _ if in_chain && !line.is_empty() && !line.starts_with("type ") => count += 1,
            _ => {}
        }
    }
    Ok(count)
}

/// Tells what was found, and draws it.
pub(super) fn tell(file: &Path, drawing: &Path, figures: &mut Figures) -> Result<()> {
    let text = fs::read_to_string(file).context("what was found")?;
    let all = text.lines().map(serde_json::from_str).collect::<Result<Vec<Found>, _>>()?;
    for found in &all {
        let of = format!("{} (Linux {}), {} services", found.mode, found.kernel, found.services);
        #[expect(clippy::cast_precision_loss, reason = "no kernel has 2^52 rules")]
        figures.add(Figure::new(format!("rules, {of}"), "rules", found.rules as f64))?;
        for (name, took) in [("first", found.first), ("last", found.last)] {
            figures.add(
                Figure::new(format!("connect p50, {name}, {of}"), "us", took).against(Some(found.direct)),
            )?;
        }
    }
    let mut series = Vec::new();
    for few in all.iter().filter(|found| found.services == SIZES[0]) {
        let same: Vec<&Found> =
            all.iter().filter(|found| (&found.mode, &found.kernel) == (&few.mode, &few.kernel)).collect();
        let name = format!("{} (Linux {}), last", few.mode, few.kernel);
        let points =
            same.iter().map(|found| (f64::from(found.services), found.last / found.direct)).collect();
        series.push(Series { name, points });
        let Some(many) = same.last().filter(|found| found.mode != "iptables") else { continue };
        let name =
            format!("{}: last of {} against last of {}, to direct", few.mode, many.services, few.services);
        let figure = Figure::new(name, "ratio", many.last / many.direct).against(Some(few.last / few.direct));
        figures.add(figure.goal(Goal::AtMost(1.1)))?;
    }
    let chart = Chart {
        title: "What the last Service costs, as Services grow in number".to_owned(),
        x: "Services, ten endpoints each".to_owned(),
        y: "connect, median, as a ratio to a direct connect".to_owned(),
        scale: Scale::BySteps,
        series,
    };
    fs::write(drawing, chart.svg()).with_context(|| format!("write {}", drawing.display()))
}
