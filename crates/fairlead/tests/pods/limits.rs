//! What containers may use. In the second kernel, where all controllers share one tree, these run once more.

use std::fs;
use std::time::Duration;

use second_kernel::Boot;

use crate::world::{World, pod};

#[test]
fn a_container_that_takes_too_much_memory_is_told_from_one_that_was_killed() {
    let world = World::new();
    let path = world.manifest(&pod(
        "p",
        "{restartPolicy: Never, containers: [{name: a, image: IMAGE, resources: {limits: {memory: 24Mi}}, command: [sh, -c, 'exec tail /dev/zero']}]}",
    ));
    world.pod(&["run", "-f", &path]); // it may have been running for an instant
    let status = world.await_phase("Failed");
    let ended = &status["containers"][0]["state"]["terminated"];
    assert!(world.good(&["list"]).contains(" OOMKilled "), "{status}");
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&"OOMKilled".into(), &137.into()), "{status}");
    world.finish(&["p"]);
}

#[test]
fn a_container_has_the_limits_of_its_manifest() {
    let world = World::new();
    world.run("{containers: [{name: a, image: IMAGE, resources: {limits: {memory: 24Mi}}, command: [sleep, '1000']}]}");
    let pid = &world.container("a")["state"]["running"]["pid"];
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let places = groups.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        match line.split_once(':')? {
            ("memory", path) => Some(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")),
            ("", path) => Some(format!("/sys/fs/cgroup{path}/memory.max")),
            _ => None,
        }
    });
    let limits: Vec<_> = places.filter_map(|path| fs::read_to_string(path).ok()).collect();
    assert_eq!(limits, ["25165824\n"], "{groups}");
    world.finish(&["p"]);
}

/// How long the second kernel may take.
const LIMIT: Duration = Duration::from_mins(4);

#[test]
#[ignore = "boots itself: the test of that name runs it"]
fn inside_the_second_kernel() {
    a_container_that_takes_too_much_memory_is_told_from_one_that_was_killed();
    a_container_has_the_limits_of_its_manifest();
}

#[test]
fn limits_hold_with_one_tree_of_cgroups() {
    let program = std::env::current_exe().expect("this program has a path");
    let inside = ["--ignored", "--exact", "limits::inside_the_second_kernel"];
    let ended = Boot::new(program, LIMIT).arguments(inside).run().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ended.status, 0, "{}", ended.output);
    assert!(ended.output.contains("1 passed"), "{}", ended.output);
}
