//! The acts of the demo, each a titled step that shows something and fails if it is not so.

mod life;
mod maps;
mod requests;
mod rules;
mod servers;

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};

use super::report::Report;
use super::stage::{Family, MEMORY, PROCESSES, Pod, SIDE_PORT, Stage};
use super::table::{Cell, Table};
use super::{Mode, http};

/// All of them, in order.
pub(super) fn all(stage: &mut Stage, report: &mut Report) -> Result<()> {
    pods(stage, report)?;
    localhost(stage, report)?;
    requests::spread(stage, report)?;
    match stage.mode {
        Mode::Iptables => rules::count(stage, report)?,
        Mode::Nftables => maps::count(stage, report)?,
        Mode::Ipvs => servers::virtual_servers(stage, report)?,
        Mode::Userspace => servers::listeners(stage, report)?,
    }
    life::replace_a_pod(stage, report)?;
    life::reap_an_orphan(stage, report)?;
    life::kill_pause(stage, report)?;
    leave(stage, report)
}

fn pods(stage: &mut Stage, report: &mut Report) -> Result<()> {
    report.step("Eight pods, each held by pause")?;
    for record in stage.manifests.pods()? {
        stage.start_pod(&record)?;
    }
    let mut table =
        Table::new(["pod", "address", "pause", "memory of pause", "net", "ipc", "uts", "pid", "processes"]);
    let mut seen = BTreeSet::from([namespace("self", "net")?]);
    for pod in stage.pods.values() {
        let pid = pod.sandbox.pause().context("pause runs")?.pid().to_string();
        let namespaces = ["net", "ipc", "uts", "pid"].map(|kind| namespace(&pid, kind));
        let namespaces = namespaces.into_iter().collect::<Result<Vec<_>>>()?;
        ensure!(namespaces.iter().all(|number| seen.insert(number.clone())), "a pod shares a namespace");
        let mut cells: Vec<Cell> =
            vec![pod.record.name.clone().into(), pod.record.address.to_string().into()];
        cells.extend([format!("pid {pid}").into(), resident(&pid)?.into()]);
        cells.extend(namespaces.into_iter().map(Cell::from));
        cells.push(pod.sandbox.processes()?.len().into());
        table.row(cells);
    }
    report.table(&table)?;
    let limits =
        format!("Each in a cgroup of its own, with at most {} MiB and {PROCESSES} processes.", MEMORY >> 20);
    report.remark(&limits)?;
    let size = fs::metadata(crate::workspace::dist().join("pause"))?.len();
    report.proves(&format!("pods are namespaces that a program of {size} bytes holds open"))
}

fn localhost(stage: &Stage, report: &mut Report) -> Result<()> {
    report.step("Two containers of one pod talk over localhost")?;
    let mut table = Table::new(["asked", "the container there asks", "answered by", "which saw"]);
    for pod in stage.pods.values().take(2) {
        let answer = http::get(pod.at(SIDE_PORT))?;
        ensure!(answer.pod == pod.record.name && answer.client.is_loopback(), "answered by {answer:?}");
        let (asked, pod, client) = (pod.at(SIDE_PORT).to_string(), answer.pod, answer.client.to_string());
        table.row([asked.into(), "127.0.0.1:8080".into(), pod.into(), client.into()]);
    }
    report.table(&table)?;
    report.proves("containers of a pod share one network: localhost is the pod's")
}

fn leave(stage: &mut Stage, report: &mut Report) -> Result<()> {
    report.step("The proxy stops, and everything is removed")?;
    stage.stop_proxy()?;
    report.remark(match stage.mode {
        Mode::Userspace => {
            "The proxy exited with 0 on SIGTERM; nobody relays any more, and what it served is refused."
        }
        Mode::Iptables | Mode::Nftables | Mode::Ipvs => {
            "The proxy exited with 0 on SIGTERM; its rules stayed, and traffic went on."
        }
    })?;
    for family in [Family::V4, Family::V6] {
        ensure!(stage.is_clean(family), "left behind by --cleanup:\n{}", stage.rules(family)?);
    }
    report.remark("fairlead proxy --cleanup removed them all, for IPv4 and IPv6.")?;
    for pod in stage.pods.values_mut() {
        pod.sandbox.remove()?;
    }
    stage.pods.clear();
    let links = fs::read_to_string("/proc/self/net/dev").context("read the node's links")?;
    ensure!(!links.contains("fl"), "links are left:\n{links}");
    report.proves("steps that were done are undone, backwards: no pod, link, rule or cgroup is left")
}

/// The number of a process's namespace, without its kind.
fn namespace(pid: &str, kind: &str) -> Result<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"))?;
    let text = link.to_string_lossy().into_owned();
    Ok(text.trim_start_matches(kind).trim_matches([':', '[', ']']).to_owned())
}

fn resident(pid: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has a size")?;
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The processes of a pod as a table.
fn process_table(pod: &Pod) -> Result<(Table, usize)> {
    let mut table = Table::new(["pid", "parent", "state", "command"]);
    let processes = pod.processes()?;
    for cells in &processes {
        table.row(cells.iter().map(|cell| Cell::from(shortened(cell))).collect::<Vec<_>>());
    }
    Ok((table, processes.iter().filter(|cells| cells[2].starts_with('Z')).count()))
}

/// A command without the path of its program.
fn shortened(command: &str) -> String {
    match command.split_once(' ') {
        Some((program, rest)) if program.starts_with('/') => {
            format!("{} {rest}", program.rsplit('/').next().unwrap_or(program))
        }
        Some(_) | None => command.rsplit('/').next().unwrap_or(command).to_owned(),
    }
}
