//! What cannot be is told in one line.

use crate::stage::Stage;
use crate::world::{WEB, World};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_scheduler_that_is_not_there_is_named", no_scheduler),
    ("without_root_it_says_that_it_may_not", no_permission),
    ("an_excluded_range_that_overlaps_is_told_once", overlap),
];

fn no_scheduler() {
    let stage = Stage::with_example();
    let line = stage.proxy(&["--once", "--proxy-mode", "ipvs", "--ipvs-scheduler", "nonsense"]).one_line(1);
    assert_eq!(
        line,
        "error: the kernel has no IPVS scheduler \"nonsense\"; load the module ip_vs_nonsense, or choose another"
    );
}

fn no_permission() {
    let stage = Stage::with_example();
    let line = stage.proxy_of_nobody(&["--once", "--proxy-mode", "ipvs"]).one_line(1);
    assert_eq!(line, "error: ipset: permission denied; sets of addresses need root or CAP_NET_ADMIN");
}

fn overlap() {
    let world = World::with_web(&[]);
    let arguments = ["--once", "--proxy-mode", "ipvs", "--ipvs-exclude-cidrs", "203.0.113.0/24,10.96.0.0/24"];
    let words = ["Service default/web", "10.96.0.10", "10.96.0.0/24"];
    world.stage.proxy(&arguments).success().line_with(&words);
    // What is there is taken for what is wanted, however often it starts.
    world.stage.proxy(&arguments).success().line_with(&words);
    let there = || world.servers().contains_key(&format!("TCP {WEB}"));
    assert!(there());
    world.stage.remove("service.yaml");
    world.stage.proxy(&arguments).success();
    assert!(there(), "it is not ours to remove");
}
