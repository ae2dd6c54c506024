//! `pause` as it ships, on the real kernel. As root: it must be PID 1 here, and nobody there.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};

#[path = "programs/first_process.rs"]
mod first_process;

use first_process::{built, field, first_process, within};

const TERMINATED: &str = "Shutting down, got signal: Terminated\n";
const NOT_FIRST: &str = "Warning: pause should be the first process\n";

#[test]
fn the_version_is_asked_for_in_any_case_and_anywhere() {
    let version = format!("pause.c v3.10.2-fairlead-{}\n", env!("CARGO_PKG_VERSION"));
    for arguments in [&["-v"][..], &["-V"], &["-x", "-v"], &["", "-V", "--"], &["-v", "-v"]] {
        let asked = Command::new(pause()).args(arguments).output().expect("start pause");
        assert_eq!(String::from_utf8_lossy(&asked.stdout), version, "{arguments:?}");
        assert_eq!((asked.status.code(), asked.stderr.as_slice()), (Some(0), &b""[..]), "{arguments:?}");
    }
}

#[test]
fn other_arguments_are_ignored() {
    for arguments in [&["-vv"][..], &["v"], &["--v"], &["-", ""], &["-h"], &["-v "]] {
        let held = Held::start(Command::new(pause()).args(arguments));
        assert_eq!(held.end(Signal::TERM), (Some(0), [NOT_FIRST, TERMINATED].concat()), "{arguments:?}");
    }
}

#[test]
fn int_and_term_say_their_name_and_end_it() {
    let rows = [(Signal::INT, "Shutting down, got signal: Interrupt\n"), (Signal::TERM, TERMINATED)];
    for (signal, farewell) in rows {
        assert_eq!(
            Held::start(&mut Command::new(pause())).end(signal),
            (Some(0), [NOT_FIRST, farewell].concat())
        );
        assert_eq!(Held::start(first_process().arg(pause())).end(signal), (Some(0), farewell.to_owned()));
    }
}

#[test]
fn ten_thousand_orphans_leave_no_zombie() {
    let held = Held::start(first_process().arg(pause()));
    let before = held.children_faults();
    let orphans = "count=0; while [ $count -lt 10000 ]; do (true &); count=$((count + 1)); done";
    assert!(held.inside(orphans).success());

    within("no orphan is left", || held.processes() == ["1 S"]);
    // Every child that is reaped brings at least one page fault with it: so they were pause's, and pause reaped them.
    assert!(held.children_faults() - before >= 10_000);
    assert_eq!(held.end(Signal::TERM), (Some(0), TERMINATED.to_owned()));
}

#[test]
fn a_child_that_died_before_the_handlers_is_reaped() {
    // In Perl: a shell would reap it by itself.
    let zombie_then_pause = r#"
        my $child = fork;
        exit unless $child;
        do { open STAT, "/proc/$child/stat"; $about = <STAT> } until $about =~ /\) Z /;
        exec @ARGV;"#;
    let held = Held::start(first_process().args(["perl", "-e", zombie_then_pause]).arg(pause()));
    within("the zombie is reaped", || held.processes() == ["1 S"]);
    assert_eq!(held.end(Signal::TERM), (Some(0), TERMINATED.to_owned()));
}

#[test]
fn from_inside_only_int_and_term_end_it() {
    let held = Held::start(first_process().arg(pause()));
    for signal in ["KILL", "STOP", "HUP", "QUIT", "USR1", "SEGV", "CHLD"] {
        assert!(held.inside(&format!("kill -{signal} 1")).success(), "{signal}");
        within(&format!("it sleeps again after {signal}"), || held.processes() == ["1 S"]);
    }
    held.inside("kill -TERM 1"); // and who sends it ends with the namespace
    assert_eq!(held.ended(), (Some(0), TERMINATED.to_owned()));
}

#[test]
fn killed_from_outside_it_takes_its_namespace_along() {
    let held = Held::start(first_process().arg(pause()));
    let mut companion = held.enter().args(["sleep", "1000"]).spawn().expect("start nsenter");
    within("the companion is there", || held.processes().len() == 2);
    kill_process(held.pid, Signal::KILL).expect("kill pause");
    within("the companion is gone", || companion.try_wait().expect("wait").is_some());
}

#[test]
fn it_needs_no_stdio() {
    let closed = r#"exec "$0" "$@" <&- >&- 2>&-"#;
    let null = r#"exec "$0" "$@" < /dev/null > /dev/null 2> /dev/null"#;
    for stdio in [closed, null] {
        let mut command = Command::new("sh");
        command.args(["-c", stdio]).arg(pause());
        assert_eq!(Held::start(&mut command).end(Signal::TERM), (Some(0), String::new()), "{stdio}");
        let asked = command.arg("-v").status().expect("start sh");
        assert_eq!(asked.code(), Some(0), "{stdio}");
    }
}

#[test]
fn it_needs_no_file_no_user_and_no_privilege() {
    let root = tempfile::tempdir().expect("make a folder");
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("open it to nobody");
    fs::copy(pause(), root.path().join("pause")).expect("copy pause");
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "unshare", "--pid", "--fork", "--kill-child", "--root"]).arg(root.path());
    let held = Held::start(command.args(["--setgid", "65535", "--setuid", "65535", "/pause"]));
    let about = [("Uid", "65535"), ("Gid", "65535"), ("NoNewPrivs", "1"), ("CapEff", "0000000000000000")];
    for (field, value) in about {
        assert_eq!(held.about(field), value, "{field}");
    }
    assert_eq!(held.end(Signal::TERM), (Some(0), TERMINATED.to_owned()));
}

#[test]
fn it_is_one_page_of_file_and_four_of_memory() {
    let size = fs::metadata(pause()).expect("pause").len();
    assert!(size <= 4096, "{size} bytes");
    // Without an environment: what a caller leaves on the stack is the caller's.
    let held = Held::start(first_process().args(["env", "-i"]).arg(pause()));
    let exact = fs::read_to_string(format!("/proc/{}/smaps_rollup", held.pid)).expect("read smaps_rollup");
    for (source, memory) in [("VmRSS", held.about("VmRSS")), ("Rss", field(&exact, "Rss"))] {
        assert!(memory.parse::<u64>().expect("a number of kB") <= 16, "{source}: {memory} kB");
    }
}

#[test]
fn fairlead_carries_the_one_that_ships() {
    assert!(pod_sandbox::PAUSE == fs::read(pause()).expect("read pause"));
}

#[test]
fn it_makes_only_calls_that_every_runtime_allows() {
    let folder = tempfile::tempdir().expect("make a folder");
    let trace = folder.path().join("trace");
    let held = Held::start(Command::new("strace").arg("-o").arg(&trace).arg(pause()));
    kill_process(held.pid, Signal::CHILD).expect("signal pause");
    let read = || fs::read_to_string(&trace).expect("read the trace");
    within("the handler has returned", || read().contains("rt_sigreturn"));
    assert_eq!(held.end(Signal::TERM).0, Some(0));

    let trace = read();
    let called: BTreeSet<&str> = trace.lines().filter_map(|line| Some(line.split_once('(')?.0)).collect();
    let allowed =
        ["execve", "exit_group", "getpid", "ppoll", "rt_sigaction", "rt_sigreturn", "wait4", "write"];
    assert_eq!(called, BTreeSet::from(allowed));
    assert!(trace.contains("SA_NOCLDSTOP"), "a stopped child is no dead child: {trace}");
}

#[test]
fn a_refused_call_ends_it_with_its_own_code() {
    let never_woken = [NOT_FIRST, "Error: infinite loop terminated\n"].concat();
    let rows = [
        ("rt_sigaction:error=EINVAL:when=1", 1, NOT_FIRST),
        ("rt_sigaction:error=EINVAL:when=2", 2, NOT_FIRST),
        ("rt_sigaction:error=EINVAL:when=3", 3, NOT_FIRST),
        ("ppoll:error=EPERM", 42, &never_woken),
    ];
    for (fault, code, says) in rows {
        let inject = format!("inject={fault}");
        let mut strace = Command::new("strace");
        let ended =
            strace.args(["-o", "/dev/null", "-e", &inject]).arg(pause()).output().expect("start strace");
        assert_eq!(
            (ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()),
            (Some(code), says),
            "{fault}"
        );
    }
}

/// The artefact, built once.
fn pause() -> &'static Path {
    static PAUSE: OnceLock<PathBuf> = OnceLock::new();
    PAUSE.get_or_init(|| built("pause"))
}

/// A pause that sleeps with its handlers in place; ended when dropped.
struct Held {
    /// Itself, or what started it.
    started: Child,
    pid: Pid,
}

impl Held {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = command.spawn().expect("start pause, or what starts it; as root");
        let pid = Pid::from_child(&started);
        let mut held = Self { started, pid };
        within("pause sleeps", || {
            assert_eq!(held.started.try_wait().expect("wait"), None, "it ended");
            let Some(pid) = pause_below(held.started.id()) else { return false };
            held.pid = pid;
            true
        });
        held
    }

    /// Sends a signal; how it ends, and what it said to the end.
    fn end(self, signal: Signal) -> (Option<i32>, String) {
        kill_process(self.pid, signal).expect("signal pause");
        self.ended()
    }

    fn ended(mut self) -> (Option<i32>, String) {
        within("pause ends", || self.started.try_wait().expect("wait").is_some());
        let status = self.started.wait().expect("wait");
        let mut said = String::new();
        let (stdout, stderr) = (self.started.stdout.take(), self.started.stderr.take());
        stdout.expect("it is piped").read_to_string(&mut said).expect("read what it printed");
        assert_eq!(said, "", "on stdout");
        stderr.expect("it is piped").read_to_string(&mut said).expect("read what it said");
        (status.code(), said)
    }

    /// A field of its status, without the unit.
    fn about(&self, name: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("read its status");
        field(&status, name)
    }

    /// The page faults of the children that it has reaped.
    fn children_faults(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("read its stat");
        let (_, after_name) = stat.rsplit_once(") ").expect("a name");
        after_name.split(' ').nth(8).and_then(|field| field.parse().ok()).expect("a number")
    }

    /// Every process of its PID namespace with its state, as its own `/proc` shows them.
    fn processes(&self) -> Vec<String> {
        let folder = fs::read_dir(format!("/proc/{}/root/proc", self.pid)).expect("read its /proc");
        let process = |entry: std::io::Result<fs::DirEntry>| {
            let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
            let (pid, state) = (stat.split(' ').next()?, stat.rsplit_once(") ")?.1.get(..1)?);
            pid.parse::<u32>().ok().map(|pid| format!("{pid} {state}"))
        };
        folder.filter_map(process).collect()
    }

    /// What runs a program in its namespaces.
    fn enter(&self) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--pid", "--mount", "--target", &self.pid.to_string()]);
        nsenter
    }

    fn inside(&self, script: &str) -> ExitStatus {
        self.enter().args(["sh", "-c", script]).status().expect("start nsenter")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.started.try_wait().is_ok_and(|ended| ended.is_none()) {
            kill_process(self.pid, Signal::KILL).ok();
            self.started.kill().ok();
            self.started.wait().ok();
        }
    }
}

/// The pause that a process is, or has started, once its handlers are in place and it sleeps.
fn pause_below(process: u32) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    if field(&status, "Name") == "pause" {
        let int_term_and_chld = "0000000000014002";
        let sleeps = field(&status, "SigCgt") == int_term_and_chld && field(&status, "State") == "S";
        return Pid::from_raw(i32::try_from(process).ok()?).filter(|_| sleeps);
    }
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().find_map(|child| pause_below(child.parse().ok()?))
}
