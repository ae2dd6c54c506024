//! What a person sees of a directory that is up: a live table on a terminal, lines elsewhere.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use pod_runtime::{NodeFacts, Root};
use up::{PodRow, ServiceRow, Settings, Snapshot};

use super::requests::Requests;
use crate::table::table;

/// How often the table is drawn again, if only numbers of requests may have changed.
const REDRAW: Duration = Duration::from_millis(500);
/// To the upper left, and everything below cleared.
const HOME: &str = "\x1b[H\x1b[J";

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As a table that is drawn again and again.
    Table,
    /// As a line for each change.
    Lines,
}

/// What a person sees.
#[derive(Debug)]
pub(crate) struct View {
    manner: Manner,
    requests: Requests,
    shown: Option<(Snapshot, Instant)>,
}

impl Manner {
    /// On a terminal, a table.
    pub(crate) fn of(terminal: bool) -> Self {
        if terminal { Self::Table } else { Self::Lines }
    }
}

impl View {
    pub(crate) fn new(manner: Manner, settings: &Settings) -> Result<Self> {
        let root = Root::open(&settings.root, settings.holder.clone(), NodeFacts::default());
        let root = root.map_err(|error| anyhow::anyhow!(error.told()))?;
        Ok(Self { manner, requests: Requests::of(root), shown: None })
    }

    /// Shows what changed. Nobody has to read it.
    pub(crate) fn show(&mut self, snapshot: &Snapshot) {
        let nothing = Snapshot::default();
        let before = self.shown.as_ref().map_or(&nothing, |(before, _)| before);
        let is_recent = self.shown.as_ref().is_some_and(|(_, at)| at.elapsed() < REDRAW);
        if before == snapshot && (self.manner == Manner::Lines || is_recent) {
            return;
        }
        let text = match self.manner {
            Manner::Table => {
                self.requests.read(&snapshot.pods);
                format!("{HOME}{}", tables(snapshot, Some(&self.requests)))
            }
            Manner::Lines => lines(before, snapshot),
        };
        print(&text);
        self.shown = Some((snapshot.clone(), Instant::now()));
    }

    /// Says the last word.
    pub(crate) fn end(&self, word: &str) {
        print(&format!("{word}\n"));
    }
}

fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _unread = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Everything, as tables.
pub(crate) fn tables(snapshot: &Snapshot, requests: Option<&Requests>) -> String {
    let state = if snapshot.settled { "as the files want it" } else { "on its way" };
    let mut text = format!("{}: {state}, {}\n\n", snapshot.directory.display(), snapshot.mode);
    let mut rows =
        vec![["NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "IP", "REQUESTS"].map(str::to_owned)];
    rows.extend(snapshot.pods.iter().map(|pod| {
        [
            pod.namespace.clone(),
            pod.name.clone(),
            if pod.ready { "yes" } else { "no" }.to_owned(),
            pod.status.clone(),
            pod.restarts.to_string(),
            joined(&pod.ips),
            requests.map_or_else(String::new, |requests| requests.count(pod).to_string()),
        ]
    }));
    if requests.is_none() {
        rows.iter_mut().for_each(|row| row[6].clear());
    }
    text += &table(&rows);
    let mut rows = vec![
        ["NAMESPACE", "SERVICE", "ADDRESS", "PORTS", "READY", "TERMINATING", "UNREADY"].map(str::to_owned),
    ];
    rows.extend(snapshot.services.iter().map(|service| {
        [
            service.namespace.clone(),
            service.name.clone(),
            joined(&service.ips),
            service.ports.join(","),
            service.ready.to_string(),
            service.terminating.to_string(),
            service.unready.to_string(),
        ]
    }));
    text += "\n";
    text += &table(&rows);
    let said: Vec<_> =
        snapshot.problems.iter().chain(&snapshot.reports).map(|line| format!("{line}\n")).collect();
    if !said.is_empty() {
        text += "\n";
    }
    text + &said.concat()
}

fn joined(ips: &[std::net::IpAddr]) -> String {
    if ips.is_empty() {
        return "-".to_owned();
    }
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A line for each change. Problems are told by the log.
fn lines(before: &Snapshot, now: &Snapshot) -> String {
    let mut text = String::new();
    let pods: BTreeMap<_, _> = before.pods.iter().map(|pod| ((&pod.namespace, &pod.name), pod)).collect();
    let mut gone = pods.clone();
    for pod in &now.pods {
        let name = (&pod.namespace, &pod.name);
        gone.remove(&name);
        let known = pods.get(&name).map(|before| said(before));
        if known.as_ref() != Some(&said(pod)) {
            text += &format!("pod {}/{} {}\n", pod.namespace, pod.name, said(pod));
        }
    }
    for (namespace, name) in gone.keys() {
        text += &format!("pod {namespace}/{name} gone\n");
    }
    for service in now.services.iter().filter(|service| !before.services.contains(service)) {
        text += &format!("service {}\n", told(service));
    }
    let is_there = |one: &ServiceRow| {
        now.services.iter().any(|other| (&other.namespace, &other.name) == (&one.namespace, &one.name))
    };
    for service in before.services.iter().filter(|service| !is_there(service)) {
        text += &format!("service {}/{} gone\n", service.namespace, service.name);
    }
    if now.settled && !before.settled {
        text += &format!(
            "{} is up: {} pods, {} services\n",
            now.directory.display(),
            now.pods.len(),
            now.services.len()
        );
    }
    text
}

fn said(pod: &PodRow) -> String {
    let ready = if pod.ready { "ready" } else { "not ready" };
    let restarts = if pod.restarts == 0 { String::new() } else { format!(", restarts {}", pod.restarts) };
    format!("{} {ready} {}{restarts}", pod.status, joined(&pod.ips))
}

fn told(service: &ServiceRow) -> String {
    format!(
        "{}/{} {} {} endpoints: {} ready, {} terminating, {} unready",
        service.namespace,
        service.name,
        joined(&service.ips),
        service.ports.join(","),
        service.ready,
        service.terminating,
        service.unready
    )
}
