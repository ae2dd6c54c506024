//! Whoever dies, no pod is lost.

use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world::{World, lives, pod};

const COUNT: &str = "command: [sh, -c, 'trap \"echo bye; exit 0\" TERM; n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done']";

fn kill(pid: &Value) {
    let pid =
        pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("a process");
    let _ = kill_process(pid, Signal::KILL); // it may have ended
}

#[test]
fn a_container_outlives_its_holder_and_loses_no_line() {
    let world = World::new();
    world.run(&format!("{{containers: [{{name: a, image: IMAGE, {COUNT}}}]}}"));
    let (status, before) = (world.status("p"), world.container("a"));
    kill(&status["holder"]);
    thread::sleep(Duration::from_millis(300));
    assert!(lives(&before["state"]["running"]["pid"]));
    let output = world.pod(&["list"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(told, "pod default/p: its holder had died; another goes on with it\n");
    let after = world.container("a");
    assert_eq!(after["state"]["running"]["pid"], before["state"]["running"]["pid"]);
    assert_ne!(world.status("p")["holder"], status["holder"]);
    let count = |text: &str| text.lines().filter_map(|line| line.parse::<u32>().ok()).collect::<Vec<_>>();
    let seen = count(&world.good(&["logs", "p"])).len();
    world.eventually(
        || Some(()).filter(|()| count(&world.good(&["logs", "p"])).len() > seen + 3),
        || "the log does not grow".to_owned(),
    );
    world.good(&["stop", "p"]);
    let log = world.good(&["logs", "p"]);
    let numbers = count(&log);
    assert!(numbers.iter().copied().eq(1..=u32::try_from(numbers.len()).expect("few")), "{numbers:?}");
    assert!(log.ends_with("bye\n"), "{log}");
    world.finish(&["p"]);
}

#[test]
fn a_container_that_ended_while_nobody_held_the_pod_is_started_again() {
    let world = World::new();
    world.run(&format!("{{containers: [{{name: a, image: IMAGE, {COUNT}}}]}}"));
    let (status, before) = (world.status("p"), world.container("a"));
    kill(&status["holder"]);
    kill(&before["state"]["running"]["pid"]);
    let after = world.await_container("a", |one| one["restarts"] == 1 && one["ready"] == true);
    assert_eq!(after["last"]["reason"], "ContainerStatusUnknown");
    world.finish(&["p"]);
}

#[test]
fn a_holder_that_is_killed_at_any_moment_leaves_a_pod_that_can_be_had_or_removed() {
    let world = World::new();
    let spec = format!(
        "{{initContainers: [{{name: i, image: IMAGE, command: ['true']}}], containers: [{{name: a, image: IMAGE, {COUNT}}}]}}"
    );
    let path = world.manifest(&pod("p", &spec));
    for delay in [0, 5, 20, 40, 80, 120] {
        let mut run = world.spawn(&["run", "-f", &path]);
        let status = world.eventually(
            || {
                let text = std::fs::read(world.root().join("pods/default_p/status.json")).ok()?;
                serde_json::from_slice::<Value>(&text).ok().filter(|status| status["holder"] != run.id())
            },
            || "no holder".to_owned(),
        );
        thread::sleep(Duration::from_millis(delay));
        kill(&status["holder"]);
        let _ = run.kill();
        run.wait().expect("reaped");
        world.await_container("a", |one| one["ready"] == true);
        world.good(&["rm", "-f", "p"]);
    }
    world.finish(&[]);
}

#[test]
fn run_that_is_killed_leaves_the_pod_running() {
    let world = World::new();
    let path = world.manifest(&pod("p", &format!("{{containers: [{{name: a, image: IMAGE, {COUNT}}}]}}")));
    let mut run = world.spawn(&["run", "--attach", "-f", &path]);
    world.eventually(
        || world.pod(&["inspect", "p"]).status.success().then_some(()),
        || "there is no pod".to_owned(),
    );
    run.kill().expect("killed");
    run.wait().expect("reaped");
    world.await_container("a", |one| one["ready"] == true);
    world.finish(&["p"]);
}
