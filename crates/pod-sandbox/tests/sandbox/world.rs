//! A node for the tests, pods on it, and the eyes that look for what is left behind.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kernel_io::link::{Link, LinkEntry, Links};
use kernel_io::netns::Netns;
use kernel_io::sysctl;
use pod_sandbox::{
    Adopted, Network, Node, NodeSettings, PidSharing, PodName, PodNetwork, Resources, Sandbox, SandboxSpec,
};

/// A node in a network namespace of its own, with a root of its own, that is empty again when it goes.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) netns: Netns,
    root: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With other settings than a test needs mostly.
    pub(crate) fn with(change: impl FnOnce(&mut NodeSettings)) -> Self {
        let netns = node_netns();
        let root = tempfile::Builder::new().prefix("sandbox-test-").tempdir().expect("a directory");
        let settings = settings(root.path(), change);
        let node = netns.run(|| Node::open(settings)).expect("entered").expect("a node");
        Self { node, netns, root }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn made(&self, spec: &SandboxSpec) -> Made {
        let sandbox = Sandbox::create(spec, &self.node).unwrap_or_else(|error| panic!("{error}"));
        Made(Some(sandbox))
    }

    /// Fails if anything of any sandbox is still there.
    pub(crate) fn assert_empty(&self) {
        let links = Links::of(&self.netns).and_then(|mut links| links.list()).expect("the node's links");
        assert!(links.iter().all(|LinkEntry { name, .. }| name == "lo"), "links are left: {links:?}");
        for directory in ["sandboxes", "pool"] {
            let left: Vec<_> = fs::read_dir(self.root().join(directory)).expect("read").collect();
            assert!(left.is_empty(), "{directory}: {left:?}");
        }
        let mounts = fs::read_to_string("/proc/self/mounts").expect("read");
        let root = self.root().to_string_lossy().into_owned();
        let left: Vec<_> = mounts.lines().filter(|line| line.contains(&root)).collect();
        assert!(left.is_empty(), "mounts are left: {left:?}");
        soon("no pause of ours is left", || pauses_that_see(&root).is_empty());
        let groups = directories_called(&self.node.settings().cgroup, Path::new("/sys/fs/cgroup"), 3);
        assert!(groups.is_empty(), "cgroups are left: {groups:?}");
    }
}

impl Drop for World {
    /// Whatever a test that failed left.
    fn drop(&mut self) {
        for (name, _) in Sandbox::adopt_all(&self.node).into_iter().flatten() {
            if let Ok(Adopted::Standing(mut sandbox)) = Sandbox::adopt(&name, &self.node) {
                let _ = sandbox.remove();
            }
        }
    }
}

/// A sandbox that goes with the test.
pub(crate) struct Made(Option<Sandbox>);

impl Deref for Made {
    type Target = Sandbox;
    fn deref(&self) -> &Sandbox {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for Made {
    fn deref_mut(&mut self) -> &mut Sandbox {
        self.0.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(mut sandbox) = self.0.take() {
            let removed = sandbox.remove();
            if !thread::panicking() {
                removed.unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}

/// The settings of a test's node: its own cgroup, no CNI, small ranges.
pub(crate) fn settings(root: &Path, change: impl FnOnce(&mut NodeSettings)) -> NodeSettings {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let mut settings = NodeSettings::at(root);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    settings.cgroup = format!("fairlead-test-{}-{count}", std::process::id());
    settings.ranges = ["10.1.0.0/24", "fd00:1::/64"].map(|range| range.parse().expect("a range")).to_vec();
    settings.cni.configurations = root.join("net.d");
    settings.resolv_conf = root.join("node-resolv.conf");
    settings.hosts = root.join("node-hosts");
    fs::write(&settings.resolv_conf, "nameserver 192.0.2.53\nsearch example.org\n").expect("written");
    fs::write(&settings.hosts, "127.0.0.1 localhost\n192.0.2.1 node\n").expect("written");
    change(&mut settings);
    settings
}

/// A node's network namespace, with forwarding and an address of each family to speak from.
pub(crate) fn node_netns() -> Netns {
    let node = Netns::new().expect("a namespace");
    let set = node.run(|| {
        sysctl::write("net.ipv4.ip_forward", "1")?;
        sysctl::write("net.ipv6.conf.all.forwarding", "1")?;
        sysctl::write("net.ipv4.conf.all.rp_filter", "0")?;
        sysctl::write("net.ipv4.conf.default.rp_filter", "0")
    });
    set.expect("entered").expect("set");
    for address in ["192.0.2.1/32", "fd00:2::1/128"] {
        let address = address.parse().expect("an address");
        Link::loopback(&node).add_address(address).expect("an address");
    }
    node
}

/// A pod called pod-N with the addresses 10.1.0.N and `fd00:1::N`, whose containers share their processes.
pub(crate) fn spec(number: u8) -> SandboxSpec {
    let name = format!("pod-{number}");
    let pod = PodName { namespace: "tests".to_owned(), name: name.clone(), uid: format!("uid-{number}") };
    SandboxSpec {
        pids: PidSharing::Pod,
        network: Network::Pod(PodNetwork {
            addresses: vec![
                IpAddr::from([10, 1, 0, number]),
                IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, u16::from(number)]),
            ],
            ..PodNetwork::default()
        }),
        resources: Resources { memory: Some(256 << 20), pids: Some(64), ..Resources::default() },
        ..SandboxSpec::new(&name, pod)
    }
}

pub(crate) fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdout(Stdio::piped());
    command
}

/// What a script says inside a pod.
pub(crate) fn said(sandbox: &Sandbox, script: &str) -> String {
    let started = sandbox.join("shell", shell(script)).expect("joined");
    let mut text = String::new();
    started.stdout.expect("piped").read_to_string(&mut text).expect("read");
    assert!(started.process.wait().success(), "{text}");
    text
}

/// Opens a connection from one namespace to an address in another; no packet may be lost on the way.
pub(crate) fn connects(from: &Netns, to: &Netns, at: &str) {
    let at: SocketAddr = at.parse().expect("an address and port");
    let listener = to.run(|| TcpListener::bind(at)).expect("entered").expect("listens");
    let connected = from.run(|| {
        let before = retransmissions();
        let connected = TcpStream::connect_timeout(&at, Duration::from_secs(5));
        (connected, retransmissions() - before)
    });
    let (connected, retransmissions) = connected.expect("entered");
    connected.unwrap_or_else(|error| panic!("connect to {at}: {error}"));
    assert_eq!(retransmissions, 0, "a packet was lost on the way to {at}");
    drop(listener);
}

/// TCP segments that had to be sent again in the calling thread's network namespace.
fn retransmissions() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").expect("read");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: ").map(str::split_whitespace));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let value = names.zip(values).find_map(|(name, value)| (name == "RetransSegs").then_some(value));
    value.and_then(|value| value.parse().ok()).expect("the counter")
}

/// Fails if the condition does not come about soon.
pub(crate) fn soon(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Processes, and the namespaces that they were in.
#[derive(Default)]
pub(crate) struct Traces {
    /// Of each namespace that is not the test's own: its kind and number.
    namespaces: Vec<PathBuf>,
    pids: Vec<u32>,
}

impl Traces {
    /// Notes a process and its namespaces.
    pub(crate) fn note(&mut self, pid: u32) {
        self.pids.push(pid);
        for kind in ["net", "ipc", "uts", "pid", "mnt", "user"] {
            let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
            if let (Ok(theirs), Ok(ours)) = (link(&pid.to_string()), link("self"))
                && theirs != ours
            {
                self.namespaces.push(theirs);
            }
        }
    }

    /// Fails if anything of it is still there.
    pub(crate) fn assert_gone(&self) {
        for pid in &self.pids {
            soon(&format!("process {pid} is left"), || !Path::new(&format!("/proc/{pid}")).exists());
        }
        for namespace in &self.namespaces {
            soon(&format!("namespace {} is left", namespace.display()), || !is_used(namespace));
        }
    }
}

/// The processes called pause whose root lies below a directory, wherever they are.
fn pauses_that_see(root: &str) -> Vec<String> {
    let is_called_pause =
        |pid: &String| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "pause\n");
    let sees = |pid: &String| {
        fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|mounts| mounts.contains(root))
    };
    let pids =
        fs::read_dir("/proc").expect("read").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    pids.filter(|pid| pid.parse::<u32>().is_ok()).filter(is_called_pause).filter(sees).collect()
}

/// Whether a thread of any process is in a namespace.
fn is_used(namespace: &Path) -> bool {
    let kind = namespace.to_string_lossy();
    let kind = kind.split(':').next().unwrap_or_default().to_owned();
    let threads = fs::read_dir("/proc")
        .expect("read")
        .filter_map(Result::ok)
        .filter_map(|process| fs::read_dir(process.path().join("task")).ok());
    threads.flatten().filter_map(Result::ok).any(|thread| {
        fs::read_link(thread.path().join("ns").join(&kind)).is_ok_and(|link| link == *namespace)
    })
}

fn directories_called(name: &str, root: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().filter_map(Result::ok) {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(entry.path());
        } else if depth > 0 {
            found.extend(directories_called(name, &entry.path(), depth - 1));
        }
    }
    found
}
