//! The guestbook of the examples: three Services, ten pods, and everything that can happen to them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world::World;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guestbook");

/// A node on which the guestbook is up.
fn guestbook() -> World {
    let world = World::new();
    for entry in fs::read_dir(EXAMPLE).expect("the example").flatten() {
        let (name, path) = (entry.file_name().into_string().expect("text"), entry.path());
        if Path::new(&name).extension().is_some_and(|ending| ending == "yaml") {
            world.write(&name, &fs::read_to_string(path).expect("a manifest"));
        }
    }
    world.up(&[]);
    world
}

fn has_pods(shown: &Value, frontends: usize) -> bool {
    shown["settled"] == true && ready(shown, "frontend").len() == frontends && ready(shown, "api").len() == 3
}

/// The pods of a Deployment that are ready.
fn ready(shown: &Value, deployment: &str) -> BTreeSet<String> {
    let pods = shown["pods"].as_array().into_iter().flatten();
    let own = pods.filter(|pod| pod["deployment"] == deployment && pod["ready"] == true);
    own.filter_map(|pod| pod["name"].as_str()).map(str::to_owned).collect()
}

/// Asks again and again while something is done. Answers what went wrong, and how often it went well.
fn under_a_client<T>(world: &World, work: impl FnOnce() -> T) -> (T, Vec<String>, usize) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (mut wrong, mut good) = (Vec::new(), 0);
            while !over.load(Ordering::Acquire) {
                match world.get("/cgi-bin/guestbook") {
                    Ok(text) if text.contains("Ada was here") => good += 1,
                    Ok(text) => wrong.push(text),
                    Err(error) => wrong.push(error),
                }
            }
            (wrong, good)
        });
        let done = work();
        over.store(true, Ordering::Release);
        let (wrong, good) = client.join().expect("the client ends");
        (done, wrong, good)
    })
}

#[test]
fn the_guestbook_lives_through_kills_scaling_rolls_and_the_end_of_up_and_leaves_nothing() {
    let world = guestbook();
    let first =
        world.await_shown("all is up", |shown| has_pods(shown, 6) && ready(shown, "store").len() == 1);
    assert_eq!(first["services"].as_array().map(Vec::len), Some(3));
    assert_eq!(world.get("/cgi-bin/sign?Ada+was+here").as_deref(), Ok("Ada was here\n"));

    // A container that is killed is started again, and nobody is sent to it meanwhile.
    let pids = world.processes();
    assert_eq!(pids.len(), 10);
    let victim = &ready(&first, "frontend").into_iter().next().expect("a pod");
    let output = world.fairlead(&["pod", "inspect", victim, "-o", "json"]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    kill(&status["containers"][0]["state"]["running"]["pid"]);
    world.await_shown("the pod is back", |shown| {
        let pods = shown["pods"].as_array().into_iter().flatten();
        let back = pods.filter(|pod| pod["name"] == **victim).any(|pod| pod["restarts"] == 1);
        back && has_pods(shown, 6)
    });

    // Scaled and rolled, while a client asks: it is always answered.
    let ((), wrong, good) = under_a_client(&world, || {
        world.edit("frontend.yaml", "replicas: 6", "replicas: 2");
        world.await_shown("there are fewer", |shown| has_pods(shown, 2));
        world.edit(
            "frontend.yaml",
            "- name: httpd",
            "- name: httpd\n        env: [{name: EDITION, value: second}]",
        );
        let before = ready(&world.shown(), "frontend");
        world.await_shown("there are others", |shown| {
            has_pods(shown, 2) && ready(shown, "frontend").is_disjoint(&before)
        });
    });
    assert_eq!(wrong, [""; 0], "{}", world.logged());
    assert!(good > 0);

    // Whoever keeps it in step may be killed.
    let before: BTreeSet<_> = world.processes().into_iter().collect();
    world.signal(Signal::KILL);
    assert!(world.get("/cgi-bin/guestbook").is_ok_and(|text| text.contains("Ada was here")));
    world.edit("api.yaml", "replicas: 3", "replicas: 4");
    let ((), wrong, _) = under_a_client(&world, || {
        world.up(&[]);
        world.await_shown("it goes on", |shown| shown["settled"] == true && ready(shown, "api").len() == 4);
    });
    assert_eq!(wrong, [""; 0], "{}", world.logged());
    let after: BTreeSet<_> = world.processes().into_iter().collect();
    assert!(after.is_superset(&before), "{before:?} {after:?}");

    // A file that goes takes its pods along.
    world.delete("store.yaml");
    world.await_shown("the store is gone", |shown| {
        shown["settled"] == true && ready(shown, "store").is_empty()
    });
    world.down();
    world.assert_empty();
}

fn kill(pid: &Value) {
    let pid =
        pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::KILL).expect("it runs");
}
