//! `init` as it ships, beside the programs whose manners it has: the same inputs, and what must come of them. As root.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

#[path = "programs/first_process.rs"]
mod first_process;

use first_process::{built, field, first_process, within};

const NAMES: [&str; 3] = ["tini", "dumb-init", "catatonit"];

/// A Perl program that says which signals it gets, one a line, until SIGQUIT.
const LISTENER: &str = r#"
    use POSIX; $| = 1; $who = shift;
    for my $signal (1..31, 34) {
        next if $signal == 9 or $signal == 19 or $signal == 17;
        my $action = POSIX::SigAction->new(sub { print "$who got $signal\n"; exit 9 if $signal == 3 });
        $action->safe(1);
        POSIX::sigaction($signal, $action);
    }
    POSIX::sigprocmask(SIG_SETMASK, POSIX::SigSet->new());
    print "$who listens\n";
    select undef, undef, undef, 100 while 1;"#;

#[test]
fn exit_codes_and_messages_are_the_same() {
    let rows: [(&str, &[&str], i32); 34] = [
        ("tini", &["true"], 0),
        ("tini", &["--", "sh", "-c", "exit 7"], 7),
        ("tini", &["--", "sh", "-c", "kill -9 $$"], 137),
        ("tini", &["-e", "7", "-e", "143", "--", "sh", "-c", "exit 7"], 0),
        ("tini", &["-e", "7", "-e", "143", "--", "sh", "-c", "kill $$"], 0),
        ("tini", &["-e8", "--", "sh", "-c", "exit 7"], 7),
        ("tini", &["is-not-there"], 127),
        ("tini", &["/etc/passwd"], 126),
        ("tini", &["/etc"], 126),
        ("tini", &[""], 127),
        ("tini", &["-v", "true"], 0),
        ("tini", &["-vv", "--", "sh", "-c", "exit 3"], 3),
        ("tini", &["-vvv", "--", "sh", "-c", "kill -15 $$"], 143),
        ("tini", &["-wg", "--", "sh", "-c", "(sleep 0 &); while kill -0 4; do :; done 2> /dev/null"], 0),
        ("tini", &["-sp", "SIGUSR1", "true"], 0),
        ("dumb-init", &["true"], 0),
        ("dumb-init", &["sh", "-c", "exit 7"], 7),
        ("dumb-init", &["sh", "-c", "kill -9 $$"], 137),
        ("dumb-init", &["--", "sh", "-c", "exit 7"], 7),
        ("dumb-init", &["-c", "sh", "-c", "exit 7"], 7),
        ("dumb-init", &["is-not-there"], 2),
        ("dumb-init", &["/etc/passwd"], 2),
        ("dumb-init", &["-r", "15:2", "-r3:0", "--rewrite=1:1", "--rewrite", "2:3", "true"], 0),
        ("dumb-init", &["--single", "-cv", "true"], 0),
        ("dumb-init", &["--verb", "sh", "-c", "kill -9 $$"], 137),
        ("dumb-init", &["--nothing"], 1),
        ("dumb-init", &["--ver", "true"], 1),
        ("dumb-init", &["-x"], 1),
        ("dumb-init", &["-r"], 1),
        ("catatonit", &["true"], 0),
        ("catatonit", &["--", "sh", "-c", "exit 7"], 7),
        ("catatonit", &["-g", "--", "sh", "-c", "kill -9 $$"], 137),
        ("catatonit", &["is-not-there"], 1),
        ("catatonit", &["/etc/passwd"], 1),
    ];
    for (name, arguments, code) in rows {
        let [ours, theirs] =
            both(|path| finished(first_process().arg(name).args(arguments).env("PATH", path)));
        assert_eq!(ours, theirs, "{name} {arguments:?}");
        assert_eq!(ours.0, Some(code), "{name} {arguments:?}");
    }
}

#[test]
fn wrong_usage_and_questions_end_the_same_on_the_same_stream() {
    let rows: [(&str, &[&str]); 22] = [
        ("tini", &[]),
        ("tini", &["-h"]),
        ("tini", &["--version"]),
        ("tini", &["-l"]),
        ("tini", &["-x"]),
        ("tini", &["-e", "256", "true"]),
        ("tini", &["-e", "1x", "true"]),
        ("tini", &["-p", "SIGNOTHING", "true"]),
        ("tini", &["-p", "TERM", "true"]),
        ("tini", &["-e"]),
        ("dumb-init", &[]),
        ("dumb-init", &["-h"]),
        ("dumb-init", &["--help"]),
        ("dumb-init", &["-V"]),
        ("dumb-init", &["-r", "15", "true"]),
        ("dumb-init", &["-r", "32:1", "true"]),
        ("dumb-init", &["-r", "1:32", "true"]),
        ("catatonit", &[]),
        ("catatonit", &["-h"]),
        ("catatonit", &["-L"]),
        ("catatonit", &["--version"]),
        ("catatonit", &["-x", "true"]),
    ];
    for (name, arguments) in rows {
        let [ours, theirs] =
            both(|path| finished(first_process().arg(name).args(arguments).env("PATH", path)));
        let streams = |told: &Told| (told.0, !told.1.is_empty(), !told.2.is_empty());
        assert_eq!(streams(&ours), streams(&theirs), "{name} {arguments:?}\n{ours:?}\n{theirs:?}");
    }
    let [ours, theirs] = both(|path| finished(first_process().args(["tini", "--version"]).env("PATH", path)));
    assert_eq!(ours.1.get(..19), theirs.1.get(..19), "what asks for the version reads it");
}

#[test]
fn the_environment_counts_as_options() {
    let rows = [
        ("tini", "TINI_VERBOSITY=3"),
        ("tini", "TINI_VERBOSITY=0"),
        ("tini", "TINI_SUBREAPER="),
        ("dumb-init", "DUMB_INIT_DEBUG=1"),
        ("dumb-init", "DUMB_INIT_DEBUG=1 DUMB_INIT_SETSID=0"),
    ];
    for (name, variables) in rows {
        let [ours, theirs] = both(|path| {
            let mut command = first_process();
            command.arg("env").args(variables.split(' ')).args([name, "--", "sh", "-c", "exit 4"]);
            finished(command.env("PATH", path))
        });
        assert_eq!(ours, theirs, "{name} {variables}");
    }
}

#[test]
fn the_child_is_started_in_the_same_state() {
    // Not all by a shell, which unblocks signals.
    let signals = ["grep", "-E", "^Sig[BIC]", "/proc/self/status"];
    let processes = ["sh", "-c", r#"cut -d" " -f4-8 /proc/self/stat; pwd"#];
    for (name, state) in NAMES.iter().flat_map(|name| [(name, &signals[..]), (name, &processes)]) {
        let [ours, theirs] = both(|path| {
            let ignoring = r#"trap "" HUP USR2; cd /usr; exec "$@""#;
            let mut command = first_process();
            command.args(["sh", "-c", ignoring, "sh", name, "--"]).args(state);
            finished(command.env("PATH", path))
        });
        assert_eq!(ours, theirs, "{name} {state:?}");
        assert_eq!(ours.0, Some(0), "{name} {state:?}");
    }
}

#[test]
fn a_script_without_a_shell_named_in_it_runs() {
    let folder = tempfile::tempdir().expect("make a folder");
    let script = folder.path().join("shell-less");
    fs::write(&script, "echo $0 $1 | sed s,.*/,,\nexit 5\n").expect("write");
    Command::new("chmod").arg("755").arg(&script).status().expect("start chmod");
    for name in NAMES {
        let [ours, theirs] = both(|path| {
            let path = format!("{}:{path}", folder.path().display());
            finished(first_process().args([name, "--", "shell-less", "word"]).env("PATH", path))
        });
        assert_eq!(ours, theirs, "{name}");
        assert_eq!((ours.0, ours.1.as_str()), (Some(5), "shell-less word\n"), "{name}");
    }
}

#[test]
fn every_signal_comes_to_the_same_processes() {
    let rows: [(&str, &[&str]); 8] = [
        ("tini", &[]),
        ("tini", &["-g"]),
        ("tini", &["-v", "-v", "-v"]),
        ("dumb-init", &[]),
        ("dumb-init", &["-c"]),
        ("dumb-init", &["-r", "15:10", "-r", "1:0", "-r", "20:12"]),
        ("catatonit", &[]),
        ("catatonit", &["-g"]),
    ];
    for (name, options) in rows {
        let [ours, theirs] = both(|path| heard(name, options, path));
        assert_eq!(ours, theirs, "{name} {options:?}");
        assert!(ours.iter().any(|line| line == "parent got 2"), "{name} {options:?}: {ours:?}");
        let to_group = ours.iter().any(|line| line == "child got 2");
        let wanted = options.contains(&"-g") || name == "dumb-init" && !options.contains(&"-c");
        assert_eq!(to_group, wanted, "{name} {options:?}: {ours:?}");
    }
}

#[test]
fn catatonit_holds_without_a_command() {
    for (signal, code) in [(Signal::INT, Some(0)), (Signal::TERM, Some(0)), (Signal::HUP, None)] {
        let [ours, theirs] = both(|path| {
            let mut started =
                first_process().args(["catatonit", "-P"]).env("PATH", path).spawn().expect("start");
            let pid = waiting_below(&started, "catatonit");
            let orphan = ["--pid", "--mount", "--target", &pid.to_string(), "sh", "-c", "(true &)"];
            assert!(Command::new("nsenter").args(orphan).status().expect("start nsenter").success());
            within("nobody is left", || waits(pid) && children(pid).is_empty());
            kill_process(pid, signal).expect("signal it");
            within("the signal is taken", || {
                waits(pid) || !fs::exists(format!("/proc/{pid}")).unwrap_or(true)
            });
            if code.is_none() {
                assert!(waits(pid), "{signal:?} ended it");
                kill_process(pid, Signal::KILL).expect("kill it");
            }
            started.wait().expect("wait").code()
        });
        assert_eq!(ours, theirs, "{signal:?}");
        assert!(code.is_none() || ours == code, "{signal:?}: {ours:?}");
    }
}

#[test]
fn a_subreaper_warns_of_orphans_and_hears_of_its_parents_end() {
    let script = r#"tini -s -w -p SIGUSR1 -- sh -c '(true &); exec perl -e "$0" listener' "$0" & read wait"#;
    let [ours, theirs] = both(|path| {
        let mut parent = Command::new("sh");
        parent.args(["-c", script, LISTENER]).env("PATH", path);
        let mut parent = parent
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start sh");
        let tini = waiting_below(&parent, "tini");
        let mut out = BufReader::new(parent.stdout.take().expect("it is piped"));
        let mut said = String::new();
        out.read_line(&mut said).expect("read");
        within("the orphan is reaped", || children(tini).len() == 1);
        drop(parent.stdin.take());
        parent.wait().expect("wait");
        out.read_line(&mut said).expect("read");
        kill_process(tini, Signal::QUIT).expect("signal tini");
        out.read_to_string(&mut said).expect("read");
        let mut warned = String::new();
        parent.stderr.take().expect("it is piped").read_to_string(&mut warned).expect("read");
        let pid = |letter: char| letter.is_ascii_digit();
        (said, warned.split(pid).filter(|part| !part.is_empty()).collect::<String>())
    });
    assert_eq!(ours, theirs);
    assert_eq!(ours.0, "listener listens\nlistener got 10\nlistener got 3\n");
    assert!(ours.1.contains("Reaped zombie process with pid="), "{}", ours.1);
}

#[test]
fn a_terminal_goes_to_the_child() {
    let rows = [("tini", "tini -s --"), ("dumb-init", "dumb-init -v"), ("catatonit", "catatonit --")];
    for (name, command) in rows {
        let [ours, theirs] = both(|path| {
            let foreground = "set -- $(ps -o tpgid=,pgid= -p $$); [ $1 = $2 ] && echo in front";
            let inside = format!("exec {command} sh -c '{foreground}'");
            let mut script = Command::new("script");
            script.args(["-qec", &inside, "/dev/null"]).env("PATH", path).stdin(Stdio::null());
            let (code, mut said, _) = finished(&mut script);
            said.retain(|letter| !letter.is_ascii_digit());
            (code, sorted(&said))
        });
        assert_eq!(ours, theirs, "{name}");
        assert!(ours.1.contains("in front"), "{name}: {}", ours.1);
    }
}

#[test]
fn any_other_name_is_tini() {
    let folder = tempfile::tempdir().expect("make a folder");
    for name in ["init", "docker-init", "tini-static", "podman-init"] {
        let path = folder.path().join(name);
        symlink(ours().path().join("tini"), &path).expect("make a link");
        let (code, said, _) = finished(Command::new(&path).arg("--version"));
        assert_eq!((code, said.get(..19)), (Some(0), Some("tini version 0.19.0")), "{name}");
    }
}

#[test]
fn thousands_of_orphans_are_reaped() {
    let orphans = "i=0; while [ $i -lt 2000 ]; do (true &); i=$((i + 1)); done; exec sleep 1000";
    for name in NAMES {
        let mut command = first_process();
        command.args([name, "--", "sh", "-c", orphans]).env("PATH", our_path());
        let mut started = command.spawn().expect("start");
        let pid = waiting_below(&started, name);
        within("only the command is left", || {
            let left = children(pid);
            left.len() == 1 && name_of(left[0]) == "sleep"
        });
        kill_process(pid, Signal::TERM).expect("signal it");
        assert_eq!(started.wait().expect("wait").code(), Some(143), "{name}");
    }
}

#[test]
fn it_is_small() {
    let size = fs::metadata(built("init")).expect("init").len();
    assert!(size <= 24 * 1024, "{size} bytes");
}

type Told = (Option<i32>, String, String);

/// Does the same with ours and with theirs: both found by name along a path.
fn both<T>(mut with: impl FnMut(&str) -> T) -> [T; 2] {
    let theirs = std::env::var("PATH").expect("a path");
    [with(&our_path()), with(&theirs)]
}

fn our_path() -> String {
    format!("{}:{}", ours().path().display(), std::env::var("PATH").expect("a path"))
}

/// A folder with `init` by all its names, built once.
fn ours() -> &'static TempDir {
    static OURS: OnceLock<TempDir> = OnceLock::new();
    OURS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("make a folder");
        let init = built("init");
        for name in NAMES {
            symlink(&init, folder.path().join(name)).expect("make a link");
        }
        folder
    })
}

fn finished(command: &mut Command) -> Told {
    let output = command.output().expect("start it");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    // Of tini's, this one gets lost: what its child has printed but not yet written goes when it becomes the command.
    let gets_lost =
        |line: &&str| line.starts_with("[DEBUG tini") && line.contains("tcsetpgrp failed: no tty");
    let told = text(output.stdout).split_inclusive('\n').filter(|line| !gets_lost(line)).collect();
    (output.status.code(), told, sorted(&text(output.stderr)))
}

/// Of a parent and its child, who speaks first is chance.
fn sorted(said: &str) -> String {
    let mut lines: Vec<&str> = said.split_inclusive('\n').collect();
    lines.sort_unstable();
    lines.concat()
}

/// What a process and its child hear of every signal that goes to `name`, in order.
fn heard(name: &str, options: &[&str], path: &str) -> Vec<String> {
    let pair = r#"perl -e "$0" child & exec perl -e "$0" parent"#;
    let mut command = first_process();
    command.arg(name).args(options).args(["--", "sh", "-c", pair, LISTENER]).env("PATH", path);
    let mut started = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start it");
    let mut lines = BufReader::new(started.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let listening = lines.by_ref().filter(|line| line.ends_with("listens")).take(2).count();
    assert_eq!(listening, 2, "{name} {options:?}");
    let init = waiting_below(&started, name);
    let mut quiet: Vec<Pid> = children(init);
    quiet.extend(quiet.clone().into_iter().flat_map(children));
    // The three that stop a job are followed by the one that wakes it, and SIGQUIT ends it.
    let stops = [20, 18, 21, 18, 22, 18, 23, 24, 25, 26, 27, 28, 29, 30, 31, 34];
    let signals = [1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 18].into_iter().chain(stops);
    for signal in signals {
        let signal = i32::to_string(&signal);
        Command::new("kill").args([&format!("-{signal}"), &init.to_string()]).status().expect("start kill");
        let settled = || waits(init) && quiet.iter().all(|pid| waits(*pid));
        within(&format!("{name} {options:?} has dealt with {signal}"), settled);
    }
    kill_process(init, Signal::QUIT).expect("signal it");
    // The child may not come to speak of the last.
    let said: Vec<String> =
        lines.filter(|line| line.contains(" got ") && !line.ends_with(" got 3")).collect();
    started.wait().expect("wait");
    // Of the two, who speaks first is chance.
    let in_order = |who: &str| said.iter().filter(|line| line.starts_with(who)).cloned().collect::<Vec<_>>();
    [in_order("parent"), in_order("child")].concat()
}

/// The process of that name that one has started, or is, once it waits.
fn waiting_below(started: &Child, name: &str) -> Pid {
    let mut found = None;
    within(&format!("{name} waits"), || {
        let mut open = vec![Pid::from_child(started)];
        let mut seen = BTreeSet::new();
        while let Some(pid) = open.pop().filter(|pid| seen.insert(pid.as_raw_nonzero())) {
            let called = name_of(pid);
            if (called == name || called == "init") && waits(pid) {
                found = Some(pid);
                return true;
            }
            open.extend(children(pid));
        }
        false
    });
    found.expect("it was found")
}

fn status(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

fn name_of(pid: Pid) -> String {
    field(&status(pid), "Name")
}

/// Whether a process sleeps, or is stopped, with no signal pending that it would take.
fn waits(pid: Pid) -> bool {
    let status = status(pid);
    let none = |name| field(&status, name) == "0000000000000000";
    ["S", "T"].contains(&field(&status, "State").as_str()) && none("SigPnd") && none("ShdPnd")
}

fn children(pid: Pid) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}
