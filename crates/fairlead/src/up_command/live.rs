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
}

/// Says the last word.
pub(crate) fn end(word: &str) {
    print(&format!("{word}\n"));
}

fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _unread = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Everything, as tables.
pub(crate) fn tables(snapshot: &Snapshot, requests: Option<&Requests>) -> String {
    let state = if snapshot.settled { "as the files want it" } else { "on its way" };
    let mut text = format!("{}: {state}, {}\n\n", snapshot.directory.display(), snapshot.mode);
    let counted = if requests.is_some() { "REQUESTS" } else { "" };
    let mut rows =
        vec![["NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "IP", counted].map(str::to_owned)];
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
    let pods: BTreeMap<_, _> = before.pods.iter().map(|pod| (named(pod), said(pod))).collect();
    let services: BTreeMap<_, _> = before.services.iter().map(|one| (called(one), told(one))).collect();
    let pods_now: BTreeMap<_, _> = now.pods.iter().map(|pod| (named(pod), said(pod))).collect();
    let services_now: BTreeMap<_, _> = now.services.iter().map(|one| (called(one), told(one))).collect();
    let mut lines = differing("pod", &pods, &pods_now);
    lines.extend(differing("service", &services, &services_now));
    if now.settled && !before.settled {
        let (pods, services) = (now.pods.len(), now.services.len());
        lines.push(format!("{} is up: {pods} pods, {services} services\n", now.directory.display()));
    }
    lines.concat()
}

/// What is said of things that is another than before, and of those that are gone.
fn differing(kind: &str, before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let news = now.iter().filter(|(name, said)| before.get(*name) != Some(*said));
    let news = news.map(|(name, said)| format!("{kind} {name} {said}\n"));
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    news.chain(gone.map(|name| format!("{kind} {name} gone\n"))).collect()
}

fn named(pod: &PodRow) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

fn called(service: &ServiceRow) -> String {
    format!("{}/{}", service.namespace, service.name)
}

fn said(pod: &PodRow) -> String {
    let ready = if pod.ready { "ready" } else { "not ready" };
    let restarts = if pod.restarts == 0 { String::new() } else { format!(", restarts {}", pod.restarts) };
    format!("{} {ready} {}{restarts}", pod.status, joined(&pod.ips))
}

fn told(service: &ServiceRow) -> String {
    format!(
        "{} {} endpoints: {} ready, {} terminating, {} unready",
        joined(&service.ips),
        service.ports.join(","),
        service.ready,
        service.terminating,
        service.unready
    )
}
