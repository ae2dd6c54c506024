//! The nftables mode beside kube-proxies of two versions, by one API server, and beside the kernel alone.

mod charts;

use std::path::Path;

use anyhow::Result;
use kernel_io::netns::Netns;

use super::Extent;
use super::cluster::Shape;
use super::contender::Contender;
use super::kernel_share;
use super::passes;
use super::stage::Stage;
use crate::build;
use crate::field::{Field, Tools};
use bench::figure::{Figure, Figures, Goal, percentile};

const MODE: &str = "nftables";
const OUR_CHANGES: u32 = 200;

/// So many Services are changed at once.
const DRAINED: u32 = 1000;

const CHANGE_P50: Goal = Goal::AtMost(1.0);
const CHANGE_P99: Goal = Goal::AtMost(4.0);
const CPU_REPLACED: Goal = Goal::AtMost(1.0);
const DRAIN: Goal = Goal::AtMost(100.0);

/// The cost of a change in a large cluster to that in a small one.
const FLAT: Goal = Goal::AtMost(1.3);

/// What a connect may cost more than with kube-proxy, to a direct one.
const CONNECT_BEYOND: f64 = 0.05;

/// What a proxy did with a cluster.
struct Report {
    name: &'static str,
    shape: Shape,
    in_all: f64,
    after_lists: f64,
    changes: Vec<f64>,
    cpu: f64,
    megabytes: f64,
    drain: f64,
    /// To a direct connect: to the first Service, and to the last.
    connects: [f64; 2],
    /// Of ours alone: what a pool costs that grows or shrinks, and how long a pass took.
    resize_cpu: Option<f64>,
    passes: Vec<f64>,
}

pub(super) fn measure(extent: Extent, folder: &Path, figures: &mut Figures) -> Result<()> {
    let field = Field::around(Netns::current()?)?;
    let tools = Tools::of_machine();
    let mut contenders = vec![Contender::ours(MODE, &tools), Contender::kube_proxy(MODE, &tools)?];
    match build::newest_kube_proxy() {
        Ok(program) => contenders.push(Contender::newest_kube_proxy(program)),
        Err(error) => figures.skip("kube-proxy 1.37 as a peer", &format!("{error:#}")),
    }
    let sizes: &[u32] = match extent {
        Extent::Usual => &[1000, 10_000],
        Extent::Long => &[100, 1000, 5000, 10_000],
    };
    let mut reports = Vec::new();
    for services in sizes {
        let shape = Shape::telling(*services, 10);
        let all = perform(&field, shape, &contenders, folder)?;
        tell(&all, figures)?;
        reports.extend(all);
    }
    if extent == Extent::Long {
        charts::draw(&reports)?;
        for (services, endpoints) in [(30_000, 10), (50_000, 1), (5000, 50)] {
            let alone = perform(&field, Shape::telling(services, endpoints), &contenders[..1], folder)?;
            tell(&alone, figures)?;
            reports.extend(alone);
        }
    } else {
        figures.skip("30,000 x 10, 50,000 x 1, 5,000 x 50, and the charts", "they take longer: --long");
    }
    tell_growth(&reports, figures)?;
    for services in [1000, 10_000] {
        kernel_share::measure(services, &folder.join(format!("share-{services}")), figures)?;
    }
    figures.skip(
        "the kernel's own time of one change",
        "it is shorter than what watching it takes (docs/modes/nftables.md has it measured otherwise)",
    );
    figures
        .remark("a change is timed from its arrival at a bare watch client; below 0 ms the client was later");
    Ok(())
}

/// Each in its turn, on the same cluster.
fn perform(field: &Field, shape: Shape, contenders: &[Contender], folder: &Path) -> Result<Vec<Report>> {
    let folder = folder.join(format!("{}-{}", shape.services, shape.endpoints));
    let mut stage = Stage::build(field, shape, &folder)?;
    let reports = contenders.iter().map(|contender| turn(&mut stage, shape, contender)).collect();
    stage.empty(&Tools::of_machine())?;
    reports
}

fn turn(stage: &mut Stage<'_>, shape: Shape, contender: &Contender) -> Result<Report> {
    stage.empty(contender.tools())?;
    let entered = stage.enter(contender)?;
    let connects = stage.connects()?;
    let before = passes::count(&entered.log)?;
    let changes =
        stage.changes(&entered, if contender.is_ours() { OUR_CHANGES } else { peer_changes(shape) })?;
    let passes = passes::after(&entered.log, before)?;
    let resize_cpu = contender.is_ours().then(|| stage.resizes(&entered, OUR_CHANGES)).transpose()?;
    let drain = stage.drain(DRAINED)?;
    let (_, megabytes) = entered.proxy.memory()?;
    // A signal ends a kube-proxy.
    entered.proxy.end()?;
    Ok(Report {
        name: contender.name,
        shape,
        in_all: entered.in_all,
        after_lists: entered.after_lists,
        changes: changes.took,
        cpu: changes.cpu,
        megabytes,
        drain,
        connects,
        resize_cpu,
        passes,
    })
}

/// Each costs seconds where there are many Services.
fn peer_changes(shape: Shape) -> u32 {
    match shape.services {
        0..=1000 => 15,
        1001..=5000 => 8,
        _ => 5,
    }
}

fn tell(reports: &[Report], figures: &mut Figures) -> Result<()> {
    let Some((ours, peers)) = reports.split_first() else { return Ok(()) };
    let mut row = |name: &str, unit, value: &dyn Fn(&Report) -> f64, goal: Option<Goal>| -> Result<()> {
        let shape = ours.shape;
        let figure = Figure::new(format!("{name}, {shape}"), unit, value(ours));
        figures.add(figure.clone().goal(goal))?;
        for peer in peers {
            let figure = figure.clone().named(format!("{name}, {shape}, beside {}", peer.name));
            figures.add(figure.against(Some(value(peer))))?;
        }
        Ok(())
    };
    let at = |percent| move |report: &Report| percentile(&report.changes, percent);
    let shape = ours.shape;
    let is_large = shape.services >= 5000;
    row("start until the last Service answers", "ms", &|report| report.in_all, None)?;
    row("of this after the lists", "ms", &|report| report.after_lists, start_goal(shape))?;
    row("change p50", "ms", &at(50), is_large.then_some(CHANGE_P50))?;
    row("change p95", "ms", &at(95), None)?;
    row("change p99", "ms", &at(99), is_large.then_some(CHANGE_P99))?;
    row("CPU per change, an endpoint replaced", "ms", &|report| report.cpu, Some(CPU_REPLACED))?;
    row(
        &format!("{} changes at once", shape.services.min(DRAINED)),
        "ms",
        &|report| report.drain,
        Some(DRAIN),
    )?;
    let memory_goal = (shape.services == 30_000).then_some(Goal::AtMost(150.0));
    row("peak RSS", "MB", &|report| report.megabytes, memory_goal)?;
    if let Some(cpu) = ours.resize_cpu {
        let goal = Goal::AtMost(if shape.services > 10_000 { 4.0 } else { 1.5 });
        figures.add(Figure::new(format!("CPU per change, a pool resized, {shape}"), "ms", cpu).goal(goal))?;
    }
    let pass = Figure::new(format!("pass of a change p50, {shape}"), "ms", percentile(&ours.passes, 50));
    figures.add(pass)?;
    for (place, which) in ["first", "last"].into_iter().enumerate() {
        let figure =
            Figure::new(format!("connect p50, {which}, to direct, {shape}"), "ratio", ours.connects[place]);
        figures.add(figure.clone())?;
        for peer in peers {
            let theirs = peer.connects[place];
            let figure = figure.clone().named(format!("connect p50, {which}, {shape}, beside {}", peer.name));
            figures.add(figure.against(Some(theirs)).goal(Goal::AtMost(1.0 + CONNECT_BEYOND / theirs)))?;
        }
    }
    Ok(())
}

fn start_goal(shape: Shape) -> Option<Goal> {
    let most = match (shape.services, shape.endpoints) {
        (10_000, 10) => 500.0,
        (30_000, 10) => 1200.0,
        (50_000, 1) | (5000, 50) => 800.0,
        _ => return None,
    };
    Some(Goal::AtMost(most))
}

/// What a change costs among many, beside what it costs among a thousand.
fn tell_growth(reports: &[Report], figures: &mut Figures) -> Result<()> {
    let ours = |services| {
        let is_it = |report: &&Report| {
            report.resize_cpu.is_some() && (report.shape.services, report.shape.endpoints) == (services, 10)
        };
        reports.iter().find(is_it).map(|report| report.cpu)
    };
    for services in [10_000, 30_000] {
        if let Some(cpu) = ours(services) {
            let name = format!("CPU per change, an endpoint replaced, {services} x 10 beside 1000 x 10");
            figures.add(Figure::new(name, "ms", cpu).against(ours(1000)).goal(FLAT))?;
        }
    }
    Ok(())
}
