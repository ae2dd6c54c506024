//! How much of the time that a load takes is the kernel's own.

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

/// The write of a load beside what of it is the kernel's.
pub(super) fn measure(services: u32, folder: &Path, figures: &mut Figures) -> Result<()> {
    let tools = Tools::of_machine();
    let (mut writes, mut kernel) = (Vec::new(), Vec::new());
    for number in 0..LOADS {
        let folder = folder.join(number.to_string());
        let round = Round::start("nftables", &tools, services, &folder.join("alone"))?;
        round.load()?;
        thread::sleep(Duration::from_millis(300));
        writes.push(passes::longest(&round.log)?);
        round.proxy.stop()?;
        let watched = Round::start("nftables", &tools, services, &folder.join("watched"))?;
        kernel.push(watched_load(&watched, &folder)?);
        watched.proxy.stop()?;
    }
    let write = Figure::new(format!("write of the load, {services} x 10"), "ms", percentile(&writes, 50));
    figures.add(write.against(Some(percentile(&kernel, 50))).goal(Goal::AtMost(1.3)))
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
