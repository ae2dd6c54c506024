//! What a pod is, seen from inside and outside.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use kernel_io::process::Signal;
use pod_sandbox::{Broken, Network, PidSharing, Resources, Sandbox, SandboxSpec, Whose};

use crate::world::{Traces, World, connects, said, shell, soon, spec};

fn sleep() -> Command {
    let mut command = Command::new("sleep");
    command.arg("60");
    command
}

/// The names of all processes that /proc shows, without starting another one.
const NAMES: &str = "for p in /proc/[0-9]*; do read -r name < $p/comm; printf '%s ' $name; done";

#[test]
fn pods_reach_each_other_and_the_node_at_once_in_both_families() {
    let world = World::new();
    let (one, two) = (world.made(&spec(2)), world.made(&spec(3)));
    let (one_net, two_net) = (one.netns().expect("its own"), two.netns().expect("its own"));
    connects(&one_net, &two_net, "10.1.0.3:80");
    connects(&two_net, &one_net, "[fd00:1::2]:80");
    connects(&world.netns, &one_net, "10.1.0.2:80");
    connects(&world.netns, &two_net, "[fd00:1::3]:80");
}

#[test]
fn processes_of_a_pod_share_what_they_should() {
    let world = World::new();
    let pod = world.made(&spec(2));
    let server = pod.join("main", sleep()).expect("joined").process;
    assert_eq!(said(&pod, "hostname"), "pod-2\n");
    assert_eq!(said(&pod, "cat /proc/1/comm"), "pause\n");
    assert_eq!(said(&pod, NAMES), "pause sleep sh ");
    for kind in ["net", "ipc", "uts", "pid"] {
        let link = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("read");
        assert_eq!(link(server.pid()), link(pod.pause().expect("it runs").pid()), "{kind}");
    }
    let mut expected = vec![pod.pause().expect("it runs").pid(), server.pid()];
    expected.sort_unstable();
    assert_eq!(pod.processes().expect("listed"), expected);
}

#[test]
fn localhost_is_the_pods_own() {
    let world = World::new();
    let (one, two) = (world.made(&spec(2)), world.made(&spec(3)));
    let net = one.netns().expect("its own");
    connects(&net, &net, "127.0.0.1:8080");
    connects(&net, &net, "[::1]:8080");
    let refused = two.netns().expect("its own").run(|| std::net::TcpStream::connect("127.0.0.1:8080"));
    refused.expect("entered").expect_err("nobody listens in the other pod");
}

#[test]
fn an_orphan_is_reaped_by_pause() {
    let world = World::new();
    let pod = world.made(&spec(2));
    said(&pod, "(sleep 0.05 &) ; exit 0");
    let only_pause = || pod.processes().is_ok_and(|pids| pids == [pod.pause().expect("it runs").pid()]);
    soon("the orphan goes", only_pause);
    assert_eq!(said(&pod, "grep -l '^State:.Z' /proc/[0-9]*/status || true"), "");
}

#[test]
fn killing_pause_from_outside_ends_the_whole_pod() {
    let world = World::new();
    let pod = world.made(&spec(2));
    let server = pod.join("main", sleep()).expect("joined").process;
    pod.pause().expect("it runs").signal(Signal::KILL).expect("killed");
    assert!(server.wait_for(Duration::from_secs(10)).is_some(), "the server ends with it");
    soon("the sandbox notices", || pod.broken() == Some(Broken::Pause));
    pod.join("main", sleep()).expect_err("nobody can join any more");
}

#[test]
fn killing_pause_from_inside_does_nothing() {
    let world = World::new();
    let pod = world.made(&spec(2));
    said(&pod, "kill -KILL 1");
    assert!(!pod.pause().expect("it runs").ends_within(Duration::from_millis(100)));
}

#[test]
fn a_pod_may_not_start_more_processes_than_its_limit() {
    let world = World::new();
    let resources = Resources { memory: Some(64 << 20), pids: Some(4), ..Resources::default() };
    let pod = world.made(&SandboxSpec { resources, ..spec(2) });
    // Pause, the shell and two sleeps are four.
    let greedy = pod.join("main", shell("sleep 60 & sleep 60 & sleep 60 & wait")).expect("joined").process;
    assert!(!greedy.wait().success());
}

#[test]
fn a_pod_that_takes_too_much_memory_is_stopped() {
    let world = World::new();
    let resources = Resources { memory: Some(32 << 20), ..Resources::default() };
    let pod = world.made(&SandboxSpec { resources, ..spec(2) });
    let script = "x=$(head -c 128M /dev/zero | tr '\\0' x); echo survived";
    let greedy = pod.join("main", shell(script)).expect("joined").process;
    assert!(!greedy.wait().success());
}

#[test]
fn containers_with_their_own_processes_do_not_see_each_other() {
    let world = World::new();
    let pod = world.made(&SandboxSpec { pids: PidSharing::Container, ..spec(2) });
    let other = pod.join("main", sleep()).expect("joined").process;
    assert_eq!(said(&pod, NAMES), "sh ");
    assert_eq!(said(&pod, "hostname"), "pod-2\n");
    assert!(pod.pause().is_none(), "no process holds such a pod");
    drop(pod);
    assert!(other.wait_for(Duration::from_secs(10)).is_some());
}

#[test]
fn a_pod_on_the_nodes_network_has_no_links_of_its_own() {
    let world = World::new();
    let host = SandboxSpec { network: Network::Node, pids: PidSharing::Node, ..spec(2) };
    let mut traces = Traces::default();
    let mut pod = world.made(&host);
    assert_eq!(pod.netns().expect("the node's"), world.netns);
    assert!(pod.addresses().is_empty());
    let inside = pod.join("main", sleep()).expect("joined").process;
    traces.note(inside.pid());
    pod.remove().expect("removed");
    assert!(inside.wait_for(Duration::from_secs(10)).is_some());
    traces.assert_gone();
    world.assert_empty();
}

#[test]
fn settings_are_the_pods_own_or_refused() {
    let world = World::with(|settings| settings.unsafe_sysctls = vec!["net.core.*".to_owned()]);
    let with = |name: &str, value: &str| SandboxSpec {
        sysctls: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..spec(2)
    };
    for (name, value) in [
        ("net.ipv4.ip_unprivileged_port_start", "77"),
        ("kernel/shm_rmid_forced", "1"),
        ("net.core.somaxconn", "99"),
    ] {
        let pod = world.made(&with(name, value));
        let file = name.replace('.', "/");
        assert_eq!(said(&pod, &format!("cat /proc/sys/{file}")), format!("{value}\n"));
    }
    let on_the_node = SandboxSpec { network: Network::Node, ..with("net.ipv4.tcp_syncookies", "0") };
    for (spec, why) in [
        (with("vm.swappiness", "1"), "is not the pod's own"),
        (with("net.ipv4.ip_forward", "0"), "is not safe, and this node does not allow it"),
        (on_the_node, "the pod has the node's network namespace"),
    ] {
        let error = Sandbox::create(&spec, &world.node).expect_err("refused").to_string();
        assert!(error.contains("spec.securityContext.sysctls") && error.ends_with(why), "{error}");
    }
    world.assert_empty();
}

#[test]
fn a_removed_pod_leaves_nothing_behind() {
    let world = World::new();
    let mut traces = Traces::default();
    let mut pod = world.made(&spec(2));
    traces.note(pod.pause().expect("it runs").pid());
    // A process that nobody waits for must not hold the pod up.
    let forgotten = pod.join("main", sleep()).expect("joined");
    traces.note(forgotten.process.pid());
    pod.remove().expect("removed");
    pod.remove().expect("twice is no error");
    traces.assert_gone();
    world.assert_empty();
}

#[test]
fn a_pod_whose_pause_was_killed_is_removed_without_an_error() {
    let world = World::new();
    let mut traces = Traces::default();
    let mut pod = world.made(&spec(2));
    let pause = pod.pause().expect("it runs");
    traces.note(pause.pid());
    pause.signal(Signal::KILL).expect("killed");
    pod.remove().expect("removed");
    traces.assert_gone();
    world.assert_empty();
}

#[test]
fn the_same_name_cannot_be_used_twice_at_once() {
    let world = World::new();
    let first = world.made(&spec(2));
    let error = Sandbox::create(&spec(2), &world.node).expect_err("in use");
    assert_eq!(error.to_string(), "sandbox pod-2: there is a sandbox pod-2 already");
    assert_eq!(first.broken(), None, "the first is unharmed");
}

#[test]
fn pause_sees_no_file_of_the_node_and_may_do_nothing() {
    let world = World::new();
    let pod = world.made(&spec(2));
    let pid = pod.pause().expect("it runs").pid();
    let files: Vec<_> = fs::read_dir(format!("/proc/{pid}/root")).expect("read").flatten().collect();
    let names: Vec<_> = files.iter().map(fs::DirEntry::file_name).collect();
    assert_eq!(names, ["pause"]);
    let above: Vec<_> = fs::read_dir(format!("/proc/{pid}/root/..")).expect("read").flatten().collect();
    assert_eq!(above.len(), 1, "there is nothing above it");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read");
    for line in ["Uid:\t65535\t65535", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line} in {status}");
    }
}

#[test]
fn root_in_a_pod_with_its_own_users_is_nobody_outside() {
    let world = World::new();
    for pids in [PidSharing::Pod, PidSharing::Container] {
        let pod = world.made(&SandboxSpec { users: Whose::Pod, pids, ..spec(2) });
        let other = world.made(&SandboxSpec { users: Whose::Pod, pids, ..spec(3) });
        let (ids, others) = (pod.ids().expect("its own"), other.ids().expect("its own"));
        assert!(ids.first + ids.count <= others.first || others.first + others.count <= ids.first);
        assert_eq!(said(&pod, "id -u; id -g"), "0\n0\n");
        assert_eq!(said(&pod, "hostname"), "pod-2\n");
        assert_eq!(said(&pod, "readlink /proc/self/ns/user /proc/self/ns/net").lines().count(), 2);
        let sleep = pod.join("main", sleep()).expect("joined").process;
        let owner = fs::metadata(format!("/proc/{}", sleep.pid())).expect("it runs").uid();
        assert_eq!(owner, ids.first, "as the node sees it");
        connects(&world.netns, &pod.netns().expect("its own"), "10.1.0.2:80");
        // It rules over what is its own, and over nothing else.
        assert_eq!(said(&pod, "ip link set lo down && ip link set lo up && echo ruled"), "ruled\n");
        assert_eq!(said(&pod, "kill -0 $$ && mount -t tmpfs none /mnt && echo mounted"), "mounted\n");
        assert_eq!(said(&pod, "echo 1 2>/dev/null >/proc/sys/vm/swappiness || echo refused"), "refused\n");
        assert_eq!(fs::metadata(pod.shm()).expect("there").uid(), ids.first);
    }
    world.assert_empty();
}
