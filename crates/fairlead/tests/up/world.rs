//! A node for `fairlead up`: a network namespace with an address, a root, a directory of manifests, an image.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kernel_io::link::Links;
use kernel_io::netns::Netns;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A machine under load takes its time.
const PATIENCE: Duration = Duration::from_mins(1);
/// The node's address.
const ADDRESS: &str = "192.0.2.1";

/// The node. Whatever runs on it ends with it.
pub(crate) struct World {
    directory: TempDir,
    netns: Netns,
    up: Mutex<Option<Child>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("up-").tempdir().expect("a directory");
        for name in ["image", "manifests"] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
        }
        testkit::images::busybox_root(&directory.path().join("image"));
        let netns = Netns::new().expect("a network namespace");
        let address = format!("{ADDRESS}/32").parse().expect("an address");
        Links::of(&netns).and_then(|mut links| links.add_address("lo", address)).expect("an address");
        Self { directory, netns, up: Mutex::new(None) }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn manifests(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    /// Writes a manifest, in which the image of the examples is ours.
    pub(crate) fn write(&self, name: &str, yaml: &str) {
        let image = self.directory.path().join("image");
        let yaml = yaml.replace("rootfs:/srv/busybox", &format!("rootfs:{}", image.display()));
        let hidden = self.manifests().join(format!(".{name}"));
        fs::write(&hidden, yaml).expect("written");
        fs::rename(&hidden, self.manifests().join(name)).expect("renamed");
    }

    /// Changes a manifest.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.manifests().join(name)).expect("a manifest");
        assert!(text.contains(from), "{text}");
        self.write(name, &text.replace(from, to));
    }

    pub(crate) fn delete(&self, name: &str) {
        fs::remove_file(self.manifests().join(name)).expect("a manifest");
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairlead"));
        command.args(words).arg("--root").arg(self.root()).stdin(Stdio::null());
        command
    }

    /// `fairlead` with these words, on the node.
    pub(crate) fn fairlead(&self, words: &[&str]) -> Output {
        let mut command = self.command(words);
        self.netns.run(|| command.output()).expect("the namespace").expect("fairlead starts")
    }

    /// Another program on the node.
    pub(crate) fn printed(&self, words: &[&str]) -> String {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        let output = self.netns.run(|| command.output()).expect("the namespace").expect("it starts");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Starts `fairlead up`.
    pub(crate) fn up(&self, words: &[&str]) {
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        let manifests = self.manifests();
        let mut command = self.command(&["up", manifests.to_str().expect("text")]);
        command.args(words).stdout(log.try_clone().expect("a log")).stderr(log);
        let child = self.netns.run(|| command.spawn()).expect("the namespace").expect("fairlead starts");
        *self.running() = Some(child);
    }

    /// Ends `fairlead up` by a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let mut up = self.running().take().expect("it runs");
        let pid = i32::try_from(up.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("signalled");
        up.wait().expect("ended");
    }

    pub(crate) fn down(&self) {
        let manifests = self.manifests();
        let output = self.fairlead(&["down", manifests.to_str().expect("text")]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if let Some(mut up) = self.running().take() {
            assert!(up.wait().expect("ended").success(), "{}", self.logged());
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Child>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// What `fairlead up` said so far.
    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// What is up, as a program is told.
    pub(crate) fn shown(&self) -> Value {
        let output = self.fairlead(&["up", "unread", "--status", "-o", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Waits until what is up is so.
    pub(crate) fn await_shown(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let shown = self.shown();
            if is_so(&shown) {
                return shown;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {shown:#}\n{}", self.logged());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The answer to a request through a node port, without its head.
    pub(crate) fn get(&self, path: &str) -> Result<String, String> {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect((ADDRESS, 30080))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = self.netns.run(ask).expect("the namespace").map_err(|error| error.to_string())?;
        // What a script says of itself ends its lines as the script does.
        let answer = answer.replace("\r\n", "\n");
        match answer.split_once("\n\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            Some(_) | None => Err(format!("answered {answer:?}")),
        }
    }

    /// The process of each pod's first container.
    pub(crate) fn processes(&self) -> Vec<u64> {
        let output = self.fairlead(&["pod", "list", "-o", "json"]);
        let pods: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let pids = pods.as_array().expect("a list").iter();
        pids.filter_map(|pod| pod["containers"][0]["state"]["running"]["pid"].as_u64()).collect()
    }

    /// Checks that nothing is left of anything.
    pub(crate) fn assert_empty(&self) {
        let root = self.root();
        let root = root.to_str().expect("text");
        for below in ["pods", "sandboxes", "pool"] {
            let left = fs::read_dir(Path::new(root).join(below)).into_iter().flatten().flatten();
            assert_eq!(left.map(|entry| entry.path()).collect::<Vec<_>>(), Vec::<PathBuf>::new());
        }
        assert!(!Path::new(root).join("up").exists());
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(root), "{mounts}");
        assert_eq!(commands_with(root), [""; 0]);
        let cgroup = format!("fairlead{}", root.replace('/', "-"));
        assert_eq!(cgroups_called(Path::new("/sys/fs/cgroup"), &cgroup), Vec::<PathBuf>::new());
        let links = self.netns.run(|| fs::read_to_string("/proc/thread-self/net/dev")).expect("entered");
        assert_eq!(links.expect("links").lines().count(), 3, "only lo");
        assert_eq!(self.printed(&["nft", "list", "ruleset"]), "");
        let forwards = self.netns.run(|| fs::read_to_string("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(forwards.expect("entered").expect("a setting"), "0\n");
    }
}

/// The command lines of processes that speak of this path.
fn commands_with(path: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let commands = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let texts = commands.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    texts.filter(|text| text.contains(path)).collect()
}

/// Control groups of this name, in every hierarchy.
fn cgroups_called(directory: &Path, name: &str) -> Vec<PathBuf> {
    let below = fs::read_dir(directory).into_iter().flatten().flatten();
    let groups = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups
        .flat_map(|entry| {
            let found = Vec::from_iter((entry.file_name() == name).then(|| entry.path()));
            [found, cgroups_called(&entry.path(), name)].concat()
        })
        .collect()
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut up) = self.running().take() {
            let _ = up.kill();
            let _ = up.wait();
        }
        let manifests = self.manifests();
        self.fairlead(&["down", manifests.to_str().unwrap_or_default()]);
    }
}
