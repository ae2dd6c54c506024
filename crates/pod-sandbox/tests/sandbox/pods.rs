//! What a pod is, seen from inside and outside.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::process::Command;
use std::time::Duration;

use kernel_io::process::Signal;
use pod_sandbox::{Limits, Network, PidSharing, SandboxSpec, run, steps};

use crate::world::{Traces, connects, linux, made, node, said, shell, soon, spec};

fn sleep() -> Command {
    let mut command = Command::new("sleep");
    command.arg("60");
    command
}

/// The names of all processes that /proc shows, without starting another one.
const NAMES: &str = "for p in /proc/[0-9]*; do read -r name < $p/comm; printf '%s ' $name; done";

#[test]
fn pods_reach_each_other_and_the_node_at_once_in_both_families() {
    let node = node();
    let (one, two) = (made(&node, &spec(2)), made(&node, &spec(3)));
    let (one_net, two_net) = (one.netns().expect("its own"), two.netns().expect("its own"));
    connects(one_net, two_net, "10.1.0.3:80");
    connects(two_net, one_net, "[fd00:1::2]:80");
    connects(&node, one_net, "10.1.0.2:80");
    connects(&node, two_net, "[fd00:1::3]:80");
}

#[test]
fn processes_of_a_pod_share_what_they_should() {
    let node = node();
    let pod = made(&node, &spec(2));
    let server = pod.join(sleep()).expect("joined").process;
    assert_eq!(said(&pod, "hostname"), "pod-2\n");
    assert_eq!(said(&pod, "cat /proc/1/comm"), "pause\n");
    assert_eq!(said(&pod, NAMES), "pause sleep sh ");
    for kind in ["net", "ipc", "uts", "pid", "mnt"] {
        let link = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("read");
        assert_eq!(link(server.pid()), link(pod.pause().expect("it runs").pid()), "{kind}");
    }
    let mut expected = vec![pod.pause().expect("it runs").pid(), server.pid()];
    expected.sort_unstable();
    assert_eq!(pod.processes().expect("listed"), expected);
}

#[test]
fn localhost_is_the_pods_own() {
    let node = node();
    let (one, two) = (made(&node, &spec(2)), made(&node, &spec(3)));
    let net = one.netns().expect("its own");
    connects(net, net, "127.0.0.1:8080");
    connects(net, net, "[::1]:8080");
    let refused = two.netns().expect("its own").run(|| std::net::TcpStream::connect("127.0.0.1:8080"));
    refused.expect("entered").expect_err("nobody listens in the other pod");
}

#[test]
fn an_orphan_is_reaped_by_pause() {
    let node = node();
    let pod = made(&node, &spec(2));
    said(&pod, "(sleep 0.05 &) ; exit 0");
    let only_pause = || pod.processes().is_ok_and(|pids| pids == [pod.pause().expect("it runs").pid()]);
    soon("the orphan goes", only_pause);
    assert_eq!(said(&pod, "grep -l '^State:.Z' /proc/[0-9]*/status || true"), "");
}

#[test]
fn killing_pause_from_outside_ends_the_whole_pod() {
    let node = node();
    let pod = made(&node, &spec(2));
    let server = pod.join(sleep()).expect("joined").process;
    assert_eq!(pod.ended(), None);
    pod.pause().expect("it runs").signal(Signal::KILL).expect("killed");
    assert!(server.wait_for(Duration::from_secs(10)).is_some(), "the server ends with it");
    soon("the sandbox notices", || pod.ended().is_some());
    pod.join(sleep()).expect_err("nobody can join any more");
}

#[test]
fn killing_pause_from_inside_does_nothing() {
    let node = node();
    let pod = made(&node, &spec(2));
    said(&pod, "kill -KILL 1");
    assert_eq!(pod.pause().expect("it runs").wait_for(Duration::from_millis(100)), None);
}

#[test]
fn a_pod_may_not_start_more_processes_than_its_limit() {
    let node = node();
    let limits = Limits { memory: Some(64 << 20), pids: Some(4) };
    let pod = made(&node, &SandboxSpec { limits, ..spec(2) });
    // Pause, the shell and two sleeps are four.
    let greedy = pod.join(shell("sleep 60 & sleep 60 & sleep 60 & wait")).expect("joined").process;
    assert!(!greedy.wait().success());
}

#[test]
fn a_pod_that_takes_too_much_memory_is_stopped() {
    let node = node();
    let limits = Limits { memory: Some(32 << 20), pids: None };
    let pod = made(&node, &SandboxSpec { limits, ..spec(2) });
    let script = "x=$(head -c 128M /dev/zero | tr '\\0' x); echo survived";
    let greedy = pod.join(shell(script)).expect("joined").process;
    assert!(!greedy.wait().success());
}

#[test]
fn containers_with_their_own_processes_do_not_see_each_other() {
    let node = node();
    let pod = made(&node, &SandboxSpec { pids: PidSharing::Container, ..spec(2) });
    let other = pod.join(sleep()).expect("joined").process;
    assert_eq!(said(&pod, NAMES), "sh ");
    assert_eq!(said(&pod, "hostname"), "pod-2\n");
    pod.pause().expect("it runs").signal(Signal::KILL).expect("killed");
    assert_eq!(other.wait_for(Duration::from_millis(100)), None, "it lives on until the pod is removed");
    drop(pod);
    assert!(other.wait_for(Duration::from_secs(10)).is_some());
}

#[test]
fn a_pod_on_the_nodes_network_has_no_links_of_its_own() {
    let node = node();
    let host = SandboxSpec { network: Network::Node, pids: PidSharing::Node, ..spec(2) };
    let mut traces = Traces::named(&host);
    let mut pod = made(&node, &host);
    assert_eq!(pod.netns().expect("the node's"), &node);
    let inside = pod.join(sleep()).expect("joined").process;
    traces.note(pod.pause().expect("it runs").pid());
    traces.note(inside.pid());
    pod.remove().expect("removed");
    assert!(inside.wait_for(Duration::from_secs(10)).is_some());
    drop((pod, inside));
}

#[test]
fn settings_are_the_pods_own_or_refused() {
    let node = node();
    let with = |name: &str, value: &str| SandboxSpec {
        sysctls: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..spec(2)
    };
    let pod = made(&node, &with("net.ipv4.ip_unprivileged_port_start", "77"));
    assert_eq!(said(&pod, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "77\n");
    drop(pod);
    let pod = made(&node, &with("kernel/shm_rmid_forced", "1"));
    assert_eq!(said(&pod, "cat /proc/sys/kernel/shm_rmid_forced"), "1\n");
    drop(pod);
    let of_the_machine = with("vm.swappiness", "1");
    let on_the_node = SandboxSpec { network: Network::Node, ..with("net.ipv4.ip_forward", "0") };
    for spec in [of_the_machine, on_the_node] {
        let error = run(steps(&spec), linux(&node)).map(drop).expect_err("not the pod's own");
        assert!(error.source().is_some_and(|cause| cause.to_string().ends_with("is not the pod's own")));
    }
}

#[test]
fn a_removed_pod_leaves_nothing_behind_and_a_dropped_one_neither() {
    let node = node();
    for remove in [true, false] {
        let spec = spec(2);
        let mut traces = Traces::named(&spec);
        let mut pod = made(&node, &spec);
        traces.note(pod.pause().expect("it runs").pid());
        // A process that nobody waits for must not hold the pod up.
        let forgotten = pod.join(sleep()).expect("joined");
        traces.note(forgotten.process.pid());
        if remove {
            pod.remove().expect("removed");
        }
        drop(pod);
        traces.assert_gone(&node);
    }
}

#[test]
fn a_pod_whose_pause_was_killed_is_removed_without_an_error() {
    let node = node();
    let spec = spec(2);
    let mut traces = Traces::named(&spec);
    let mut pod = made(&node, &spec);
    traces.note(pod.pause().expect("it runs").pid());
    pod.pause().expect("it runs").signal(Signal::KILL).expect("killed");
    pod.remove().expect("removed");
    traces.assert_gone(&node);
}

#[test]
fn the_same_name_cannot_be_used_twice_at_once() {
    let node = node();
    let spec = spec(2);
    let first = made(&node, &spec);
    let error = run(steps(&spec), linux(&node)).map(drop).expect_err("in use");
    assert!(error.to_string().starts_with("make cgroup fairlead/test-"), "{error}");
    assert!(error.source().is_some_and(|cause| cause.to_string().ends_with("is in use")));
    assert!(first.ended().is_none(), "the first is unharmed");
}
