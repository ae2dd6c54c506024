//! The program that makes and ends containers: crun or runc.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::{PodError, file};

/// An OCI runtime, with its own state in a directory of ours.
#[derive(Clone, Debug)]
pub(crate) struct Oci {
    program: PathBuf,
    state: PathBuf,
    log: PathBuf,
}

/// A container, in what we hand to the runtime.
#[derive(Debug)]
pub(crate) struct Creation<'a> {
    pub(crate) container: &'a str,
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    pub(crate) output: [File; 2],
    /// Files through which the runtime moves itself into the pod's cgroup.
    pub(crate) cgroup: Vec<File>,
}

/// The program of this name or path, or the first of those that are known.
pub(crate) fn find(wanted: Option<&str>) -> Result<PathBuf, PodError> {
    // With a tree of the second layout beside those of the first, crun gives up.
    let both = Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists();
    let known: &[&str] = if both { &["runc", "crun"] } else { &["crun", "runc"] };
    let candidates = wanted.as_ref().map_or(known, std::slice::from_ref);
    let found = candidates.iter().find_map(|name| on_path(name));
    found.ok_or_else(|| PodError::NoRuntime { looked_for: candidates.join(", ") })
}

fn on_path(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(usual.iter().map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|path| path.is_file())
}

impl Oci {
    /// A runtime whose state is below a pod's directory.
    pub(crate) fn new(program: PathBuf, directory: &Path) -> Self {
        Self { program, state: directory.join("oci"), log: directory.join("oci.log") }
    }

    /// Makes a container, and answers the number of its first process, which waits for [`Oci::start`].
    pub(crate) fn create(&self, creation: Creation<'_>) -> Result<u32, PodError> {
        let pid_file = creation.bundle.join("pid");
        let mut command = self.command("create");
        command.arg("--bundle").arg(creation.bundle).arg("--pid-file").arg(&pid_file).arg(creation.id);
        let [stdout, stderr] = creation.output;
        command.stdout(stdout).stderr(stderr);
        self.run(creation.container, "create", command, creation.cgroup)?;
        pid_in(&pid_file)
    }

    pub(crate) fn start(&self, container: &str, id: &str) -> Result<(), PodError> {
        self.simple(container, "start", &[OsStr::new(id)])
    }

    /// Ends whatever is left of a container, and forgets it; what is gone already is no error.
    pub(crate) fn delete(&self, container: &str, id: &str) -> Result<(), PodError> {
        if !self.state.join(id).exists() {
            return Ok(());
        }
        self.simple(container, "delete", &[OsStr::new("--force"), OsStr::new(id)])
    }

    /// Starts a program in a container, and answers its number.
    pub(crate) fn exec(
        &self,
        container: &str,
        id: &str,
        pid_file: &Path,
        words: &[String],
        output: [File; 2],
    ) -> Result<u32, PodError> {
        let mut command = self.command("exec");
        command.arg("--detach").arg("--pid-file").arg(pid_file).arg(id).args(words);
        let [stdout, stderr] = output;
        command.stdout(stdout).stderr(stderr);
        self.run(container, "exec", command, Vec::new())?;
        pid_in(pid_file)
    }

    /// A command that becomes a program in a container, with our own input and output.
    pub(crate) fn attached(&self, id: &str, words: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.state).arg("exec").arg(id).args(words);
        command
    }

    fn simple(&self, container: &str, verb: &'static str, arguments: &[&OsStr]) -> Result<(), PodError> {
        let mut command = self.command(verb);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        self.run(container, verb, command, Vec::new())
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.state).arg("--log").arg(&self.log).args([
            "--log-format",
            "json",
            verb,
        ]);
        command.stdin(Stdio::null());
        command
    }

    fn run(
        &self,
        container: &str,
        verb: &'static str,
        command: Command,
        cgroup: Vec<File>,
    ) -> Result<(), PodError> {
        let failed = |message: String| PodError::Oci {
            container: container.to_owned(),
            program: self.program.display().to_string(),
            verb,
            message,
        };
        let before = fs::metadata(&self.log).map_or(0, |log| log.len());
        let started = kernel_io::process::Launch::new(command).in_cgroup(cgroup).start();
        let started = started.map_err(|error| failed(told(&error)))?;
        let status = started.process.wait();
        if status.success() {
            return Ok(());
        }
        Err(failed(self.complaint(before).unwrap_or_else(|| status.to_string())))
    }

    /// The last error that the runtime has written since its log had this length.
    fn complaint(&self, before: u64) -> Option<String> {
        let text = fs::read_to_string(&self.log).ok()?;
        let new = text.get(usize::try_from(before).ok()?..)?;
        let mut messages = new.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let error = messages.find(|line| line.get("level").and_then(Value::as_str) == Some("error"))?;
        Some(error.get("msg")?.as_str()?.trim().to_owned())
    }
}

fn pid_in(path: &Path) -> Result<u32, PodError> {
    let text = fs::read_to_string(path).map_err(file("read", path))?;
    let wrong =
        || PodError::Content { path: path.to_path_buf(), message: format!("{text:?} is not a process") };
    text.trim().parse().map_err(|_| wrong())
}

/// An error and its causes in one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
