//! What it costs to hold a large cluster, beside kube-proxy's cost of the same, by one API server, in turns.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kernel_io::netns::Netns;

use super::cluster::{Cluster, Shape, node_object};
use super::contender::Contender;
use super::control_plane::ControlPlane;
use super::planning;
use crate::field::{Answer, Field, Proxy, Tools, ask};
use crate::workspace::{dist, output};
use bench::figure::{Figure, Figures, Goal};

const SIZE: u32 = 10_000;

/// The same cluster as it was when it was young.
const SMALL: u32 = 1000;

/// What a proxy needs to come to rest once it is in sync.
const REST: Duration = Duration::from_secs(15);

/// In sync within this, or never.
const PATIENCE: Duration = Duration::from_mins(2);

const MEGABYTES_AT_MOST: Goal = Goal::AtMost(90.0);
const MEGABYTES_AT_REST: Goal = Goal::AtMost(60.0);
const OF_ITS_OWN_TIME: Goal = Goal::AtMost(0.5);
const SIZE_AT_MOST: Goal = Goal::AtMost(20.0);

/// What one start came to.
struct Costs {
    in_sync: f64,
    /// Seconds of the program's own, without the kernel's and without its tools.
    own_time: f64,
    peak: f64,
    at_rest: f64,
}

pub(super) fn measure(folder: &Path, figures: &mut Figures) -> Result<()> {
    let field = Field::around(Netns::current()?)?;
    let control_plane = ControlPlane::start(folder)?;
    control_plane.create(&node_object())?;
    let tools = Tools::of_machine();
    let ours = || Contender::ours("nftables", &tools);
    for size in [SMALL, SIZE] {
        let mut cluster = Cluster::new(Shape::even(size, 10));
        ControlPlane::fill(cluster.objects())?;
        empty(&field)?;
        let start = Instant::now();
        let log = folder.join(format!("planning-{size}.log"));
        let proxy = Proxy::start(ours().command(&control_plane.kubeconfig()), &field.node, log)?;
        await_sync(&field, &cluster, start)?;
        planning::measure(&field, &mut cluster, figures)?;
        proxy.end()?;
    }
    let cluster = Cluster::new(Shape::even(SIZE, 10));
    ControlPlane::fill(cluster.objects())?;
    let of = format!("nftables mode, {SIZE} x 10");
    let contenders = [ours(), Contender::kube_proxy("nftables", &tools)?];
    let [ours, peer] = contenders.map(|contender| {
        let command = contender.command(&control_plane.kubeconfig());
        costs(&field, &cluster, command, &folder.join(contender.file_name()))
    });
    let (ours, peer) = (ours?, peer?);
    let figure = |name: &str, unit, ours| Figure::new(format!("{name}, {of}"), unit, ours);
    figures.add(figure("memory peak", "MB", ours.peak).goal(MEGABYTES_AT_MOST))?;
    figures.add(figure("memory at rest", "MB", ours.at_rest).goal(MEGABYTES_AT_REST))?;
    figures.add(figure("memory peak beside kube-proxy", "MB", ours.peak).against(Some(peer.peak)))?;
    figures
        .add(figure("memory at rest beside kube-proxy", "MB", ours.at_rest).against(Some(peer.at_rest)))?;
    let own_time = figure("own CPU until in sync", "s", ours.own_time);
    figures.add(own_time.against(Some(peer.own_time)).goal(OF_ITS_OWN_TIME))?;
    figures
        .add(figure("start until the last Service answers", "s", ours.in_sync).against(Some(peer.in_sync)))?;
    let binary = fs::metadata(dist().join("fairlead"))?.len();
    #[expect(clippy::cast_precision_loss, reason = "a program is smaller than 2^52 bytes")]
    let binary = Figure::new("binary, stripped and static", "MB", binary as f64 / 1e6);
    figures.add(binary.goal(SIZE_AT_MOST))
}

/// Starts a proxy on an empty node, and stops it again.
fn costs(field: &Field, cluster: &Cluster, command: Command, log: &Path) -> Result<Costs> {
    empty(field)?;
    let start = Instant::now();
    let proxy = Proxy::start(command, &field.node, log.to_owned())?;
    await_sync(field, cluster, start)?;
    let in_sync = start.elapsed().as_secs_f64();
    let own_time = proxy.own_time()?;
    thread::sleep(REST);
    let (at_rest, peak) = proxy.memory()?;
    // kube-proxy lets the signal end it.
    proxy.end()?;
    Ok(Costs { in_sync, own_time, peak, at_rest })
}

/// Removes what a proxy left on the node.
fn empty(field: &Field) -> Result<()> {
    field.node.run(|| output(Command::new("nft").args(["flush", "ruleset"])))?.map(drop)
}

fn await_sync(field: &Field, cluster: &Cluster, start: Instant) -> Result<()> {
    field.node.run(|| -> Result<()> {
        while !matches!(ask(cluster.last(), Duration::from_millis(500)), Answer::By(_)) {
            ensure!(start.elapsed() < PATIENCE, "{} did not answer", cluster.last());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    })?
}
