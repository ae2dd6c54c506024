//! The iptables mode against what `iptables-restore` alone takes for the same rules.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use kernel_io::netns::Netns;

use super::round::Round;
use crate::field::{Tools, children_cpu};
use crate::workspace::output;
use bench::figure::{Figure, Figures, Goal, percentile};

const LOADS: usize = 3;
const CHANGES: u32 = 40;

/// What the issue asks for, of the bare tool's time.
const BOUND: Goal = Goal::AtMost(1.2);
const MEGABYTES: Goal = Goal::AtMost(40.0);

pub(super) fn measure(folder: &Path, figures: &mut Figures) -> Result<()> {
    measure_backend("nft backend", &Tools::of_machine(), 1000, &folder.join("nft"), figures)?;
    fs::create_dir(folder.join("tools"))?;
    let tools = Tools::legacy(&folder.join("tools"))?;
    measure_backend("legacy backend", &tools, 5000, &folder.join("legacy"), figures)
}

fn measure_backend(
    backend: &str,
    tools: &Tools,
    size: u32,
    folder: &Path,
    figures: &mut Figures,
) -> Result<()> {
    let of = format!("{backend}, {size} x 10");
    let (mut ours, mut peers, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for number in 0..LOADS {
        let folder = folder.join(number.to_string());
        let round = Round::start("iptables", tools, size, &folder)?;
        ours.push(round.load()?);
        let bare = Bare::load(tools, &round, &folder)?;
        peers.push(bare.took);
        kept.push(bare.took_noflush);
        if let Some((round, _)) = last.replace((round, bare)) {
            let round: Round = round;
            round.proxy.stop()?;
        }
    }
    let load = Figure::new(format!("load, {of}"), "ms", percentile(&ours, 50));
    figures.add(load.clone().against(Some(percentile(&peers, 50))).goal(BOUND))?;
    // A proxy may not flush what is not its own; so much of it is the tool's.
    let load = load.named(format!("load against --noflush, {of}"));
    figures.add(load.against(Some(percentile(&kept, 50))))?;
    let (mut round, bare) = last.context("there was a round")?;
    measure_changes(&of, &mut round, &bare, figures)?;
    let (_, most) = round.proxy.memory()?;
    figures.add(Figure::new(format!("peak RSS, {of}"), "MB", most).goal(MEGABYTES))?;
    round.proxy.stop()
}

fn measure_changes(of: &str, round: &mut Round, bare: &Bare, figures: &mut Figures) -> Result<()> {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    let cpu = (round.proxy.cpu()?, children_cpu()?);
    for number in 0..CHANGES {
        ours.push(round.change()?);
        peers.push(bare.change(number)?);
    }
    let cpu = (round.proxy.cpu()? - cpu.0, children_cpu()? - cpu.1);
    for percent in [50, 95] {
        let figure = Figure::new(format!("change p{percent}, {of}"), "ms", percentile(&ours, percent));
        figures.add(figure.against(Some(percentile(&peers, percent))).goal(BOUND))?;
    }
    let per_change = 1000.0 / f64::from(CHANGES);
    let figure = Figure::new(format!("CPU per change, {of}"), "ms", cpu.0 * per_change);
    figures.add(figure.against(Some(cpu.1 * per_change)).goal(BOUND))
}

/// The same rules in another namespace, written by `iptables-restore` alone.
struct Bare<'a> {
    tools: &'a Tools,
    node: Netns,
    folder: PathBuf,
    took: f64,
    /// The same into tables that are not flushed, although they are empty.
    took_noflush: f64,
    /// A rule that leads to an endpoint: its chain, its number there, and itself without the endpoint.
    rule: (String, usize, String),
}

impl<'a> Bare<'a> {
    fn load(tools: &'a Tools, round: &Round, folder: &Path) -> Result<Self> {
        let rules = round.field.node.run(|| output(&mut tools.command("iptables-save")))??;
        let file = folder.join("rules");
        fs::write(&file, &rules)?;
        let node = Netns::new()?;
        let took_noflush = restore(tools, &Netns::new()?, &file, &["--noflush"])?;
        let took = restore(tools, &node, &file, &[])?;
        let rule = endpoint_rule(&rules).context("a rule leads to an endpoint")?;
        Ok(Self { tools, node, folder: folder.to_owned(), took, took_noflush, rule })
    }

    fn change(&self, number: u32) -> Result<f64> {
        let (chain, place, rule) = &self.rule;
        let file = self.folder.join("one-rule");
        let endpoint = format!("10.183.1.{}:8080", number + 1);
        fs::write(&file, format!("*nat\n-R {chain} {place} {rule}{endpoint}\nCOMMIT\n"))?;
        restore(self.tools, &self.node, &file, &["--noflush"])
    }
}

fn restore(tools: &Tools, node: &Netns, file: &Path, options: &[&str]) -> Result<f64> {
    let mut command = tools.command("iptables-restore");
    command.args(["-w", "5"]).args(options).stdin(File::open(file)?);
    let start = Instant::now();
    node.run(|| output(&mut command))??;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

fn endpoint_rule(rules: &str) -> Option<(String, usize, String)> {
    const TO: &str = "--to-destination ";
    let line = rules.lines().rfind(|line| line.contains(TO))?;
    let (chain, rest) = line.strip_prefix("-A ")?.split_once(' ')?;
    let head = format!("-A {chain} ");
    let place = rules.lines().filter(|line| line.starts_with(&head)).position(|other| other == line)?;
    let (rule, _) = rest.split_once(TO)?;
    Some((chain.to_owned(), place + 1, format!("{rule}{TO}")))
}
