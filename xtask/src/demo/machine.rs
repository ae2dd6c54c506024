//! The machine around the demo: what could be left behind on it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

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
            cgroups: cgroups()?,
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

/// Removes the groups that were made below a group, and that group.
pub(super) fn remove_cgroups(group: &str) -> Result<()> {
    let cgroups = Cgroups::detect()?;
    // Making one takes over what is there, so the folder can be looked into in either layout of the machine.
    let last = cgroups.create(&format!("{group}/last"))?;
    let folder = last.path().parent().map(Path::to_path_buf).context("a cgroup lies below another")?;
    for name in names(&folder)?.into_iter().filter(|name| folder.join(name).is_dir() && name != "last") {
        let left = cgroups.create(&format!("{group}/{name}"))?;
        left.remove()?;
    }
    Ok(last.remove()?)
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

fn cgroups() -> Result<BTreeSet<String>> {
    let place = Cgroups::detect()?.create("fairlead-look")?;
    let folder = place.path().parent().map(Path::to_path_buf).context("a cgroup lies below another")?;
    place.remove()?;
    Ok(names(&folder)?.into_iter().filter(|name| name.starts_with("fairlead-demo-")).collect())
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
