//! A place where pods run: a root of their own, a network namespace, and an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kernel_io::link::Links;
use kernel_io::netns::Netns;
use serde_json::Value;
use tempfile::TempDir;

/// A machine under load takes its time.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A place where pods run. Whatever runs in it ends with it.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) netns: Netns,
    environment: Vec<(&'static str, String)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("pods-").tempdir().expect("a directory");
        let image = directory.path().join("image");
        fs::create_dir(&image).expect("a directory");
        testkit::images::busybox_root(&image);
        let netns = Netns::new().expect("a network namespace");
        // A node has an address, from which its probes come.
        let address = "192.0.2.1/32".parse().expect("an address");
        Links::of(&netns).and_then(|mut links| links.add_address("lo", address)).expect("an address");
        Self { directory, netns, environment: Vec::new() }
    }

    /// The same place, where commands have one variable more.
    pub(crate) fn with(mut self, name: &'static str, value: &Path) -> Self {
        self.environment.push((name, value.display().to_string()));
        self
    }

    /// `fairlead pod` with these words.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairlead"));
        command.args(["pod", "--root"]).arg(self.root()).args(words).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn pod(&self, words: &[&str]) -> Output {
        let mut command = self.command(words);
        self.netns.run(|| command.output()).expect("the namespace").expect("fairlead starts")
    }

    pub(crate) fn spawn(&self, words: &[&str]) -> Child {
        let mut command = self.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.netns.run(|| command.spawn()).expect("the namespace").expect("fairlead starts")
    }

    /// What a command prints that must succeed.
    pub(crate) fn good(&self, words: &[&str]) -> String {
        let output = self.pod(words);
        assert!(output.status.success(), "{words:?}: {}{}", text(&output.stderr), self.holder_logs());
        text(&output.stdout)
    }

    /// What a command complains of that must fail.
    pub(crate) fn bad(&self, words: &[&str]) -> String {
        let output = self.pod(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// Writes a manifest, in which IMAGE stands for the image.
    pub(crate) fn manifest(&self, yaml: &str) -> String {
        let image = format!("rootfs:{}", self.directory.path().join("image").display());
        let path = self.directory.path().join("pod.yaml");
        fs::write(&path, yaml.replace("IMAGE", &image)).expect("written");
        path.to_str().expect("text").to_owned()
    }

    /// Runs a Pod called `p` with this specification.
    pub(crate) fn run(&self, spec: &str) {
        let path = self.manifest(&pod("p", spec));
        self.good(&["run", "--timeout", "60", "-f", &path]);
    }

    pub(crate) fn exec(&self, container: &str, script: &str) -> String {
        self.good(&["exec", "p", "-c", container, "--", "sh", "-c", script])
    }

    pub(crate) fn status(&self, pod: &str) -> Value {
        serde_json::from_str(&self.good(&["inspect", pod, "-o", "json"])).expect("JSON")
    }

    pub(crate) fn container(&self, name: &str) -> Value {
        let status = self.status("p");
        let containers = status["containers"].as_array().expect("a list");
        containers.iter().find(|container| container["name"] == name).expect("the container").clone()
    }

    /// Waits until a container is so.
    pub(crate) fn await_container(&self, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.eventually(|| Some(self.container(name)).filter(&is_so), || self.status("p").to_string())
    }

    pub(crate) fn await_phase(&self, phase: &str) -> Value {
        let so = || Some(self.status("p")).filter(|status| status["phase"] == phase);
        self.eventually(so, || self.status("p").to_string())
    }

    pub(crate) fn eventually<T>(&self, look: impl Fn() -> Option<T>, shown: impl Fn() -> String) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "{}\n{}", shown(), self.holder_logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Removes the pod, and checks that nothing is left of any.
    pub(crate) fn finish(self, pods: &[&str]) {
        for pod in pods {
            self.good(&["stop", "--grace", "1", pod]);
            self.good(&["rm", pod]);
        }
        for below in ["pods", "sandboxes", "pool"] {
            let left: Vec<_> =
                fs::read_dir(self.root().join(below)).expect("a directory").flatten().collect();
            assert!(left.is_empty(), "{below}: {left:?}");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let root = self.root();
        assert!(!mounts.contains(root.to_str().expect("text")), "{mounts}");
        let links = self.netns.run(|| fs::read_to_string("/proc/thread-self/net/dev")).expect("entered");
        assert_eq!(links.expect("links").lines().count(), 3, "only lo");
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn holder_logs(&self) -> String {
        let pods = fs::read_dir(self.root().join("pods")).into_iter().flatten().flatten();
        pods.filter_map(|pod| fs::read_to_string(pod.path().join("holder.log")).ok()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let pods = fs::read_dir(self.root().join("pods")).into_iter().flatten().flatten();
        for pod in pods.filter_map(|pod| pod.file_name().into_string().ok()) {
            self.pod(&["stop", "--grace", "0", &pod.replacen('_', "/", 1)]);
            self.pod(&["rm", "-f", &pod.replacen('_', "/", 1)]);
        }
    }
}

/// A Pod of this name with this specification, in flow style.
pub(crate) fn pod(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: web}}}}\nspec: {spec}\n")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a process is there.
pub(crate) fn lives(pid: &Value) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}
