//! The nftables mode, and how much of its time is the kernel's own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::passes;
use super::round::Round;
use crate::field::Tools;
use bench::figure::{Figure, Figures, Goal, percentile};

const LOADS: usize = 3;
const CHANGES: u32 = 60;

pub(super) fn measure(folder: &Path, figures: &mut Figures) -> Result<()> {
    for size in [1000, 10_000] {
        measure_size(size, &folder.join(size.to_string()), figures)?;
    }
    figures.skip(
        "the kernel's own time of one change",
        "it is shorter than what watching it takes (docs/modes/nftables.md has it measured otherwise)",
    );
    figures.remark(
        "a change is timed from the rename; its file is read 15 ms after that, when it has been quiet so long",
    );
    Ok(())
}

fn measure_size(size: u32, folder: &Path, figures: &mut Figures) -> Result<()> {
    let of = format!("{size} x 10");
    let tools = Tools::of_machine();
    let (mut loads, mut writes, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for number in 0..LOADS {
        let folder = folder.join(number.to_string());
        let round = Round::start("nftables", &tools, size, &folder.join("alone"))?;
        loads.push(round.load()?);
        thread::sleep(Duration::from_millis(300));
        writes.push(passes::longest(&round.log)?);
        let watched = Round::start("nftables", &tools, size, &folder.join("watched"))?;
        kernel.push(watched_load(&watched, &folder)?);
        watched.proxy.stop()?;
        if let Some(round) = last.replace(round) {
            let round: Round = round;
            round.proxy.stop()?;
        }
    }
    let load = Figure::new(format!("load, {of}"), "ms", percentile(&loads, 50));
    let load = if size == 10_000 { load.goal(Goal::AtMost(500.0)) } else { load };
    figures.add(load)?;
    let write = Figure::new(format!("write of the load, {of}"), "ms", percentile(&writes, 50));
    figures.add(write.against(Some(percentile(&kernel, 50))).goal(Goal::AtMost(1.3)))?;
    let mut round = last.context("there was a round")?;
    measure_changes(&of, &mut round, figures)?;
    let (_, most) = round.proxy.memory()?;
    figures.add(Figure::new(format!("peak RSS, {of}"), "MB", most))?;
    round.proxy.stop()
}

fn measure_changes(of: &str, round: &mut Round, figures: &mut Figures) -> Result<()> {
    let before = passes::count(&round.log)?;
    let cpu = round.proxy.cpu()?;
    let seen = (0..CHANGES).map(|_| round.change()).collect::<Result<Vec<f64>>>()?;
    let cpu = round.proxy.cpu()? - cpu;
    let took = passes::after(&round.log, before)?;
    for percent in [50, 95] {
        let name = format!("change p{percent}, {of}");
        figures.add(Figure::new(name, "ms", percentile(&seen, percent)))?;
        let name = format!("pass of a change p{percent}, {of}");
        figures.add(Figure::new(name, "ms", percentile(&took, percent)))?;
    }
    let per_change = cpu * 1000.0 / f64::from(CHANGES);
    figures.add(Figure::new(format!("CPU per change, {of}"), "ms", per_change).goal(Goal::AtMost(1.0)))
}

/// How many ms the kernel takes for what is sent to it while everything is loaded. Watching a call costs some
/// microseconds, and there are few calls.
fn watched_load(round: &Round, folder: &Path) -> Result<f64> {
    let file = folder.join("calls");
    let calls = ["-f", "-T", "-e", "trace=sendmsg,sendto", "-p", &round.proxy.pid().to_string()];
    let mut strace = Command::new("strace");
    strace.args(calls.map(str::to_owned)).arg("-o").arg(&file);
    let strace = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let strace = Watching(strace.context("start strace")?);
    thread::sleep(Duration::from_millis(500));
    round.load()?;
    thread::sleep(Duration::from_millis(300));
    drop(strace);
    let text = fs::read_to_string(&file)?;
    let took = |line: &str| line.strip_suffix('>')?.rsplit_once('<')?.1.parse::<f64>().ok();
    let seconds: f64 = text.lines().filter_map(took).sum();
    ensure!(seconds > 0.0, "strace saw nothing");
    Ok(seconds * 1000.0)
}

/// A strace that ends with this.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        // It lets go of what it watches when it is told to end; one that has ended needs nothing.
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.0.wait();
    }
}
