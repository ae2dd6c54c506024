//! Work that runs as process 1 of namespaces of its own: whatever it starts ends with it, however it ends.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kernel_io::namespaces::Namespace;
use kernel_io::process::{Launch, Process, Signal};
use second_kernel::Boot;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    /// By Ctrl-C or its like.
    Stopped,
}

impl Ended {
    /// For those to whom being stopped is a failure like any other.
    pub(crate) fn well(self) -> Result<()> {
        ensure!(self == Self::Well, "stopped");
        Ok(())
    }
}

/// Runs this program again, apart, with these arguments and a folder of its own (`--folder`), to its end or to
/// Ctrl-C. Nothing is left of either.
pub(crate) fn run<'a>(arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<Ended> {
    ensure!(rustix::process::geteuid().is_root(), "this makes namespaces: run it as root");
    let folder = tempfile::Builder::new().prefix("fairlead-apart-").tempdir().context("make a folder")?;
    let stopped = stop_flag()?;
    let ended = start(arguments, folder.path()).and_then(|process| wait(&process, &stopped));
    folder.close().context("remove the folder")?;
    ended
}

/// How long anything may take in a second kernel.
const LIMIT: Duration = Duration::from_mins(15);

/// The same in a second kernel, which has IPVS, and which ends with all that is in it. What is printed there is printed
/// here.
pub(crate) fn run_in_second_kernel<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Ended> {
    let program = std::env::current_exe().context("find this program")?;
    // A file system of that kernel's own: it is told of changes there, and what is written there ends with it.
    let boot = Boot::new(program, LIMIT).arguments(arguments).arguments(["--folder", "/run"]);
    let mut out = io::stdout();
    let mut printed = Ok(());
    let ended = boot.run_telling(|text| {
        if printed.is_ok() {
            printed = out.write_all(text).and_then(|()| out.flush());
        }
    });
    let ended = ended?;
    ensure!(ended.status == 0, "it failed in the second kernel, with status {}", ended.status);
    printed?;
    Ok(Ended::Well)
}

fn start<'a>(arguments: impl IntoIterator<Item = &'a OsStr>, folder: &Path) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args(arguments).arg("--folder").arg(folder);
    // The lock of iptables is one for the whole machine; the rules here are nobody else's.
    command.env("XTABLES_LOCKFILE", folder.join("xtables.lock"));
    let apart = [Namespace::Net, Namespace::Ipc, Namespace::Uts, Namespace::Pid, Namespace::Mount];
    let launch = Launch::new(command).in_new(&apart).with_own_proc().in_own_session().dying_with_us();
    Ok(launch.start()?.process)
}

/// Raised by Ctrl-C and its like.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag)).context("wait for signals")?;
    }
    Ok(flag)
}

fn wait(process: &Process, stopped: &AtomicBool) -> Result<Ended> {
    loop {
        if let Some(status) = process.wait_for(Duration::from_millis(50)) {
            ensure!(status.success(), "it failed: {status}");
            return Ok(Ended::Well);
        }
        if stopped.load(Ordering::Relaxed) {
            process.signal(Signal::KILL)?;
            process.wait();
            return Ok(Ended::Stopped);
        }
    }
}
