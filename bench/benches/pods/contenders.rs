//! Who makes sandboxes.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use kernel_io::netns::Netns;
use tempfile::TempDir;
use testkit::cni;
use testkit::containerd::Containerd;
use testkit::cri::messages::{
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata,
};
use testkit::podman::Podman;

use crate::Programs;

/// Somebody who makes sandboxes.
pub(crate) trait Contender: Sync {
    /// Makes so many, so many at once, and removes them; how many ms each took.
    fn round(&self, count: usize, at_once: usize) -> Result<Vec<f64>>;
}

/// How ours make a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wiring {
    /// By the same CNI plugins and configuration as the others.
    Cni,
    /// By itself.
    BuiltIn,
}

/// What holds our sandboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Files,
    Pause,
}

/// Ours.
pub(crate) struct Ours {
    program: PathBuf,
    directory: TempDir,
    netns: Netns,
    holder: Holder,
}

/// A process of ours that stays, as containerd does.
pub(crate) struct Staying(pub(crate) Ours);

/// A process of ours for each sandbox, as with podman.
pub(crate) struct Passing(pub(crate) Ours);

impl Ours {
    pub(crate) fn new(programs: &Programs, wiring: Wiring, holder: Holder) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let networks = directory.path().join("net.d");
        std::fs::create_dir(&networks)?;
        if wiring == Wiring::Cni {
            let network = cni::bridged(&directory.path().join("addresses"));
            std::fs::write(networks.join("10-pods.conflist"), network)?;
        }
        Ok(Self { program: programs.bench.clone(), directory, netns: Netns::new()?, holder })
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        let at = |name: &str| self.directory.path().join(name);
        let mut command = Command::new(&self.program);
        command.arg("sandboxes").arg("--root").arg(at("root")).arg("--cni").arg(at("net.d"));
        command.arg("--plugins").arg(cni::plugins());
        command.args(["--cgroup", &format!("fairlead-bench-{}", std::process::id())]);
        command.args(["--holder", if self.holder == Holder::Files { "files" } else { "pause" }]);
        self.netns.run(|| output(command.args(words)))?
    }
}

impl Contender for Staying {
    fn round(&self, count: usize, at_once: usize) -> Result<Vec<f64>> {
        let printed = self.0.run(&["many", &count.to_string(), &at_once.to_string()])?;
        printed.lines().map(|line| line.parse().context("a time is a number")).collect()
    }
}

impl Contender for Passing {
    fn round(&self, count: usize, at_once: usize) -> Result<Vec<f64>> {
        let names = names(count);
        let times = in_lanes(&names, at_once, |name| self.0.run(&["make", name]).map(drop))?;
        names.iter().try_for_each(|name| self.0.run(&["remove", name]).map(drop))?;
        Ok(times)
    }
}

/// Debian's podman.
pub(crate) struct PodmanPods {
    podman: Podman,
    netns: Netns,
    image: String,
}

impl PodmanPods {
    pub(crate) fn new(programs: &Programs, image: &str) -> Result<Self> {
        let pods = Self { podman: Podman::new(), netns: Netns::new()?, image: image.to_owned() };
        let mut load = Command::new("podman");
        load.args(["load", "--quiet", "--signature-policy"]).arg(pods.podman.policy());
        pods.run(load.arg("--input").arg(programs.shipped("pause.tar")))?;
        Ok(pods)
    }

    pub(crate) fn make(&self, name: &str) -> Result<()> {
        let mut create = Command::new("podman");
        create.args(["pod", "create", "--network", "pods", "--cgroup-parent", self.podman.cgroup()]);
        self.run(create.args(["--infra-image", &self.image, "--name", name]))?;
        self.run(Command::new("podman").args(["pod", "start", name]))
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.run(Command::new("podman").args(["pod", "rm", "--force", "--time", "0", name]))
    }

    fn run(&self, command: &mut Command) -> Result<()> {
        self.podman.settle(command);
        self.netns.run(|| output(command))?.map(drop)
    }
}

impl Contender for PodmanPods {
    fn round(&self, count: usize, at_once: usize) -> Result<Vec<f64>> {
        let names = names(count);
        let times = in_lanes(&names, at_once, |name| self.make(name))?;
        names.iter().try_for_each(|name| self.remove(name))?;
        Ok(times)
    }
}

/// Debian's containerd.
pub(crate) struct ContainerdPods(Containerd);

impl ContainerdPods {
    pub(crate) fn new(programs: &Programs, image: &str) -> Self {
        let containerd = Containerd::start(&programs.shipped("init"), image);
        containerd.import(&programs.shipped("pause.tar"));
        Self(containerd)
    }

    pub(crate) fn make(&self, name: &str) -> Result<String> {
        let namespaces = NamespaceOption {
            network: NamespaceMode::Pod as i32,
            pid: NamespaceMode::Container as i32,
            ipc: NamespaceMode::Pod as i32,
            target_id: String::new(),
        };
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata::named(name)),
            hostname: name.to_owned(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/fairlead-containerd-{}", std::process::id()),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
        };
        Ok(self.0.cri().run_pod(&config)?)
    }

    pub(crate) fn remove_all(&self) -> Result<()> {
        for pod in self.0.cri().pods()? {
            self.0.cri().stop_pod(&pod.id)?;
            self.0.cri().remove_pod(&pod.id)?;
        }
        Ok(())
    }

    /// How many ms the shortest call takes: what of a sandbox's time is the client's.
    pub(crate) fn call(&self) -> Result<f64> {
        let start = Instant::now();
        self.0.cri().version()?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    }
}

impl Contender for ContainerdPods {
    fn round(&self, count: usize, at_once: usize) -> Result<Vec<f64>> {
        let times = in_lanes(&names(count), at_once, |name| self.make(name).map(drop))?;
        self.remove_all()?;
        Ok(times)
    }
}

pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("pod-{number}")).collect()
}

/// Does something with each name, so many at once; how many ms each took.
fn in_lanes(names: &[String], at_once: usize, make: impl Fn(&str) -> Result<()> + Sync) -> Result<Vec<f64>> {
    let (next, times) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        let lane = || -> Result<()> {
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                let start = Instant::now();
                make(name)?;
                times.lock().expect("nobody panics").push(start.elapsed().as_secs_f64() * 1000.0);
            }
            Ok(())
        };
        let lanes: Vec<_> = (0..at_once).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| anyhow!("a lane panicked"))?)
    })?;
    times.into_inner().map_err(|_| anyhow!("a lane panicked"))
}

/// What a command prints that must end well.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
