//! A network namespace and a directory of manifests to call the binary on.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kernel_io::netns::Netns;
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_fairlead");

/// Somebody without any privilege, by convention of all distributions.
pub(crate) const NOBODY: u32 = 65_534;

/// How the two tools are named, family by family.
pub(crate) const TOOLS: [&str; 2] = ["iptables", "ip6tables"];

pub(crate) struct Stage {
    pub(crate) netns: Netns,
    directory: TempDir,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command that goes on until it is told to end, or the test does.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

/// Who runs a proxy.
#[derive(Clone, Copy)]
pub(crate) enum Account {
    /// Somebody to whom no file belongs.
    Nobody,
    /// Whose files the kernel's are, as in a container that drops capabilities.
    Root,
}

impl Stage {
    /// An empty namespace and no manifests.
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("everybody may look");
        let stage = Self { netns: Netns::new().expect("a namespace"), directory };
        fs::create_dir(stage.manifests()).expect("a directory");
        stage
    }

    /// With the manifests of examples/two-services.
    pub(crate) fn with_example() -> Self {
        let stage = Self::new();
        for name in ["services.yaml", "endpointslices.yaml"] {
            let example =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/two-services").join(name);
            stage.write(name, &fs::read_to_string(example).expect("the example"));
        }
        stage
    }

    /// A directory for whatever a test needs.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    /// Writes a manifest as an editor does: whole, under another name first.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let draft = self.directory.path().join("draft");
        fs::write(&draft, text).expect("a written file");
        fs::rename(draft, self.manifests().join(name)).expect("a renamed file");
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.manifests().join(name)).expect("a removed file");
    }

    /// The binary, with these arguments, ready to start.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .env("XTABLES_LOCKFILE", self.directory.path().join("xtables.lock"))
            .stdin(Stdio::null());
        command
    }

    /// `fairlead proxy` on the manifests.
    pub(crate) fn proxy_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["proxy", "--manifests"]);
        command.arg(self.manifests()).args(arguments);
        command
    }

    /// Runs a command in the namespace to its end.
    pub(crate) fn ended(&self, mut command: Command) -> Ended {
        self.netns.run(move || command.output().expect("it starts")).expect("entered").into()
    }

    /// Runs `fairlead proxy` on the manifests to its end.
    pub(crate) fn proxy(&self, arguments: &[&str]) -> Ended {
        self.ended(self.proxy_command(arguments))
    }

    /// The same, without any privilege.
    pub(crate) fn proxy_of_nobody(&self, arguments: &[&str]) -> Ended {
        let mut command = self.proxy_command(arguments);
        command.uid(NOBODY).gid(NOBODY);
        self.ended(command)
    }

    /// The same by somebody who has these capabilities alone.
    pub(crate) fn proxy_with(&self, account: Account, capabilities: &[&str], arguments: &[&str]) -> Command {
        let mut setpriv = Command::new("setpriv");
        match account {
            Account::Nobody => setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]),
            Account::Root => setpriv.args(["--reuid=0"]),
        };
        setpriv.arg("--no-new-privs");
        let all = [&["-all"], capabilities].concat().join(",+");
        for set in ["inh-caps", "ambient-caps", "bounding-set"] {
            setpriv.arg(format!("--{set}={all}"));
        }
        setpriv.args([BINARY, "proxy", "--manifests"]).arg(self.manifests()).args(arguments);
        // Root made the one that its own calls lock.
        setpriv.env("XTABLES_LOCKFILE", self.open_directory().join("xtables.lock"));
        setpriv
    }

    /// A directory that everybody may write to.
    fn open_directory(&self) -> PathBuf {
        let path = self.directory().join("open");
        if !path.exists() {
            fs::create_dir(&path).expect("a directory");
            fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("everybody may write");
        }
        path
    }

    /// Starts a command in the namespace.
    pub(crate) fn start(&self, mut command: Command) -> Running {
        let log = self.directory.path().join("log");
        command.stderr(File::create(&log).expect("a log")).stdout(Stdio::null());
        let child = self.netns.run(move || command.spawn().expect("it starts")).expect("entered");
        Running { child, log }
    }

    /// Runs another tool in the namespace, which must succeed, with a text as its input.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let file = self.directory.path().join("input");
        fs::write(&file, input).expect("a written file");
        let mut command = Command::new(program);
        command.args(arguments).env("XTABLES_LOCKFILE", self.directory.path().join("xtables.lock"));
        command.stdin(File::open(&file).expect("a file"));
        self.ended(command).success().stdout
    }

    /// A directory in which the tools are those of the legacy backend.
    pub(crate) fn legacy_tools(&self) -> PathBuf {
        let folder = self.directory.path().join("legacy");
        fs::create_dir(&folder).expect("a directory");
        for tool in TOOLS {
            for suffix in ["", "-save", "-restore"] {
                let legacy = PathBuf::from(format!("/usr/sbin/{tool}-legacy{suffix}"));
                symlink(legacy, folder.join(format!("{tool}{suffix}"))).expect("a link");
            }
        }
        folder
    }

    /// What both families hold, without the words about when it was printed.
    pub(crate) fn saved(&self, arguments: &[&str]) -> String {
        let saved = TOOLS.map(|tool| {
            let text = self.tool(&format!("{tool}-save"), arguments, "");
            let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
            format!("{tool}\n{}\n", lines.join("\n"))
        });
        saved.concat()
    }

    pub(crate) fn rules(&self) -> String {
        without_counters(&self.saved(&[]))
    }

    /// The rules in an order that does not tell which was written first, each with its tool and table.
    pub(crate) fn sorted_rules(&self) -> Vec<String> {
        let (mut tool, mut table) = (String::new(), String::new());
        let mut lines = Vec::new();
        for line in self.rules().lines() {
            match line.chars().next() {
                Some('i') => line.clone_into(&mut tool),
                Some('*') => line.clone_into(&mut table),
                Some(_) | None => lines.push(format!("{tool} {table} {line}")),
            }
        }
        lines.sort();
        lines
    }

    /// Waits for rules, however slow the machine.
    pub(crate) fn until_rules(&self, what: &str, holds: impl Fn(&str) -> bool) {
        until(what, || holds(&self.rules()), || self.rules());
    }
}

impl Ended {
    /// Expects that it succeeded.
    pub(crate) fn success(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }

    /// Expects an exit code, and one line on stderr, which it answers.
    pub(crate) fn one_line(self, code: i32) -> String {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        assert_eq!(self.stdout, "");
        assert_eq!(self.stderr.lines().count(), 1, "{self:#?}");
        self.stderr.trim_end().to_owned()
    }

    /// Expects that it found both families as planned, and wrote nothing.
    pub(crate) fn wrote_nothing(self) {
        assert!(!self.stderr.contains("brought to plan"), "{self:#?}");
        for family in ["IPv4", "IPv6"] {
            let line = format!("pass{{family={family}}}: the kernel is as planned already");
            assert!(self.stderr.contains(&line), "{self:#?}");
        }
    }

    /// The one line of stderr with all these words in it.
    pub(crate) fn line_with(&self, words: &[&str]) -> &str {
        let mut lines = self.stderr.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        match (lines.next(), lines.next()) {
            (Some(line), None) => line,
            _ => panic!("not one line with {words:?} in {self:#?}"),
        }
    }
}

impl Running {
    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// A file of its own under /proc.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid())).expect("it runs")
    }

    pub(crate) fn until_log(&self, text: &str) {
        until(&format!("{text:?} is logged"), || self.log().contains(text), || self.log());
    }

    /// Expects that it has not ended by itself.
    pub(crate) fn expect_alive(&mut self) {
        assert_eq!(self.child.try_wait().expect("a child of ours"), None, "{}", self.log());
    }

    /// Waits until it ends by itself. Answers how, and what it logged.
    pub(crate) fn ended_by_itself(mut self) -> (ExitStatus, String) {
        let status = self.end("it ends by itself");
        (status, self.log())
    }

    /// Sends a signal, and waits for the end.
    pub(crate) fn end_by(mut self, signal: &str) -> ExitStatus {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        self.end(&format!("it ends by {signal}"))
    }

    fn end(&mut self, what: &str) -> ExitStatus {
        let mut status = None;
        let mut ended = || {
            status = self.child.try_wait().expect("a child of ours");
            status.is_some()
        };
        until(what, &mut ended, String::new);
        status.expect("it ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

/// Waits for what must come; answers what there was instead.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool, instead: impl Fn() -> String) {
    let give_up = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < give_up, "{what} within a minute, but: {}", instead());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process was killed.
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// `:INPUT ACCEPT [12:720]` becomes `:INPUT ACCEPT`.
fn without_counters(saved: &str) -> String {
    let line = |line: &str| match line.split_once(" [") {
        Some((chain, _)) if line.starts_with(':') => format!("{chain}\n"),
        Some(_) | None => format!("{line}\n"),
    };
    saved.lines().map(line).collect()
}

/// A Service of port 80 and one more field or two.
pub(crate) fn service(name: &str, cluster_ip: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  clusterIP: {cluster_ip}
  ports: [{{name: http, port: 80{more}}}]
---
"
    )
}

/// The slice of a Service, of ready endpoints on port 8080.
pub(crate) fn endpoints(service: &str, addresses: &[&str]) -> String {
    let family = if addresses.iter().any(|address| address.contains(':')) { "IPv6" } else { "IPv4" };
    let endpoints: Vec<_> =
        addresses.iter().map(|address| format!("  - addresses: [\"{address}\"]\n")).collect();
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {service}-1
  namespace: default
  labels: {{kubernetes.io/service-name: {service}}}
addressType: {family}
ports: [{{name: http, port: 8080}}]
endpoints:
{}---
",
        endpoints.concat()
    )
}
