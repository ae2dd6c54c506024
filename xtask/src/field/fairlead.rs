//! The program that is measured: started, watched through /proc, stopped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kernel_io::netns::Netns;
use kernel_io::process::{Launch, Process, Signal};

use super::{POD_RANGE, POD_RANGE_V6};
use crate::workspace::{dist, output};

/// Clock ticks a second in /proc, on every architecture that Linux has kept.
const TICKS: f64 = 100.0;

const PATIENCE: Duration = Duration::from_secs(20);

/// Which iptables is meant by that name.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    path: OsString,
}

/// How the program is called.
#[derive(Clone, Debug)]
pub(crate) struct Fairlead {
    pub(crate) mode: &'static str,
    pub(crate) tools: Tools,
    pub(crate) manifests: PathBuf,
    pub(crate) arguments: Vec<&'static str>,
}

/// The program, running.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Process,
    log: PathBuf,
}

impl Tools {
    /// As the machine has it.
    pub(crate) fn of_machine() -> Self {
        Self { path: std::env::var_os("PATH").unwrap_or_default() }
    }

    /// The legacy backend, by links in a folder that comes first on PATH.
    pub(crate) fn legacy(folder: &Path) -> Result<Self> {
        const PROGRAM: &str = "/usr/sbin/xtables-legacy-multi";
        let folder = folder.join("legacy-tools");
        fs::create_dir(&folder).context("make a folder for the legacy tools")?;
        for tool in ["iptables", "ip6tables"] {
            for suffix in ["", "-save", "-restore"] {
                symlink(PROGRAM, folder.join(format!("{tool}{suffix}")))?;
            }
        }
        let mut path = folder.into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Ok(Self { path })
    }

    /// A command of these tools.
    pub(crate) fn command(&self, program: &str) -> Command {
        // The child's PATH is not where the parent looks for the program.
        let found =
            std::env::split_paths(&self.path).map(|folder| folder.join(program)).find(|file| file.exists());
        let mut command = Command::new(found.unwrap_or_else(|| program.into()));
        command.env("PATH", &self.path).stdin(Stdio::null());
        command
    }
}

impl Fairlead {
    /// Starts it in a namespace; its log goes to a file.
    pub(crate) fn serve(&self, node: &Netns, log: PathBuf) -> Result<Proxy> {
        Proxy::start(self.command(), node, log)
    }

    /// Brings the rules of a namespace to the manifests once.
    pub(crate) fn once(&self, node: &Netns) -> Result<()> {
        let mut command = self.command();
        node.run(|| output(command.arg("--once")))?.map(drop)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(dist().join("fairlead"));
        command.args(["proxy", "--proxy-mode", self.mode, "--hostname-override", "node-1"]);
        // So it has nothing to warn of: pods of both families, and a score that need not be lowered.
        command.args(["--cluster-cidr", &format!("{POD_RANGE},{POD_RANGE_V6}"), "--oom-score-adj", "0"]);
        command.args(&self.arguments);
        command.arg("--manifests").arg(&self.manifests);
        command.env("PATH", &self.tools.path).stdin(Stdio::null());
        command
    }
}

impl Proxy {
    /// Starts one in a namespace; its log goes to a file.
    pub(crate) fn start(mut command: Command, node: &Netns, log: PathBuf) -> Result<Self> {
        command.stdin(Stdio::null()).stderr(File::create(&log)?);
        let launch = Launch::new(command).dying_with_us();
        // Started by a thread of that namespace, it is in it.
        let process = node.run(|| launch.start())??.process;
        Ok(Self { process, log })
    }

    /// Seconds of processor time of its own so far: neither the kernel's nor its tools'.
    pub(crate) fn own_time(&self) -> Result<f64> {
        ticks(&self.process.pid().to_string(), 1)
    }

    /// Seconds of processor time so far, with those of the tools that it ran.
    pub(crate) fn cpu(&self) -> Result<f64> {
        ticks(&self.process.pid().to_string(), 4)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Memory in MB: what is resident, and the most that ever was.
    pub(crate) fn memory(&self) -> Result<(f64, f64)> {
        ensure!(self.process.ended().is_none(), "the proxy has ended:\n{}", self.last_words());
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let field = |name: &str| -> Result<f64> {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)).context("a process has a size")?;
            let kilobytes: f64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?;
            Ok(kilobytes / 1024.0)
        };
        Ok((field("VmRSS")?, field("VmHWM")?))
    }

    /// What it complained of.
    pub(crate) fn complaints(&self) -> Result<Vec<String>> {
        let log = fs::read_to_string(&self.log)?;
        let is_complaint = |line: &&str| line.contains(" WARN ") || line.contains("ERROR ");
        Ok(log.lines().filter(is_complaint).map(str::to_owned).collect())
    }

    /// Stops it, however a program of its kind ends.
    pub(crate) fn end(&self) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.wait_for(PATIENCE).context("the proxy ends when told to")
    }

    /// Stops it as a service manager would.
    pub(crate) fn stop(&self) -> Result<()> {
        let status = self.end()?;
        ensure!(status.success(), "the proxy ended with {status}");
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// Seconds of processor time of all processes that this one has started and waited for.
pub(crate) fn children_cpu() -> Result<f64> {
    Ok(ticks("self", 4)? - ticks("self", 2)?)
}

/// Seconds of processor time: the sum of the first so many of utime, stime, cutime and cstime.
fn ticks(process: &str, fields: usize) -> Result<f64> {
    let wanted = fields;
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a process has a name")?;
    // They are fields 14 to 17, of which two are before the bracket.
    let ticks = fields.split_whitespace().skip(11).take(wanted).map(str::parse::<u32>);
    let ticks: u32 = ticks.sum::<Result<u32, _>>()?;
    Ok(f64::from(ticks) / TICKS)
}
