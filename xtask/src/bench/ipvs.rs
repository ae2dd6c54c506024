//! The ipvs mode, in a kernel that has it: beside the tools that do the same, and beside netlink alone.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench::figure::{Figure, Figures, Goal, percentile};
use kernel_io::Target;
use kernel_io::ipset::Ipsets;
use kernel_io::ipvs::{Ownership, Servers};
use kernel_io::link::Device;
use kernel_io::netns::Netns;
use kernel_state::ipset::Family as SetFamily;
use kernel_state::{Change, Objects};
use proxy_modes::{IPVS_DEVICE, Ipvs};
use service_plan::Family;

use super::lookup;
use super::passes;
use super::round::Round;
use crate::field::{Field, Tools};
use crate::workspace::output;

const MODE: &str = "ipvs";
const CHANGES: usize = 20;

pub(super) fn measure(folder: &Path, ipvsadm: &Path, figures: &mut Figures) -> Result<()> {
    let mut connects = Vec::new();
    let mut changes = Vec::new();
    let bare = Field::around(Netns::new()?)?;
    for size in [10, 1000, 5000] {
        let of = format!("{size} x 10");
        let mut round = Round::start(MODE, &Tools::of_machine(), size, &folder.join(size.to_string()))?;
        // The pass that makes the rules comes first, and tells nothing of the load.
        let before = passes::count(&round.log)?;
        let load = round.load()?;
        let loading = passes::after(&round.log, before)?;
        let write = loading.into_iter().max_by(f64::total_cmp).context("a pass that wrote the load")?;
        figures.add(Figure::new(format!("load, {of}"), "ms", load))?;
        if size > 10 {
            let peer = by_tools(&round.field.node, ipvsadm, &folder.join(format!("tools-{size}")))?;
            let figure = Figure::new(format!("write of the load, {of}, against the tools"), "ms", write);
            figures.add(figure.against(Some(peer)).goal(Goal::AtMost(0.2)))?;
            let bare = by_netlink(&round.field.node)?;
            let figure = Figure::new(format!("write of the load, {of}, against netlink alone"), "ms", write);
            figures.add(figure.against(Some(bare)).goal(Goal::AtMost(1.3)))?;
        }
        let before = passes::count(&round.log)?;
        for _ in 0..CHANGES {
            round.change()?;
        }
        thread::sleep(Duration::from_millis(300));
        let changed = percentile(&passes::after(&round.log, before)?, 50);
        changes.push(changed);
        let figure = Figure::new(format!("write of a change p50, {of}"), "ms", changed);
        figures.add(figure.goal(Goal::AtMost(1.0)))?;
        #[expect(clippy::cast_precision_loss, reason = "no kernel has 2^52 rules")]
        let rules = lookup::rules(MODE, &round.field.node)? as f64;
        figures.add(Figure::new(format!("iptables rules, {of}"), "rules", rules))?;
        let (direct, [connect]) = lookup::connects(&bare, &round.field, [round.last()])?;
        let figure = Figure::new(format!("connect p50, last of {size}, against direct"), "us", connect);
        figures.add(figure.against(Some(direct)))?;
        connects.push(connect / direct);
        round.proxy.stop()?;
    }
    let (few, many) = (connects[0], connects[connects.len() - 1]);
    let figure = Figure::new("connect p50, last of 5000 against last of 10, to direct", "ratio", many);
    figures.add(figure.against(Some(few)).goal(Goal::AtMost(1.1)))
}

/// How many ms the tools take for what a node has, in an empty one.
fn by_tools(node: &Netns, ipvsadm: &Path, folder: &Path) -> Result<f64> {
    fs::create_dir_all(folder)?;
    let sets = node.run(|| output(Command::new("ipset").arg("save")))??;
    let servers = node.run(|| output(Command::new(ipvsadm).arg("-Sn")))??;
    let addresses =
        node.run(|| output(Command::new("ip").args(["-o", "-4", "address", "show", "dev", IPVS_DEVICE])))??;
    let add = |line: &str| {
        let address = line.split_whitespace().nth(3)?;
        Some(format!("address add {address} dev {IPVS_DEVICE}\n"))
    };
    let link = format!("link add {IPVS_DEVICE} type dummy\n");
    let batch: String = std::iter::once(link).chain(addresses.lines().filter_map(add)).collect();
    let empty = Netns::new()?;
    let runs: [(&Path, &[&str], String); 3] = [
        (Path::new("ipset"), &["restore"], sets),
        (ipvsadm, &["-R"], servers),
        (Path::new("ip"), &["-batch", "-"], batch),
    ];
    let mut took = Duration::ZERO;
    for (number, (program, arguments, text)) in runs.into_iter().enumerate() {
        let file = folder.join(number.to_string());
        fs::write(&file, text)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(fs::File::open(&file)?).stdout(Stdio::null());
        let start = Instant::now();
        let status =
            empty.run(|| command.status())?.with_context(|| format!("start {}", program.display()))?;
        took += start.elapsed();
        ensure!(status.success(), "{} failed: {status}", program.display());
    }
    Ok(took.as_secs_f64() * 1000.0)
}

/// How many ms the same takes over netlink, when all of it is known.
fn by_netlink(node: &Netns) -> Result<f64> {
    let (sets, servers, addresses) = node.run(|| -> Result<_> {
        let (mut sets, mut servers, mut device) = targets()?;
        Ok((puts(&mut sets)?, puts(&mut servers)?, puts(&mut device)?))
    })??;
    Netns::new()?.run(|| -> Result<f64> {
        let (mut to_sets, mut to_servers, mut to_device) = targets()?;
        let start = Instant::now();
        to_sets.write(&sets)?;
        to_servers.write(&servers)?;
        to_device.write(&addresses)?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    })?
}

fn targets() -> Result<(Ipsets, Servers, Device)> {
    let ownership = Ownership {
        addresses: Ipvs::address_sets(Family::V4),
        ports: Ipvs::port_sets(Family::V4),
        spared: Vec::new(),
    };
    let mut sets = Ipsets::open(Ipvs::sets(Family::V4))?;
    sets.require(&Ipvs::set_types(Family::V4))?;
    let servers = Servers::open(SetFamily::Inet, ownership, Duration::ZERO)?;
    Ok((sets, servers, Device::open(IPVS_DEVICE, SetFamily::Inet)?))
}

/// What is there, as it would be put: what others stand on first.
fn puts<O: Objects>(target: &mut impl Target<O>) -> Result<Vec<Change<O>>> {
    let mut found = Vec::new();
    target.read(&mut |key, value| found.push(Change::Put { key, value, replaced: None }))?;
    found.sort_by_key(|change| match change {
        Change::Put { key, .. } | Change::Drop { key, .. } => O::rank(key),
    });
    Ok(found)
}
