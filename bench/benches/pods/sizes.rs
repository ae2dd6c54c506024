//! What holds a pod: how large it is as a file, and in memory while it sleeps, beside what else holds pods.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use bench::figure::{Figure, Figures, Goal};

use crate::Programs;

/// Programs that people hold containers with, each with the arguments that make it wait.
const PEERS: [(&str, &[&str]); 2] = [("catatonit", &["-P"]), ("tini-static", &["-s", "--", "sleep", "1000"])];

pub(super) fn measure(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let pause = Size::of(&programs.shipped("pause"), &[])?;
    figures.add(Figure::new("pause, file", "bytes", pause.file).goal(Goal::AtMost(4096.0)))?;
    figures.add(Figure::new("pause, resident memory", "kB", pause.memory).goal(Goal::AtMost(16.0)))?;
    let init = Size::of(&programs.shipped("init"), &["--", "sleep", "1000"])?;
    for (name, arguments) in PEERS {
        let peer = Size::of(&found(name)?, arguments)?;
        for (program, ours) in [("pause", &pause), ("init", &init)] {
            let against = |what: &str| format!("{program} against {name}, {what}");
            figures.add(Figure::new(against("file"), "bytes", ours.file).against(Some(peer.file)))?;
            figures
                .add(Figure::new(against("resident memory"), "kB", ours.memory).against(Some(peer.memory)))?;
        }
    }
    figures
        .skip("pause.c as a peer", "Debian has no package of it, and nothing of its source enters this tree");
    Ok(())
}

/// How much of a machine a program takes.
struct Size {
    file: f64,
    memory: f64,
}

impl Size {
    /// Of a program that waits, when it is started so, without an environment: what a caller leaves on the stack is
    /// the caller's.
    fn of(program: &Path, arguments: &[&str]) -> Result<Self> {
        let bytes = fs::metadata(program).with_context(|| format!("look at {}", program.display()))?.len();
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut started = started.with_context(|| format!("start {}", program.display()))?;
        let memory = resident(&mut started);
        started.kill().context("end what was measured")?;
        started.wait().context("wait for what was measured")?;
        #[expect(clippy::cast_precision_loss, reason = "a file of a few kilobytes")]
        Ok(Self { file: bytes as f64, memory: memory? })
    }
}

/// The resident memory of a process once it sleeps, exactly.
fn resident(process: &mut Child) -> Result<f64> {
    let started = Instant::now();
    let about = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", process.id()));
    loop {
        let stat = about("stat").context("read its state")?;
        // It sleeps a moment after it has become itself: a child of ours before that runs.
        if stat.contains(") S ") {
            break;
        }
        ensure!(started.elapsed() < Duration::from_secs(20), "it does not come to rest: {stat}");
        sleep(Duration::from_millis(10));
    }
    sleep(Duration::from_millis(200));
    let exact = about("smaps_rollup").context("read its memory")?;
    let rss = exact.lines().find_map(|line| line.strip_prefix("Rss:")?.split_whitespace().next());
    rss.context("smaps_rollup has no Rss")?.parse().context("Rss is a number")
}

/// A program along the path.
fn found(name: &str) -> Result<PathBuf> {
    for folder in ["/usr/bin", "/bin", "/usr/local/bin"] {
        let path = Path::new(folder).join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("{name} is not installed")
}
