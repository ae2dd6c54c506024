//! What the tests of `pause` and `init` have in common: the artefact, process 1 of a namespace, and patience.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The program as it ships, built now, lest it be an old one.
pub(crate) fn built(program: &str) -> PathBuf {
    let built =
        Command::new(env!("CARGO_BIN_EXE_xtask")).args(["build", program]).status().expect("start xtask");
    assert!(built.success());
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dist");
    dist.join(program).canonicalize().expect("the program is there")
}

/// What runs a program as PID 1, with a `/proc` that shows its PID namespace.
pub(crate) fn first_process() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    unshare
}

/// Waits for what must come soon.
pub(crate) fn within(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited too long until {what}");
        sleep(Duration::from_millis(2));
    }
}

/// The first word of a field in the files of `/proc`.
pub(crate) fn field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.split_whitespace().next()).unwrap_or_default().to_owned()
}
