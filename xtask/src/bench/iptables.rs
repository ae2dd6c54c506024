//! The iptables mode beside kube-proxy, by one API server, and beside what `iptables-restore` alone takes for the same
//! rules.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use kernel_io::netns::Netns;

use super::cluster::Shape;
use super::contender::Contender;
use super::stage::{Entered, Stage};
use crate::field::{Field, Tools, children_cpu};
use crate::workspace::output;
use bench::figure::{Figure, Figures, Goal, percentile};

const STARTS: usize = 3;

/// Ours beside a bare tool's, and kube-proxy's, which is slower.
const CHANGES: u32 = 30;
const CHANGES_OF_PEER: u32 = 20;

/// What the goals allow of the bare tool's time, where that is more than what they allow of kube-proxy's.
const OF_BARE: f64 = 1.2;
const START_OF_PEER: f64 = 0.5;
const CHANGE_OF_PEER: f64 = 0.4;
const MEGABYTES: Goal = Goal::AtMost(40.0);

/// A figure of ours, of kube-proxy and of the bare tool.
struct Three {
    ours: f64,
    peer: f64,
    bare: f64,
}

/// What many starts and changes came to.
#[derive(Default)]
struct Costs {
    starts: Vec<f64>,
    changes: Vec<f64>,
    cpu: f64,
    megabytes: f64,
}

/// What the bare tool took.
#[derive(Default)]
struct BareCosts {
    starts: Vec<f64>,
    kept: Vec<f64>,
    changes: Vec<f64>,
    cpu: f64,
}

pub(super) fn measure(folder: &Path, figures: &mut Figures) -> Result<()> {
    let field = Field::around(Netns::current()?)?;
    fs::create_dir(folder.join("tools"))?;
    let (nft, legacy) = (Tools::of_machine(), Tools::legacy(&folder.join("tools"))?);
    for (backend, tools, services) in [("nft backend", nft, 1000), ("legacy backend", legacy, 5000)] {
        let shape = Shape::telling(services, 10);
        let folder = folder.join(services.to_string());
        let stage = Stage::build(&field, shape, &folder)?;
        measure_backend(&format!("{backend}, {shape}"), &tools, stage, figures)?;
    }
    figures.remark(
        "a start is timed from the last byte of the lists, a change from its arrival at a bare watch client",
    );
    figures.remark(
        "beside kube-proxy the goal is 0.5 (start) or 0.4 (change) of it, or 1.2 of the bare tool if that is more",
    );
    Ok(())
}

fn measure_backend(of: &str, tools: &Tools, mut stage: Stage<'_>, figures: &mut Figures) -> Result<()> {
    let (ours, bare) = measure_ours(&mut stage, tools)?;
    let peer = measure_peer(&mut stage, tools)?;
    stage.empty(tools)?;
    let at = |percent| {
        let [ours, peer, bare] =
            [&ours.changes, &peer.changes, &bare.changes].map(|took| percentile(took, percent));
        Three { ours, peer, bare }
    };
    let [our_start, peer_start, bare_start, kept_start] =
        [&ours.starts, &peer.starts, &bare.starts, &bare.kept].map(|took| percentile(took, 50));
    let start = Three { ours: our_start, peer: peer_start, bare: bare_start };
    start.tell("lists read until the last Service answers", of, START_OF_PEER, figures)?;
    // A proxy may not flush what is not its own; so much of it is the tool's.
    let figure = Figure::new(format!("the same, beside iptables-restore --noflush, {of}"), "ms", our_start);
    figures.add(figure.against(Some(kept_start)))?;
    at(50).tell("change p50", of, CHANGE_OF_PEER, figures)?;
    at(95).tell("change p95", of, CHANGE_OF_PEER, figures)?;
    let cpu = Three { ours: ours.cpu, peer: peer.cpu, bare: bare.cpu };
    cpu.tell("CPU per change", of, CHANGE_OF_PEER, figures)?;
    figures.add(Figure::new(format!("peak RSS, {of}"), "MB", ours.megabytes).goal(MEGABYTES))?;
    let figure = Figure::new(format!("peak RSS beside kube-proxy, {of}"), "MB", ours.megabytes);
    figures.add(figure.against(Some(peer.megabytes)))
}

impl Three {
    fn tell(&self, name: &str, of: &str, of_peer: f64, figures: &mut Figures) -> Result<()> {
        let figure = Figure::new(format!("{name}, {of}"), "ms", self.ours);
        let goal = Goal::AtMost(of_peer.max(OF_BARE * self.bare / self.peer));
        figures.add(figure.clone().against(Some(self.peer)).goal(goal))?;
        let beside = figure.named(format!("{name}, beside the bare tool, {of}"));
        figures.add(beside.against(Some(self.bare)))
    }
}

/// Starts it some times, and changes the cluster under the last.
fn measure_ours(stage: &mut Stage<'_>, tools: &Tools) -> Result<(Costs, BareCosts)> {
    let (mut ours, mut others) = (Costs::default(), BareCosts::default());
    for number in 1..=STARTS {
        let entered = enter(stage, &Contender::ours("iptables", tools), &mut ours)?;
        let bare = Bare::load(tools, stage.folder())?;
        others.starts.push(bare.took);
        others.kept.push(bare.took_noflush);
        if number == STARTS {
            let cpu = (entered.proxy.cpu()?, children_cpu()?);
            for number in 0..CHANGES {
                ours.changes.push(stage.change(&entered)?);
                // What it does behind a change disturbs nobody then.
                thread::sleep(entered.pause);
                others.changes.push(bare.change(number)?);
            }
            let per_change = |cpu: f64| cpu * 1000.0 / f64::from(CHANGES);
            ours.cpu = per_change(entered.proxy.cpu()? - cpu.0);
            others.cpu = per_change(children_cpu()? - cpu.1);
            ours.megabytes = entered.proxy.memory()?.1;
        }
        entered.proxy.stop()?;
    }
    Ok((ours, others))
}

fn measure_peer(stage: &mut Stage<'_>, tools: &Tools) -> Result<Costs> {
    let mut costs = Costs::default();
    for number in 1..=STARTS {
        let entered = enter(stage, &Contender::kube_proxy("iptables", tools)?, &mut costs)?;
        if number == STARTS {
            let changes = stage.changes(&entered, CHANGES_OF_PEER)?;
            (costs.changes, costs.cpu) = (changes.took, changes.cpu);
            costs.megabytes = entered.proxy.memory()?.1;
        }
        // The signal ends it.
        entered.proxy.end()?;
    }
    Ok(costs)
}

fn enter(stage: &Stage<'_>, contender: &Contender, costs: &mut Costs) -> Result<Entered> {
    stage.empty(contender.tools())?;
    let entered = stage.enter(contender)?;
    costs.starts.push(entered.after_lists);
    Ok(entered)
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
    /// For the rules of this namespace.
    fn load(tools: &'a Tools, folder: &Path) -> Result<Self> {
        let rules = output(&mut tools.command("iptables-save"))?;
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
