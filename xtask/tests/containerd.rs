//! `pause` from its image in Debian's containerd and runc, asked as the kubelet asks. As root.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use pod_images::pack::Layout;
use serde_json::Value;
use testkit::containerd::Containerd;
use testkit::cri::Cri;
use testkit::cri::messages::{
    ContainerConfig, ContainerMetadata, ImageSpec, Int64Value, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata, SecurityProfile,
};
use testkit::images::busybox;

#[path = "programs/first_process.rs"]
#[expect(dead_code, reason = "here others make the first process")]
mod first_process;

use first_process::{built, field, within};

const SHELL: &str = "fairlead.dev/shell:1";
const PAUSE: &str = concat!("fairlead.dev/pause:", env!("CARGO_PKG_VERSION"));
const UNCONFINED: SecurityProfile = SecurityProfile { profile_type: 1, localhost_ref: String::new() };
const RUNTIME_DEFAULT: SecurityProfile = SecurityProfile { profile_type: 0, localhost_ref: String::new() };

type Case = fn(&Node) -> Result<(), Failed>;

const CASES: [(&str, Case); 8] = [
    ("two containers share network, ipc, host name and memory", shares),
    ("with a shared PID namespace pause is process 1 and reaps the orphans of all", reaps),
    ("pause runs as the pod's user, without privilege, on a root that nobody can write", as_somebody),
    ("pause and containers live under the runtime's seccomp profile", confined),
    ("with the node's network only the rest is the pod's", of_the_node),
    ("pause's end is the sandbox's", ends),
    ("stopped and removed, nothing is left", is_removed),
    ("a hundred pods at once", hundred),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They count what is left, so nobody else may be at work.
    arguments.test_threads = Some(1);
    let node = if arguments.list { None } else { Some(Arc::new(Node::start())) };
    let trials = CASES.map(|(name, case)| {
        let node = node.clone();
        Trial::test(name, move || case(node.as_deref().expect("tests are run, not listed")))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    if let Some(node) = node.filter(|_| conclusion.has_failed()) {
        eprintln!("{}", node.containerd.log());
    }
    conclusion.exit_code()
}

fn shares(node: &Node) -> Result<(), Failed> {
    let pod = node.pod("shares", &[])?;
    let pause = pod.pause()?;
    assert_eq!(fs::read(pause.join("cmdline"))?, b"/pause\0");
    let one = pod.container("one", NamespaceMode::Container, |_| ())?;
    let other = pod.container("other", NamespaceMode::Container, |_| ())?;
    for kind in ["net", "ipc", "uts"] {
        let held = pod.namespace(kind)?;
        assert_ne!(held, node.namespace(kind)?, "{kind}");
        for container in [&one, &other] {
            assert_eq!(pod.exec(container, &format!("readlink /proc/self/ns/{kind}"))?, held, "{kind}");
        }
    }
    let first = |container| pod.exec(container, "readlink /proc/1/ns/pid; readlink /proc/1/exe");
    assert_ne!(first(&one)?, first(&other)?);
    assert_eq!(pod.exec(&one, "hostname")? + &pod.exec(&other, "hostname")?, "shares\nshares\n");
    pod.exec(&one, "echo common > /dev/shm/file; mkdir /tmp/www; echo hello > /tmp/www/index.html")?;
    assert_eq!(pod.exec(&other, "cat /dev/shm/file")?, "common\n");
    pod.exec(&one, "httpd -p 127.0.0.1:8080 -h /tmp/www > /dev/null 2>&1")?;
    let answer = pod.exec(&other, "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 8080")?;
    assert!(answer.ends_with("\r\n\r\nhello\n"), "{answer}");
    pod.remove()
}

fn reaps(node: &Node) -> Result<(), Failed> {
    let pod = node.pod("reaps", &[("pid", NamespaceMode::Pod)])?;
    let containers = ["one", "other"].map(|name| pod.container(name, NamespaceMode::Pod, |_| ()));
    let [one, other] = containers;
    let (one, other) = (one?, other?);
    for container in [&one, &other] {
        assert_eq!(pod.exec(container, "tr '\\0' ' ' < /proc/1/cmdline")?, "/pause ");
        pod.exec(container, "(sleep 1234 > /dev/null 2>&1 & echo $! > /tmp/orphan)")?;
        assert_eq!(pod.exec(container, "sed 's/.*) . //; s/ .*//' /proc/$(cat /tmp/orphan)/stat")?, "1\n");
    }
    let processes = "cat /proc/[0-9]*/stat 2> /dev/null | sed 's/ (/ /; s/) / /' | cut -d' ' -f2,3";
    assert_eq!(pod.exec(&one, processes)?.matches("sleep S").count(), 2 + 2, "each sees the other's");
    for container in [&one, &other] {
        pod.exec(container, "kill $(cat /tmp/orphan)")?;
        within("the orphan is reaped", || pod.exec(container, "! [ -d /proc/$(cat /tmp/orphan) ]").is_ok());
    }
    pod.exec(&other, "for n in $(seq 500); do (true &); done > /dev/null 2>&1")?;
    within("no zombie is left", || {
        pod.exec(&other, processes).is_ok_and(|processes| !processes.contains(" Z"))
    });
    pod.exec(&one, "kill -9 1")?;
    assert_eq!(
        pod.exec(&one, "tr '\\0' ' ' < /proc/1/cmdline")?,
        "/pause ",
        "from inside it cannot be killed"
    );
    pod.remove()
}

fn as_somebody(node: &Node) -> Result<(), Failed> {
    let plain = node.pod("nobody", &[])?;
    let status = fs::read_to_string(plain.pause()?.join("status"))?;
    assert_eq!((field(&status, "Uid"), field(&status, "Gid")), ("65535".to_owned(), "65535".to_owned()));
    plain.remove()?;

    let pod = node.pod_with("somebody", &[], |security| {
        security.run_as_user = Some(Int64Value { value: 1234 });
        security.run_as_group = Some(Int64Value { value: 5678 });
        security.readonly_rootfs = true;
    })?;
    let pause = pod.pause()?;
    let status = fs::read_to_string(pause.join("status"))?;
    for (name, value) in [("Uid", "1234"), ("Gid", "5678"), ("NoNewPrivs", "1")] {
        assert_eq!(field(&status, name), value, "{name}");
    }
    let mounts = fs::read_to_string(pause.join("mountinfo"))?;
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).ok_or("no root")?;
    assert!(root.split(' ').nth(5).is_some_and(|options| options.starts_with("ro")), "{root}");
    let container = pod.container("one", NamespaceMode::Container, |security| {
        security.run_as_user = Some(Int64Value { value: 4321 });
        security.readonly_rootfs = true;
    })?;
    assert_eq!(
        pod.exec(&container, "id -u; touch /file 2>&1 || true")?,
        "4321\ntouch: /file: Read-only file system\n"
    );
    pod.remove()
}

fn confined(node: &Node) -> Result<(), Failed> {
    for (profile, mode) in [(RUNTIME_DEFAULT, "2"), (UNCONFINED, "0")] {
        let pod = node.pod_with("confined", &[("pid", NamespaceMode::Pod)], |security| {
            security.seccomp = Some(profile.clone());
        })?;
        let status = fs::read_to_string(pod.pause()?.join("status"))?;
        assert_eq!(field(&status, "Seccomp"), mode);
        let container = pod.container("one", NamespaceMode::Pod, |security| {
            security.seccomp = Some(profile.clone());
        })?;
        let status = pod.exec(&container, "cat /proc/self/status")?;
        assert_eq!(field(&status, "Seccomp"), mode);
        pod.exec(&container, "(sleep 0 > /dev/null 2>&1 &)")?;
        within("pause reaps under it", || {
            pod.exec(&container, "! grep -q 'State:.Z' /proc/[0-9]*/status").is_ok()
        });
        pod.remove()?;
    }
    Ok(())
}

fn of_the_node(node: &Node) -> Result<(), Failed> {
    let pod = node.pod("of-the-node", &[("network", NamespaceMode::Node)])?;
    for (kind, is_nodes) in [("net", true), ("uts", true), ("ipc", false), ("pid", false)] {
        assert_eq!(pod.namespace(kind)? == node.namespace(kind)?, is_nodes, "{kind}");
    }
    assert_eq!(pod.address()?, "");
    pod.remove()
}

fn ends(node: &Node) -> Result<(), Failed> {
    let pod = node.pod("ends", &[("pid", NamespaceMode::Pod)])?;
    let container = pod.container("one", NamespaceMode::Pod, |_| ())?;
    assert_eq!(node.cri().pod(&pod.id)?.state, 0);
    // By SIGTERM pause leaves, and then the kernel ends everybody else in its PID namespace.
    pod.exec(&container, "kill 1").ok();
    within("the sandbox is not ready", || node.cri().pod(&pod.id).is_ok_and(|pod| pod.state == 1));
    within("the container has ended", || {
        node.cri().container(&container).is_ok_and(|status| status.state == 2)
    });
    assert_eq!(node.cri().container(&container)?.exit_code, 137);
    pod.remove()
}

fn is_removed(node: &Node) -> Result<(), Failed> {
    let before = node.left()?;
    let pod = node.pod("removed", &[])?;
    let container = pod.container("one", NamespaceMode::Container, |_| ())?;
    let pause = pod.pause()?;
    node.cri().stop_container(&container, 0)?;
    assert_eq!(node.cri().container(&container)?.exit_code, 137);
    node.cri().stop_pod(&pod.id)?;
    assert_eq!(node.cri().pod(&pod.id)?.state, 1);
    assert!(!pause.exists(), "pause lives on");
    node.cri().remove_pod(&pod.id)?;
    node.gone_back_to(&before)
}

fn hundred(node: &Node) -> Result<(), Failed> {
    let before = node.left()?;
    let names: Vec<String> = (0..100).map(|number| format!("of-many-{number}")).collect();
    let pods: Vec<Pod<'_>> = thread::scope(|scope| {
        let started: Vec<_> = names.iter().map(|name| scope.spawn(|| node.pod(name, &[]))).collect();
        let pods = started.into_iter().map(|pod| pod.join().expect("no panic"));
        pods.collect::<Result<_, _>>()
    })?;
    let addresses: BTreeSet<String> = pods.iter().map(Pod::address).collect::<Result<_, _>>()?;
    assert_eq!(addresses.len(), 100, "each has an address of its own");
    let held = ["net", "ipc", "uts", "pid", "mnt"].map(|kind| {
        pods.iter().map(|pod| pod.namespace(kind)).collect::<Result<BTreeSet<_>, _>>().map(|held| held.len())
    });
    assert!(
        held.into_iter().all(|count| count.is_ok_and(|count| count == 100)),
        "each has namespaces of its own"
    );
    assert_eq!(node.cri().pods()?.iter().filter(|pod| pod.state == 0).count(), 100);
    thread::scope(|scope| {
        let removed: Vec<_> = pods.into_iter().map(|pod| scope.spawn(|| pod.remove())).collect();
        removed.into_iter().try_for_each(|pod| pod.join().expect("no panic"))
    })?;
    node.gone_back_to(&before)
}

/// A machine with containerd, for the length of the tests.
struct Node {
    containerd: Containerd,
    /// The cgroup of its pods.
    cgroup: String,
}

impl Node {
    fn start() -> Self {
        let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
        let packed = Command::new(xtask).args(["image", "pause"]).status().expect("start xtask");
        assert!(packed.success());
        let pause = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dist/pause.tar");
        let shell = tempfile::NamedTempFile::new().expect("make a file");
        let archive = Layout::of(&busybox(SHELL)).archive().expect("pack busybox");
        fs::write(shell.path(), archive).expect("write the archive");
        let containerd = Containerd::start(&built("init"), PAUSE);
        containerd.import(&pause);
        containerd.import(shell.path());
        Self { containerd, cgroup: format!("/fairlead-containerd-{}", std::process::id()) }
    }

    fn cri(&self) -> &Cri {
        self.containerd.cri()
    }

    fn pod(&self, name: &str, modes: &[(&str, NamespaceMode)]) -> Result<Pod<'_>, Failed> {
        self.pod_with(name, modes, |_| ())
    }

    /// A pod with processes and network of its own, except in what is said.
    fn pod_with(
        &self,
        name: &str,
        modes: &[(&str, NamespaceMode)],
        change: impl FnOnce(&mut LinuxSandboxSecurityContext),
    ) -> Result<Pod<'_>, Failed> {
        let mode = |of: &str, else_mode: NamespaceMode| {
            modes.iter().find(|(kind, _)| *kind == of).map_or(else_mode, |(_, mode)| *mode) as i32
        };
        let mut security = LinuxSandboxSecurityContext {
            namespace_options: Some(NamespaceOption {
                network: mode("network", NamespaceMode::Pod),
                pid: mode("pid", NamespaceMode::Container),
                ipc: NamespaceMode::Pod as i32,
                target_id: String::new(),
            }),
            ..LinuxSandboxSecurityContext::default()
        };
        change(&mut security);
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata::named(name)),
            hostname: if mode("network", NamespaceMode::Pod) == 0 { name.to_owned() } else { String::new() },
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup.clone(),
                security_context: Some(security),
                ..LinuxPodSandboxConfig::default()
            }),
        };
        let id = self.cri().run_pod(&config)?;
        Ok(Pod { node: self, id, config })
    }

    /// A process of the node's PID namespace, in our /proc.
    fn process(&self, pid: &str) -> PathBuf {
        Path::new("/proc").join(self.containerd.first_process().to_string()).join("root/proc").join(pid)
    }

    fn namespace(&self, kind: &str) -> Result<String, Failed> {
        namespace(&self.process("1"), kind)
    }

    fn gone_back_to(&self, before: &[String]) -> Result<(), Failed> {
        let mut left = Vec::new();
        for _ in 0..100 {
            left = self.left()?;
            if left == before {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err(format!("before: {before:?}\nleft: {left:?}").into())
    }

    /// What pods leave while they are there: processes, mounts, cgroups, links, addresses.
    fn left(&self) -> Result<Vec<String>, Failed> {
        let mut left = Vec::new();
        let all = fs::read_dir(self.process(""))?.filter_map(Result::ok).map(|entry| entry.path());
        let names = all.filter_map(|process| fs::read_to_string(process.join("comm")).ok());
        left.extend(
            names.filter(|name| ["pause\n", "sleep\n", "containerd-shim\n"].contains(&name.as_str())),
        );
        let mounts = fs::read_to_string(self.process("1/mountinfo"))?;
        left.extend(mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned));
        let devices = fs::read_to_string(self.process("1/net/dev"))?;
        left.extend(devices.lines().filter(|line| line.trim().starts_with("veth")).map(str::to_owned));
        let pids = Path::new("/sys/fs/cgroup/pids").join(self.cgroup.trim_start_matches('/'));
        left.extend(fs::read_dir(pids).into_iter().flatten().filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_type().ok()?.is_dir().then(|| entry.path().display().to_string())
        }));
        left.sort_unstable();
        Ok(left)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for pod in self.cri().pods().unwrap_or_default() {
            self.cri().stop_pod(&pod.id).ok();
            self.cri().remove_pod(&pod.id).ok();
        }
        let controllers = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok);
        for controller in controllers {
            fs::remove_dir(controller.path().join(self.cgroup.trim_start_matches('/'))).ok();
        }
    }
}

/// A sandbox.
struct Pod<'a> {
    node: &'a Node,
    id: String,
    config: PodSandboxConfig,
}

impl Pod<'_> {
    /// Its pause, in our /proc.
    fn pause(&self) -> Result<PathBuf, Failed> {
        let status = self.node.cri().pod(&self.id)?;
        let info: Value = serde_json::from_str(status.info.get("info").ok_or("no info")?)?;
        Ok(self.node.process(&info["pid"].to_string()))
    }

    fn namespace(&self, kind: &str) -> Result<String, Failed> {
        namespace(&self.pause()?, kind)
    }

    fn address(&self) -> Result<String, Failed> {
        Ok(self.node.cri().pod(&self.id)?.network.map(|network| network.ip).unwrap_or_default())
    }

    /// A container that sleeps.
    fn container(
        &self,
        name: &str,
        pid: NamespaceMode,
        change: impl FnOnce(&mut LinuxContainerSecurityContext),
    ) -> Result<String, Failed> {
        let mut security = LinuxContainerSecurityContext {
            namespace_options: Some(NamespaceOption { pid: pid as i32, ..NamespaceOption::default() }),
            ..LinuxContainerSecurityContext::default()
        };
        change(&mut security);
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: SHELL.to_owned() }),
            command: ["sleep", "100000"].map(str::to_owned).into(),
            linux: Some(LinuxContainerConfig { security_context: Some(security) }),
        };
        Ok(self.node.cri().run_container(&self.id, &self.config, config)?)
    }

    fn exec(&self, container: &str, script: &str) -> Result<String, Failed> {
        Ok(self.node.cri().exec(container, &["sh", "-c", script])?)
    }

    fn remove(self) -> Result<(), Failed> {
        self.node.cri().stop_pod(&self.id)?;
        Ok(self.node.cri().remove_pod(&self.id)?)
    }
}

fn namespace(process: &Path, kind: &str) -> Result<String, Failed> {
    Ok(format!("{}\n", fs::read_link(process.join("ns").join(kind))?.display()))
}
