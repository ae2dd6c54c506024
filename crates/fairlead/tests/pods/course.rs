//! From the first container to the last.

use std::io::Write as _;
use std::process::Stdio;

use crate::world::{World, pod, text};

const SLEEP: &str =
    "command: [sh, -c, 'trap \"echo bye; exit 0\" TERM; echo up; while :; do sleep 0.1; done']";

#[test]
fn init_containers_run_in_order_and_sidecars_beside_all_that_follow() {
    let world = World::new();
    let mount = "volumeMounts: [{name: v, mountPath: /v}]";
    world.run(&format!(
        "{{restartPolicy: Never, volumes: [{{name: v}}], initContainers: [
            {{name: one, image: IMAGE, command: [sh, -c, 'echo one >> /v/order'], {mount}}},
            {{name: side, image: IMAGE, restartPolicy: Always, startupProbe: {{exec: {{command: [test, -e, /v/side]}}, periodSeconds: 1}},
              command: [sh, -c, 'trap \"cat /v/order; exit 0\" TERM; sleep 0.3; echo side >> /v/order; touch /v/side; while :; do sleep 0.1; done'], {mount}}},
            {{name: two, image: IMAGE, command: [sh, -c, 'echo two >> /v/order'], {mount}}}],
          containers: [{{name: main, image: IMAGE, command: [sh, -c, 'echo main >> /v/order; cat /v/order'], {mount}}}]}}"
    ));
    let status = world.await_phase("Succeeded");
    assert_eq!(world.good(&["logs", "p", "-c", "main"]), "one\nside\ntwo\nmain\n");
    assert_eq!(
        world.good(&["logs", "p", "-c", "side"]),
        "one\nside\ntwo\nmain\n",
        "it ended after the others"
    );
    assert_eq!(status["containers"][0]["state"]["terminated"]["reason"], "Completed");
    assert_eq!(world.good(&["list"]).lines().nth(1).map(|line| line.contains("Succeeded")), Some(true));
    world.finish(&["p"]);
}

#[test]
fn an_init_container_that_fails_for_good_fails_the_pod() {
    let world = World::new();
    let path = world.manifest(&pod(
        "p",
        "{restartPolicy: Never, initContainers: [{name: i, image: IMAGE, command: [sh, -c, 'exit 3']}], containers: [{name: a, image: IMAGE, command: [sleep, '1000']}]}",
    ));
    assert_eq!(
        world.bad(&["run", "-f", &path]),
        "error: pod default/p is not ready: container i ended: Error (3)\n"
    );
    let status = world.status("p");
    assert_eq!(
        (&status["phase"], &status["containers"][1]["state"]["waiting"]["reason"]),
        (&"Failed".into(), &"PodInitializing".into())
    );
    world.finish(&["p"]);
}

#[test]
fn a_container_that_ends_is_started_again_and_its_past_is_kept() {
    let world = World::new();
    world.run(
        "{volumes: [{name: v}], containers: [{name: a, image: IMAGE, volumeMounts: [{name: v, mountPath: /v}],
           command: [sh, -c, 'echo run; test -e /v/second && exec sleep 1000; touch /v/second /own; echo last words > /dev/termination-log; exit 5']}]}",
    );
    let container = world.await_container("a", |one| one["restarts"] == 1 && one["ready"] == true);
    assert_eq!((&container["last"]["exitCode"], &container["last"]["reason"]), (&5.into(), &"Error".into()));
    assert_eq!(container["last"]["message"], "last words");
    assert_eq!(world.good(&["logs", "p"]), "run\nrun\n");
    assert_eq!(
        world.exec("a", "ls /own 2>&1; true"),
        "ls: /own: No such file or directory\n".to_owned(),
        "its files are new"
    );
    world.finish(&["p"]);
}

#[test]
fn a_pod_is_ready_when_its_probes_say_so_and_ends_containers_that_are_unwell() {
    let world = World::new();
    world.run(
        "{terminationGracePeriodSeconds: 1, containers: [
           {name: web, image: IMAGE, ports: [{name: http, containerPort: 80}], command: [sh, -c, 'mkdir /www; sleep 0.5; touch /www/ok; exec httpd -f -p 80 -h /www'],
            readinessProbe: {httpGet: {path: /ok, port: http}, periodSeconds: 1}},
           {name: tcp, image: IMAGE, command: [sh, -c, 'sleep 0.5; exec httpd -f -p 81'], readinessProbe: {tcpSocket: {port: 81}, periodSeconds: 1}},
           {name: live, image: IMAGE, command: [sh, -c, 'touch /fine; exec sleep 1000'],
            livenessProbe: {exec: {command: [test, -e, /fine]}, periodSeconds: 1, failureThreshold: 1}}]}",
    );
    assert_eq!(world.status("p")["ready"], true);
    world.exec("web", "rm /www/ok");
    world.await_container("web", |one| one["ready"] == false);
    assert_eq!(world.status("p")["ready"], false);
    world.exec("live", "rm /fine");
    let live = world.await_container("live", |one| one["restarts"] == 1);
    assert_eq!(live["last"]["exitCode"], 137);
    world.finish(&["p"]);
}

#[test]
fn exec_passes_input_output_and_the_exit_code_on() {
    let world = World::new();
    world.run(&format!(
        "{{containers: [{{name: a, image: IMAGE, {SLEEP}}}, {{name: b, image: IMAGE, {SLEEP}}}]}}"
    ));
    let output = world.pod(&["exec", "p", "-c", "a", "--", "sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout), text(&output.stderr)),
        (Some(42), "out\n".into(), "err\n".into())
    );
    let mut command = world.command(&["exec", "p", "-c", "a", "--", "wc", "-c"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("a pipe").write_all(&vec![b'x'; 100_000]).expect("written");
    assert_eq!(text(&child.wait_with_output().expect("ended").stdout), "100000\n");
    assert_eq!(
        world.bad(&["exec", "p", "--", "true"]),
        "error: pod default/p has containers a, b; say which (-c)\n"
    );
    world.finish(&["p"]);
}

#[test]
fn a_pod_that_is_told_to_stop_has_its_grace_and_no_more() {
    let world = World::new();
    world.run(&format!(
        "{{containers: [{{name: good, image: IMAGE, {SLEEP}, lifecycle: {{preStop: {{exec: {{command: [sh, -c, 'echo hook > /proc/1/fd/1']}}}}}}}},
            {{name: deaf, image: IMAGE, command: [sh, -c, 'trap \"\" TERM; while :; do sleep 0.1; done']}}]}}"
    ));
    let follower = world.spawn(&["logs", "-f", "p", "-c", "good"]);
    world.good(&["stop", "p", "--grace", "2"]);
    let status = world.status("p");
    let ends: Vec<_> = status["containers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["state"]["terminated"]["exitCode"].clone())
        .collect();
    assert_eq!(ends, [0, 137]);
    let followed = follower.wait_with_output().expect("it ends with the pod");
    assert_eq!(text(&followed.stdout), "up\nhook\nbye\n");
    world.finish(&["p"]);
}
