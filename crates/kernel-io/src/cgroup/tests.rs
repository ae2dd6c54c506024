//! The layout of one tree is tested on a directory that looks like it; the other one, on this machine where it
//! has it, as root.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Cgroup, CgroupError, Cgroups, Resources};
use crate::process::{Launch, Signal};

/// A directory with the files that the kernel makes in each group of the one tree.
fn fill(group: &Path) {
    for (file, text) in [
        ("cgroup.controllers", "cpu memory pids\n"),
        ("cgroup.subtree_control", "pids\n"),
        ("cgroup.procs", ""),
        ("memory.max", "max\n"),
        ("pids.max", "max\n"),
    ] {
        fs::create_dir_all(group).expect("made");
        fs::write(group.join(file), text).expect("written");
    }
}

fn memory(bytes: u64) -> Resources {
    Resources { memory: Some(bytes), ..Resources::default() }
}

fn pids(count: u64) -> Resources {
    Resources { pids: Some(count), ..Resources::default() }
}

fn one_tree() -> (tempfile::TempDir, Cgroups) {
    let root = tempfile::tempdir().expect("a directory");
    fill(root.path());
    fill(&root.path().join("fairlead"));
    fill(&root.path().join("fairlead/web"));
    let cgroups = Cgroups::in_tree(root.path()).expect("a tree");
    (root, cgroups)
}

/// A group of the real tree that goes even if the test fails.
struct Real(Cgroup);

impl Real {
    fn new(cgroups: &Cgroups, name: &str) -> Self {
        let name = format!("fairlead-test-{}-{name}/web", std::process::id());
        Self(cgroups.create(&name).expect("a group"))
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if self.0.path().exists() {
            let _ = self.0.kill_all().and_then(|()| self.0.remove()); // the test tells what is wrong
        }
    }
}

#[test]
fn one_tree_passes_its_controllers_down_and_takes_limits() {
    let (root, cgroups) = one_tree();
    let group = cgroups.create("fairlead/web").expect("a group");
    group.limit(&memory(64 << 20)).expect("limited");
    group.limit(&pids(32)).expect("limited");
    group.add(77).expect("added");
    let read = |file: &str| fs::read_to_string(root.path().join(file)).expect("read");
    assert_eq!(read("cgroup.subtree_control"), "+memory"); // the kernel would add it to pids
    assert_eq!(read("fairlead/web/memory.max"), "67108864");
    assert!(read("fairlead/web/pids.max").starts_with("32"));
    assert_eq!(group.pids().expect("listed"), [77]);
}

#[test]
fn a_group_in_use_is_not_taken_over() {
    let (root, cgroups) = one_tree();
    fs::write(root.path().join("fairlead/web/cgroup.procs"), "12\n").expect("written");
    let error = cgroups.create("fairlead/web").expect_err("in use");
    assert!(matches!(error, CgroupError::InUse { .. }), "{error}");
    assert!(root.path().join("fairlead/web").exists());
}

#[test]
fn names_never_leave_the_tree() {
    let (_root, cgroups) = one_tree();
    for name in ["", "/", "../x", "a/../b", "/a"] {
        assert!(matches!(cgroups.create(name), Err(CgroupError::Name { .. })), "{name}");
    }
}

#[test]
fn a_tree_without_controllers_is_told() {
    let root = tempfile::tempdir().expect("a directory");
    let error = Cgroups::in_tree(root.path()).expect_err("nothing there");
    assert!(matches!(error, CgroupError::Absent { .. }));
}

#[test]
fn a_group_has_the_same_place_in_every_tree() {
    let root = tempfile::tempdir().expect("a directory");
    for group in ["memory", "pids", "freezer", "freezer/pods/web/made-by-another"] {
        fs::create_dir_all(root.path().join(group)).expect("made");
        fs::write(root.path().join(group).join("cgroup.procs"), "").expect("written");
    }
    let cgroups = Cgroups::in_tree(root.path()).expect("trees");
    let places: Vec<_> = cgroups.parents.values().cloned().collect();
    assert_eq!(places, [root.path().join("memory"), root.path().join("pids")]);
    let group = cgroups.group("pods/web").expect("a name");
    fs::write(root.path().join("freezer/pods/web/made-by-another/cgroup.procs"), "7\n").expect("written");
    assert_eq!(group.pids().expect("listed"), [7], "whoever joined it in a tree that we do not use");
}

#[test]
fn a_missing_controller_is_named() {
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir(root.path().join("memory")).expect("made");
    fs::create_dir_all(root.path().join("memory/web")).expect("made");
    for file in ["memory/cgroup.procs", "memory/web/cgroup.procs"] {
        fs::write(root.path().join(file), "").expect("written");
    }
    let group = Cgroups::in_tree(root.path()).and_then(|trees| trees.create("web")).expect("a group");
    let error = group.limit(&pids(5)).expect_err("no controller");
    assert_eq!(error.to_string(), "limit processes: the pids controller is not mounted");
}

/// Many machines with a tree a controller have the one tree beside them, without controllers.
#[test]
fn a_real_group_of_the_one_tree_holds_and_kills() {
    let root = Path::new("/sys/fs/cgroup");
    let root = [root.to_path_buf(), root.join("unified")]
        .into_iter()
        .find(|root| root.join("cgroup.controllers").exists());
    let Some(root) = root else { panic!("no cgroup v2 is mounted under /sys/fs/cgroup") };
    let real = Real::new(&Cgroups::in_tree(&root).expect("a tree"), "one-tree");
    let group = &real.0;
    let mut sleep = Command::new("sleep");
    sleep.arg("60");
    let launch = Launch::new(sleep).in_cgroup(group.entrances().expect("opened")).dying_with_us();
    let sleep = launch.start().expect("started").process;
    assert_eq!(group.pids().expect("listed"), [sleep.pid()]);
    group.kill_all().expect("killed");
    group.remove().expect("removed");
    assert!(!group.path().exists());
}

#[test]
fn a_real_group_limits_and_kills_what_is_started_in_it() {
    let real = Real::new(&Cgroups::detect().expect("a tree"), "own");
    let group = &real.0;
    group.limit(&memory(64 << 20)).expect("limited");
    group.limit(&pids(2)).expect("limited");
    let mut shell = Command::new("sh");
    // The shell and one sleep are two; a third is one too many.
    shell.args(["-c", "sleep 60 & sleep 60 & wait"]).stderr(std::process::Stdio::null());
    let launch = Launch::new(shell).in_cgroup(group.entrances().expect("opened")).dying_with_us();
    let shell = launch.start().expect("started").process;
    let status = shell.wait();
    assert!(!status.success(), "the second fork is refused: {status}");
    assert_eq!(group.pids().expect("listed").len(), 1, "the first sleep is still in it");
    group.kill_all().expect("killed");
    assert_eq!(group.pids().expect("listed"), []);
    let path = group.path();
    group.remove().expect("removed");
    group.remove().expect("twice is no error");
    assert!(!path.exists() && !path.parent().expect("a parent").exists());
    shell.signal(Signal::KILL).expect("a signal to one that is gone is no error");
}
