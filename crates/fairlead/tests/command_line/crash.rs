//! The proxy is killed at any moment, and the next start makes good.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use crate::stage::{Stage, TOOLS, endpoints, service, was_killed};

const SERVICES: u16 = 40;
const ROUNDS: u32 = 60;

/// One of two clusters: they share no pod, and half of their Services and a third of their addresses, so that each
/// has to be written over the other. Every fifth Service is IPv6.
fn cluster(number: u16) -> String {
    (0..SERVICES).fold(String::new(), |mut text, index| {
        let [address_prefix, pod_prefix] =
            if index % 5 == 4 { ["fd00:96::", "fd00:244::"] } else { ["10.96.0.", "10.244.0."] };
        let name = if index % 2 == 0 { format!("both-{index}") } else { format!("only-{number}-{index}") };
        let node_port =
            if index % 4 == 0 { format!(", nodePort: {}", 30_000 + index) } else { String::new() };
        let address = if index % 3 == 0 { index } else { 100 * number + index };
        let pods: Vec<_> =
            (0..index % 4).map(|pod| format!("{pod_prefix}{}", 120 * number + 3 * index + pod)).collect();
        let pods: Vec<_> = pods.iter().map(String::as_str).collect();
        let service = service(&name, &format!("{address_prefix}{address}"), &node_port);
        write!(text, "{service}{}", endpoints(&name, &pods)).expect("writing to a String cannot fail");
        text
    })
}

fn with_cluster(number: u16) -> Stage {
    let stage = Stage::new();
    stage.write("cluster.yaml", &cluster(number));
    stage
}

/// What a fresh start writes to an empty namespace.
fn fresh() -> Vec<String> {
    let stage = with_cluster(1);
    stage.proxy(&["--once"]).success();
    stage.sorted_rules()
}

/// Ends as a fresh start does, with one undisturbed run.
fn makes_good(stage: &Stage, fresh: &[String], what: &str) {
    stage.write("cluster.yaml", &cluster(1));
    stage.proxy(&["--once"]).success();
    let rules = stage.sorted_rules();
    let missing: Vec<_> = fresh.iter().filter(|line| !rules.contains(line)).collect();
    let left: Vec<_> = rules.iter().filter(|line| !fresh.contains(line)).collect();
    assert!(rules == fresh, "{what}: missing {missing:#?}, left {left:#?}");
}

#[test]
fn killed_at_many_moments_it_ends_as_a_fresh_start() {
    let fresh = fresh();
    let stage = with_cluster(1);
    let start = Instant::now();
    stage.proxy(&["--once"]).success();
    let whole = start.elapsed();
    let mut killed = 0;
    for round in 0..ROUNDS {
        stage.write("cluster.yaml", &cluster(u16::from(round % 2 == 0)));
        let mut command = stage.proxy_command(&["--once"]);
        command.stderr(Stdio::null());
        let mut child = stage.netns.run(move || command.spawn().expect("it starts")).expect("entered");
        thread::sleep(whole * round / ROUNDS);
        // It may have ended already.
        let _ = child.kill();
        killed += u32::from(was_killed(child.wait().expect("a child of ours")));
        if round % 10 == 9 {
            makes_good(&stage, &fresh, &format!("after round {round}"));
        }
    }
    assert!(killed > 0, "no round was cut short");
    makes_good(&stage, &fresh, "in the end");
}

/// Stands for every tool on PATH, and kills whoever calls it when its time has come.
const DEADLY_TOOL: &str = "#!/bin/sh
real=$REAL_TOOLS/${0##*/}
echo >> \"$CALLS\"
[ \"$(wc -l < \"$CALLS\")\" -eq \"$LAST_CALL\" ] || exec \"$real\" \"$@\"
case $KILLS in
    before) ;;
    between) sed /^COMMIT/q | \"$real\" \"$@\" ;;
    after) \"$real\" \"$@\" ;;
esac
kill -9 $PPID
";

/// Puts the deadly tools into a directory of their own.
fn deadly_tools(stage: &Stage) -> PathBuf {
    let directory = stage.directory().join("bin");
    fs::create_dir(&directory).expect("a directory");
    let script = stage.directory().join("deadly-tool");
    fs::write(&script, DEADLY_TOOL).expect("a script");
    // Not by ourselves: what a process holds open for writing while it forks cannot be run.
    stage.tool("install", &["-m", "755", &script.to_string_lossy(), &directory.to_string_lossy()], "");
    for tool in TOOLS {
        for program in [tool.to_owned(), format!("{tool}-save"), format!("{tool}-restore")] {
            symlink("deadly-tool", directory.join(program)).expect("a link");
        }
    }
    directory
}

/// The directory that iptables is installed in.
fn real_tools() -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    let found = std::env::split_paths(&path).find(|directory| directory.join("iptables-restore").exists());
    found.expect("iptables is installed")
}

/// Runs once, with tools that kill at a certain call; whether it died of that, or ended before.
fn dies(stage: &Stage, tools: &Path, kills: &str, last_call: u32) -> bool {
    let calls = stage.directory().join("calls");
    fs::write(&calls, "").expect("an empty file");
    let path = std::env::var("PATH").expect("a PATH");
    let mut command = stage.proxy_command(&["--once"]);
    command
        .env("PATH", format!("{}:{path}", tools.display()))
        .env("REAL_TOOLS", real_tools())
        .env("CALLS", calls)
        .env("LAST_CALL", last_call.to_string())
        .env("KILLS", kills);
    let ended = stage.ended(command);
    assert!(was_killed(ended.status) || ended.status.success(), "{kills} call {last_call}: {ended:#?}");
    was_killed(ended.status)
}

/// Dies at the first call of a tool, at the second and so on, until it lives to its end.
fn dies_at_any_call(kills: &str) {
    let fresh = fresh();
    let stage = with_cluster(1);
    stage.proxy(&["--once"]).success();
    let tools = deadly_tools(&stage);
    let survives = |call: &u32| {
        stage.write("cluster.yaml", &cluster(0));
        let died = dies(&stage, &tools, kills, *call);
        makes_good(&stage, &fresh, &format!("{kills} call {call}"));
        !died
    };
    let calls = (1..100).find(survives).expect("it lives to its end") - 1;
    assert!(calls >= 8, "only {calls} calls, but both families are tried, read and written");
}

#[test]
fn killed_before_any_call_of_a_tool_it_ends_as_a_fresh_start() {
    dies_at_any_call("before");
}

#[test]
fn killed_after_any_call_of_a_tool_it_ends_as_a_fresh_start() {
    dies_at_any_call("after");
}

#[test]
fn killed_between_two_tables_it_ends_as_a_fresh_start() {
    dies_at_any_call("between");
}
