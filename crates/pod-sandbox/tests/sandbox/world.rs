//! A node for the tests, pods on it, and the eyes that look for what is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kernel_io::cgroup::Cgroups;
use kernel_io::link::{Link, LinkEntry, Links};
use kernel_io::netns::Netns;
use kernel_io::sysctl;
use pod_sandbox::{Limits, Linux, Network, PidSharing, PodNetwork, Sandbox, SandboxSpec, run, steps};

/// A node's network namespace, with forwarding and an address of each family to speak from.
pub(crate) fn node() -> Netns {
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

/// A pod with the addresses 10.1.0.N and `fd00:1::N`, and a name that no other test's pod has.
pub(crate) fn spec(number: u8) -> SandboxSpec {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let unique = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    SandboxSpec {
        name: format!("test-{unique}"),
        hostname: format!("pod-{number}"),
        pids: PidSharing::Pod,
        network: Network::Pod(PodNetwork {
            node_link: format!("pod{number}"),
            addresses: vec![
                IpAddr::from([10, 1, 0, number]),
                IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, u16::from(number)]),
            ],
        }),
        sysctls: BTreeMap::new(),
        limits: Limits { memory: Some(256 << 20), pids: Some(64) },
        pause: pause(),
    }
}

/// The real pause, which is built by itself.
pub(crate) fn pause() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dist/pause");
    let path = std::env::var_os("FAIRLEAD_PAUSE").map_or(built, PathBuf::from);
    path.canonicalize().unwrap_or_else(|_| panic!("{} is not there: run cargo xtask build", path.display()))
}

pub(crate) fn linux(node: &Netns) -> Linux {
    Linux::new(node.clone(), Cgroups::detect().expect("cgroups"))
}

pub(crate) fn made(node: &Netns, spec: &SandboxSpec) -> Sandbox {
    run(steps(spec), linux(node)).unwrap_or_else(|error| panic!("{error}: {:?}", error.cause))
}

pub(crate) fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdout(Stdio::piped());
    command
}

/// What a script says inside a pod.
pub(crate) fn said(sandbox: &Sandbox, script: &str) -> String {
    let started = sandbox.join(shell(script)).expect("joined");
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

/// What one sandbox put into the world.
pub(crate) struct Traces {
    name: String,
    /// Of each namespace that is not the test's own: its kind and number.
    namespaces: Vec<PathBuf>,
    pids: Vec<u32>,
}

impl Traces {
    /// Of a sandbox of which nothing but the name is known.
    pub(crate) fn named(spec: &SandboxSpec) -> Self {
        Self { name: spec.name.clone(), namespaces: Vec::new(), pids: Vec::new() }
    }

    /// Notes a process and its namespaces.
    pub(crate) fn note(&mut self, pid: u32) {
        self.pids.push(pid);
        for kind in ["net", "ipc", "uts", "pid", "mnt"] {
            let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
            if let (Ok(theirs), Ok(ours)) = (link(&pid.to_string()), link("self"))
                && theirs != ours
            {
                self.namespaces.push(theirs);
            }
        }
    }

    /// Fails if anything of it is still there.
    pub(crate) fn assert_gone(&self, node: &Netns) {
        let links = Links::of(node).and_then(|mut links| links.list()).expect("the node's links");
        assert!(links.iter().all(|LinkEntry { name, .. }| name == "lo"), "links are left: {links:?}");
        for pid in &self.pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
        }
        let groups = directories_called(&self.name, Path::new("/sys/fs/cgroup"), 6);
        assert!(groups.is_empty(), "cgroups are left: {groups:?}");
        for namespace in &self.namespaces {
            soon(&format!("namespace {} is left", namespace.display()), || !is_used(namespace));
        }
    }
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
