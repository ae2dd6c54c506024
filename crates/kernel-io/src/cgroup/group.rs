//! One group.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{CgroupError, Cgroups, Layout, failed};

/// How long killed processes may take to go, and the kernel to let a group go that they left.
const PATIENCE: Duration = Duration::from_secs(10);

/// A group: one directory, or one a controller. Dropping the value leaves the group alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    pub(super) layout: Layout,
    name: PathBuf,
    parents: BTreeMap<&'static str, PathBuf>,
    everywhere: Vec<PathBuf>,
}

impl Cgroup {
    pub(super) fn new(cgroups: &Cgroups, name: &str) -> Self {
        let Cgroups { layout, parents, everywhere } = cgroups.clone();
        Self { layout, name: name.into(), parents, everywhere }
    }

    /// Its first directory, to show to people.
    pub fn path(&self) -> PathBuf {
        self.directories().next().unwrap_or_default()
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Moves a process into it, all threads together.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        for path in self.directories() {
            write(&path.join("cgroup.procs"), "add a process to", &pid.to_string())?;
        }
        Ok(())
    }

    /// Open files through which a process moves itself into the group, by writing `0` to each; made for
    /// [`crate::process::Launch::in_cgroup`].
    pub fn entrances(&self) -> Result<Vec<File>, CgroupError> {
        let open = |directory: PathBuf| {
            let path = directory.join("cgroup.procs");
            OpenOptions::new().write(true).open(&path).map_err(|source| failed("open", &path, source))
        };
        self.directories().map(open).collect()
    }

    /// The processes in it and in the groups below it, as we see their numbers.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut pids = BTreeSet::new();
        for directory in self.traces().flat_map(|directory| with_all_below(&directory)) {
            let path = directory.join("cgroup.procs");
            let list = match fs::read_to_string(&path) {
                // It went meanwhile, and nothing can be in what is gone.
                Err(source) if is_gone(&source) => continue,
                list => list.map_err(|source| failed("read", &path, source))?,
            };
            // Processes that our PID namespace does not show are 0.
            pids.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
        }
        Ok(pids.into_iter().collect())
    }

    /// Kills every process in it and waits until they are gone; after that none can be started in it.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        let start = Instant::now();
        self.stop_growth();
        loop {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(CgroupError::Survivors { path: self.path(), pids });
            }
            self.kill(&pids)?;
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Removes it, the groups below it, and what it was made below if that is empty now, in every tree; a group that
    /// is gone already is no error.
    pub fn remove(&self) -> Result<(), CgroupError> {
        for parent in &self.everywhere {
            with_all_below(&parent.join(&self.name))
                .iter()
                .rev()
                .try_for_each(|path| remove_directory(path))?;
            for above in self.name.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                // Others may be in it.
                let _ = fs::remove_dir(parent.join(above));
            }
        }
        Ok(())
    }

    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        self.parents.values().map(|parent| parent.join(&self.name))
    }

    /// Its directories in all trees, made by whomever, as far as they are there.
    fn traces(&self) -> impl Iterator<Item = PathBuf> {
        self.everywhere.iter().map(|tree| tree.join(&self.name)).filter(|path| path.exists())
    }

    /// Sets one of its files; without the controller that has it, tells what could not be limited.
    pub(super) fn set(
        &self,
        limit: &'static str,
        controller: &'static str,
        file: &str,
        value: &str,
    ) -> Result<(), CgroupError> {
        let key = if self.layout == Layout::OneTree { "" } else { controller };
        let path = self.parents.get(key).map(|parent| parent.join(&self.name).join(file));
        match path.filter(|path| path.exists()) {
            Some(path) => write(&path, "set", value),
            None => Err(CgroupError::NoController { limit, controller }),
        }
    }

    /// Keeps processes from being started faster than they are killed, where the kernel can do that.
    fn stop_growth(&self) {
        for directory in self.traces() {
            for (file, value) in [("cgroup.kill", "1"), ("pids.max", "0")] {
                // cgroup.kill is there since 5.14 with one tree; pids.max with its controller.
                let _ = write(&directory.join(file), "set", value);
            }
        }
    }

    /// A number may pass to another process between the list and the kill; a descriptor may not. So: take hold,
    /// look again, and kill those that are still listed.
    fn kill(&self, pids: &[u32]) -> Result<(), CgroupError> {
        let hold = |pid: &u32| {
            let number = Pid::from_raw(i32::try_from(*pid).ok()?)?;
            Some((*pid, pidfd_open(number, PidfdFlags::empty()).ok()?))
        };
        let held: Vec<_> = pids.iter().filter_map(hold).collect();
        let still = self.pids()?;
        for (pid, pidfd) in held {
            if still.contains(&pid) {
                let _ = pidfd_send_signal(pidfd, Signal::KILL); // it is ending anyhow, or the next round sees it
            }
        }
        Ok(())
    }
}

fn write(path: &Path, verb: &'static str, value: &str) -> Result<(), CgroupError> {
    let open = OpenOptions::new().write(true).open(path);
    open.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|source| failed(verb, path, source))
}

/// A directory and those below it, each before its own.
fn with_all_below(directory: &Path) -> Vec<PathBuf> {
    let mut all = vec![directory.to_path_buf()];
    let mut next = 0;
    while let Some(directory) = all.get(next).cloned() {
        let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        all.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
        next += 1;
    }
    all
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// The kernel keeps a group busy for a moment after its last process has ended.
fn remove_directory(path: &Path) -> Result<(), CgroupError> {
    let start = Instant::now();
    loop {
        match fs::remove_dir(path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) if source.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(source) => return Err(failed("remove cgroup", path, source)),
            Ok(()) => return Ok(()),
        }
    }
}
