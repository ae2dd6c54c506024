//! Debian's containerd and runc, in network, mount and PID namespaces of their own, with nothing of the machine's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kernel_io::namespaces::Namespace;
use kernel_io::process::{Launch, Process, Signal};
use tempfile::TempDir;

use crate::cri::Cri;
use crate::{cni, debian};

/// A containerd that is up; dropped, it is gone with all that it ran.
#[derive(Debug)]
pub struct Containerd {
    process: Process,
    directory: TempDir,
    programs: PathBuf,
    cri: Cri,
}

impl Containerd {
    /// Starts it below an init, so that somebody reaps what it leaves; pods are held by this image.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or does not answer for long; it needs root, and Debian's runc.
    pub fn start(init: &Path, sandbox_image: &str) -> Self {
        let directory = tempfile::tempdir().expect("make a directory");
        let programs = debian::unpacked("containerd").join("usr/bin");
        configure(directory.path(), &cni::plugins(), sandbox_image).expect("configure containerd");
        let log = fs::File::create(directory.path().join("log")).expect("make a log");

        let mut command = Command::new(init);
        command.args(["--", "sh", "-c", "ip link set lo up && exec containerd --config \"$0/config.toml\""]);
        command.arg(directory.path()).env("PATH", path_with(&programs));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let kinds = [Namespace::Net, Namespace::Mount, Namespace::Pid];
        let started = Launch::new(command).in_new(&kinds).with_own_proc().dying_with_us().start();
        let process = started.expect("start containerd").process;
        let cri = Cri::at(&directory.path().join("socket")).expect("make a client");
        let containerd = Self { process, directory, programs, cri };
        containerd.await_answer();
        containerd
    }

    /// Its interface.
    pub fn cri(&self) -> &Cri {
        &self.cri
    }

    /// The first process of its PID namespace.
    pub fn first_process(&self) -> u32 {
        self.process.pid()
    }

    /// Takes in the images of an archive.
    ///
    /// # Panics
    ///
    /// If it does not take them.
    pub fn import(&self, archive: &Path) {
        let mut ctr = Command::new(self.programs.join("ctr"));
        ctr.arg("--address").arg(self.directory.path().join("socket"));
        let imported = ctr.args(["--namespace", "k8s.io", "images", "import"]).arg(archive).output();
        let imported = imported.expect("start ctr");
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn await_answer(&self) {
        let started = Instant::now();
        while let Err(status) = self.cri.version() {
            let waited = started.elapsed() < Duration::from_mins(1);
            assert!(waited && self.process.ended().is_none(), "{status}\n{}", self.log());
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // All others are in its PID namespace and end with it, and so do its mounts.
        self.process.signal(Signal::KILL).ok();
        self.process.wait();
    }
}

fn path_with(programs: &Path) -> String {
    format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default())
}

fn configure(directory: &Path, plugins: &Path, sandbox_image: &str) -> io::Result<()> {
    let at = |name: &str| directory.join(name).display().to_string();
    // Nobody here may lower a score, which runc would do without restrict_oom_score_adj.
    let config = format!(
        r#"version = 2
root = {root:?}
state = {state:?}
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = {socket:?}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {sandbox_image:?}
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = {runc:?}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {plugins:?}
    conf_dir = {cni:?}
"#,
        root = at("root"),
        state = at("state"),
        socket = at("socket"),
        runc = at("runc"),
        plugins = plugins.display().to_string(),
        cni = at("cni"),
    );
    fs::write(directory.join("config.toml"), config)?;
    fs::create_dir(directory.join("cni"))?;
    fs::write(directory.join("cni/10-pods.conflist"), cni::bridged(&directory.join("addresses")))
}
