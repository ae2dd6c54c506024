//! The machine around the demo: what could be left behind on it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kernel_io::cgroup::Cgroups;

use crate::workspace::output;

/// Everything of which the demo might leave something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    netns: BTreeSet<String>,
    rules: BTreeSet<String>,
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    processes: BTreeSet<String>,
}

impl Machine {
    /// Looks, and changes nothing.
    pub(super) fn look() -> Result<Self> {
        Ok(Self {
            netns: names(Path::new("/run/netns"))?,
            rules: rules("iptables-save")?.union(&rules("ip6tables-save")?).cloned().collect(),
            links: names(Path::new("/sys/class/net"))?,
            mounts: mounts()?,
            cgroups: cgroups(),
            processes: processes()?,
        })
    }

    /// What is here and was not there before.
    pub(super) fn beyond(&self, before: &Self) -> Vec<String> {
        let kinds = [
            ("namespace", &self.netns, &before.netns),
            ("rule", &self.rules, &before.rules),
            ("link", &self.links, &before.links),
            ("mount", &self.mounts, &before.mounts),
            ("cgroup", &self.cgroups, &before.cgroups),
            ("process", &self.processes, &before.processes),
        ];
        kinds
            .into_iter()
            .flat_map(|(kind, now, then)| now.difference(then).map(move |name| format!("{kind} {name}")))
            .collect()
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} named network namespaces, {} lines of iptables rules, {} links, {} mounts, {} cgroups of ours, {} \
             processes of ours",
            self.netns.len(),
            self.rules.len(),
            self.links.len(),
            self.mounts.len(),
            self.cgroups.len(),
            self.processes.len()
        )
    }
}

/// Removes the groups of the pods of a demo. The sandbox makes them below its own.
pub(super) fn remove_cgroups(demo: &str) -> Result<()> {
    Ok(Cgroups::detect()?.group(&format!("fairlead/{demo}"))?.remove()?)
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    if !folder.exists() {
        return Ok(BTreeSet::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The rules of the machine itself, without counters and dates.
fn rules(program: &str) -> Result<BTreeSet<String>> {
    let text = output(&mut std::process::Command::new(program))?;
    Ok(text.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect())
}

fn mounts() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Groups of demos, wherever in the tree they are.
fn cgroups() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        // A group may go while we look, and is then none that was left.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(super::CGROUP) {
                    found.insert(entry.path().display().to_string());
                }
                folders.push(entry.path());
            }
        }
    }
    found
}

/// Processes of programs that the demo starts.
fn processes() -> Result<BTreeSet<String>> {
    let dist = crate::workspace::dist();
    let is_ours = |pid: &String| {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        program.starts_with(&dist) || command.contains("\0demo-")
    };
    let pids =
        names(Path::new("/proc"))?.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    Ok(pids.filter(is_ours).collect())
}
