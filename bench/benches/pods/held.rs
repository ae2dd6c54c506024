//! What is held in memory for a pod that runs.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench::figure::{Figure, Figures, Goal};
use serde_json::Value;

use crate::Programs;
use crate::contenders::{ContainerdPods, PodmanPods, names};
use crate::crowd::Crowd;

/// What pause is called as an image.
pub(crate) const PAUSE: &str = concat!("fairlead.dev/pause:", env!("CARGO_PKG_VERSION"));
/// Pages that several processes have are divided among them: so it is told for a node that has some pods.
const PODS: usize = 10;
/// After this long every holder rests.
const REST: Duration = Duration::from_secs(4);

pub(super) fn measure(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let crowd = Crowd::new(programs)?;
    crowd.run(PODS)?;
    sleep(REST);
    let pods: Vec<Value> = serde_json::from_str(&crowd.fairlead(&["list", "-o", "json"])?)?;
    let holders = pods.iter().map(|pod| pod["holder"].as_u64().context("a pod has a holder"));
    let ours = mean(&holders.collect::<Result<Vec<_>>>()?)?;
    crowd.remove(PODS)?;
    figures.add(Figure::new("held for a pod at rest, of 10", "MB", ours).goal(Goal::AtMost(1.0)))?;

    let containerd = ContainerdPods::new(programs, PAUSE);
    for name in names(PODS) {
        containerd.make(&name)?;
    }
    let shims = mean(&called("containerd-shim")?)?;
    containerd.remove_all()?;
    figures.add(
        Figure::new("held for a pod at rest, of 10, against containerd's shim", "MB", ours)
            .against(Some(shims)),
    )?;

    let podman = PodmanPods::new(programs, PAUSE)?;
    for name in names(PODS) {
        podman.make(&name)?;
    }
    let monitors = mean(&called("conmon")?)?;
    names(PODS).iter().try_for_each(|name| podman.remove(name))?;
    figures.add(
        Figure::new("held for a pod at rest, of 10, against podman's conmon", "MB", ours)
            .against(Some(monitors)),
    )
}

/// The processes of this name.
fn called(name: &str) -> Result<Vec<u64>> {
    let numbers =
        fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_called = |number: &u64| {
        fs::read_to_string(format!("/proc/{number}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    Ok(numbers.filter(is_called).collect())
}

/// The memory of a pod's process, in MB: what it alone has, and its share of what it has with others.
fn mean(processes: &[u64]) -> Result<f64> {
    ensure!(processes.len() == PODS, "{} processes hold {PODS} pods", processes.len());
    let memory = |process: &u64| {
        let text = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next());
        line.context("smaps_rollup has no Pss")?.parse::<f64>().context("Pss is a number")
    };
    let all = processes.iter().map(memory).collect::<Result<Vec<_>>>()?;
    #[expect(clippy::cast_precision_loss, reason = "few pods")]
    Ok(all.iter().sum::<f64>() * 1024.0 / 1_000_000.0 / all.len() as f64)
}
