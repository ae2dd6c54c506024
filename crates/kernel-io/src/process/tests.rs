//! Needs root: starts processes in namespaces of their own, and ends them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Launch, Process, ProcessError, Signal, Started};
use crate::namespaces::{Namespace, Namespaces};
use crate::netns::Netns;

const ALL: [Namespace; 5] =
    [Namespace::Net, Namespace::Ipc, Namespace::Uts, Namespace::Pid, Namespace::Mount];

fn sleep() -> Command {
    let mut command = Command::new("sleep");
    command.arg("60");
    command
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdout(Stdio::piped());
    command
}

fn pod() -> Process {
    Launch::new(sleep()).in_new(&ALL).with_own_proc().dying_with_us().start().expect("started").process
}

fn inside(pod: &Process, command: Command) -> Started {
    let namespaces = Namespaces::of_process(pod.pid(), &ALL).expect("its namespaces");
    Launch::new(command).joining(namespaces).dying_with_us().start().expect("started")
}

fn output(started: Started) -> String {
    let mut text = String::new();
    started.stdout.expect("piped").read_to_string(&mut text).expect("read");
    assert!(started.process.wait().success());
    text
}

fn end(process: &Process) {
    process.signal(Signal::KILL).expect("killed");
    process.wait_for(Duration::from_secs(10)).expect("it ends");
}

#[test]
fn a_pod_has_namespaces_of_its_own_and_ours_stay() {
    let ours = Netns::current().expect("ours");
    let pod = pod();
    for kind in ["net", "ipc", "uts", "pid", "mnt"] {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("read");
        assert_ne!(link(&pod.pid().to_string()), link("self"), "{kind}");
    }
    assert_eq!(Netns::current().expect("ours"), ours);
    end(&pod);
}

#[test]
fn a_joined_process_sees_the_pod_only() {
    let pod = pod();
    let text = output(inside(
        &pod,
        shell("cat /proc/1/comm; readlink /proc/self/ns/net; ls /proc | grep -c '^[0-9]'"),
    ));
    let net = fs::read_link(format!("/proc/{}/ns/net", pod.pid())).expect("read");
    // Process 1, the shell, ls and grep.
    assert_eq!(text, format!("sleep\n{}\n4\n", net.display()));
    end(&pod);
}

#[test]
fn the_end_of_process_one_ends_all_that_joined() {
    let pod = pod();
    let joined = [inside(&pod, sleep()).process, inside(&pod, sleep()).process];
    end(&pod);
    for process in joined {
        assert!(process.wait_for(Duration::from_secs(10)).is_some(), "it ended with the pod");
    }
}

#[test]
fn how_a_process_ended_is_kept_for_whoever_asks() {
    let process = Launch::new(shell("exit 7")).start().expect("started").process;
    let clone = process.clone();
    assert_eq!(process.wait().code(), Some(7));
    assert_eq!(clone.ended().and_then(|status| status.code()), Some(7));
    process.signal(Signal::TERM).expect("a signal to one that is gone is no error");
}

#[test]
fn a_running_process_is_not_waited_for_past_the_limit() {
    let process = Launch::new(sleep()).dying_with_us().start().expect("started").process;
    assert_eq!(process.wait_for(Duration::from_millis(20)), None);
    assert_eq!(process.ended(), None);
    end(&process);
}

#[test]
fn a_process_outlives_the_thread_that_asked_for_it() {
    let asked = std::thread::spawn(|| Launch::new(sleep()).dying_with_us().start().expect("started").process);
    let process = asked.join().expect("no panic");
    assert_eq!(process.wait_for(Duration::from_millis(50)), None);
    end(&process);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let error = Launch::new(Command::new("/no/such/program")).in_new(&ALL).start().expect_err("not there");
    assert!(matches!(error, ProcessError::Start { .. }));
    assert_eq!(error.to_string(), "start /no/such/program");
}

#[test]
fn a_session_of_its_own_keeps_the_terminal_away() {
    let process = Launch::new(sleep()).in_own_session().dying_with_us().start().expect("started").process;
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid())).expect("read");
    let session = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(3)).map(str::to_owned);
    assert_eq!(session, Some(process.pid().to_string()));
    end(&process);
}

/// Says the number of a pod and waits to be killed, if the next test has started it; else it does nothing.
#[test]
fn helper_that_holds_a_pod() {
    if std::env::var_os(HELPER).is_some() {
        println!("pod {}", pod().pid());
        std::thread::sleep(Duration::from_mins(1));
    }
}

const HELPER: &str = "KERNEL_IO_TEST_HOLDS_A_POD";

#[test]
fn a_pod_dies_with_us_however_we_end() {
    let mut us = Command::new(std::env::current_exe().expect("our name"))
        .args(["process::tests::helper_that_holds_a_pod", "--exact", "--nocapture"])
        .env(HELPER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(us.stdout.take().expect("piped")).lines();
    let said =
        lines.map_while(Result::ok).find_map(|line| line.split_once("pod ").map(|(_, pid)| pid.to_owned()));
    us.kill().expect("killed");
    us.wait().expect("reaped");
    let pod = format!("/proc/{}/ns/net", said.expect("it says the number"));
    let gone = || fs::read_link(&pod).is_err();
    assert!(
        (0..1000).any(|_| gone() || {
            std::thread::sleep(Duration::from_millis(5));
            false
        }),
        "{pod} lives"
    );
}
