//! The stage: a node, a client outside, the pods of the example, and the proxy.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kernel_io::link::{Link, Route};
use kernel_io::netns::Netns;
use kernel_io::process::{Launch, Process, Signal};
use kernel_io::sysctl;
use pod_sandbox::{
    Network, Node, NodeSettings, PidSharing, PodName, PodNetwork, Resources, Sandbox, SandboxSpec,
};

use super::manifests::{Manifests, PodRecord};
use super::{Mode, http};
use crate::workspace::{dist, output};

/// Where the web server of a pod listens, and where the container beside it does.
pub(super) const WEB_PORT: u16 = 8080;
pub(super) const SIDE_PORT: u16 = 9090;

/// The node port of the Service web.
pub(super) const NODE_PORT: u16 = 30080;

/// The node's address towards the client outside, and the client's.
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// The range of the pods' addresses.
pub(super) const POD_RANGE: &str = "10.244.0.0/16";

pub(super) const MEMORY: u64 = 64 << 20;
pub(super) const PROCESSES: u64 = 64;

const PATIENCE: Duration = Duration::from_secs(10);

/// Everything that is there.
pub(super) struct Stage {
    pub(super) node: Netns,
    pub(super) outside: Netns,
    pub(super) pods: BTreeMap<String, Pod>,
    pub(super) manifests: Manifests,
    pub(super) mode: Mode,
    proxy: Option<Process>,
    log: PathBuf,
    sandboxes: Node,
}

/// A pod with its containers.
pub(super) struct Pod {
    pub(super) record: PodRecord,
    pub(super) sandbox: Sandbox,
}

impl Stage {
    pub(super) fn set(mode: Mode, cgroup: &str, folder: &Path) -> Result<Self> {
        let node = Netns::current()?;
        Link::loopback(&node).set_up()?;
        for (name, value) in [("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.all.rp_filter", "0")] {
            sysctl::write(name, value)?;
        }
        let outside = outside(&node)?;
        let files = folder.join("manifests");
        fs::create_dir(&files)?;
        let manifests = Manifests::copy(&files)?;
        let mut settings = NodeSettings::at(&folder.join("pods"));
        settings.cgroup = format!("fairlead/{cgroup}");
        // The network is the built-in one, whatever this machine has.
        settings.cni.configurations = folder.join("no-cni");
        let (log, sandboxes) = (folder.join("proxy.log"), Node::open(settings)?);
        Ok(Self { node, outside, pods: BTreeMap::new(), manifests, mode, proxy: None, log, sandboxes })
    }

    /// Starts a pod and its two containers, and waits until both answer.
    pub(super) fn start_pod(&mut self, record: &PodRecord) -> Result<()> {
        let name = PodName { name: record.name.clone(), ..PodName::default() };
        let spec = SandboxSpec {
            pids: PidSharing::Pod,
            network: Network::Pod(PodNetwork { addresses: vec![record.address], ..PodNetwork::default() }),
            resources: Resources { memory: Some(MEMORY), pids: Some(PROCESSES), ..Resources::default() },
            ..SandboxSpec::new(&record.name, name)
        };
        let sandbox = Sandbox::create(&spec, &self.sandboxes)?;
        for (name, arguments) in
            [("web", vec!["--port", "8080"]), ("side", vec!["--port", "9090", "--ask", "8080"])]
        {
            let mut container = Command::new(std::env::current_exe()?);
            container.arg("demo-container").args(arguments).stdin(Stdio::null());
            sandbox.join(name, container)?;
        }
        let pod = Pod { record: record.clone(), sandbox };
        until("the pod answers", || http::get(pod.at(SIDE_PORT)).is_ok())?;
        self.pods.insert(record.name.clone(), pod);
        Ok(())
    }

    pub(super) fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods.get(name).with_context(|| format!("there is a pod {name}"))
    }

    pub(super) fn start_proxy(&mut self) -> Result<()> {
        let mut command = Command::new(dist().join("fairlead"));
        command.arg("proxy").arg("--manifests").arg(self.manifests.folder());
        command.args(["--cluster-cidr", POD_RANGE, "--hostname-override", "node-1"]);
        command.args(["--proxy-mode", self.mode.name()]);
        command.stdin(Stdio::null()).stderr(File::create(&self.log)?);
        self.proxy = Some(Launch::new(command).dying_with_us().start()?.process);
        let last = self.manifests.pods()?.pop().context("there is a pod")?;
        self.await_endpoint(&last, Endpoint::Present)?;
        // What leads to the endpoint is not all: in the ipvs mode the addresses come last.
        let is_written = || {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            log.lines().any(|line| line.contains("family=IPv4") && line.contains("kernel brought to plan"))
        };
        until("the proxy has written the plan", is_written)
    }

    /// Waits until the proxy sends somebody, or nobody any more, to a pod. Answers how long it took.
    pub(super) fn await_endpoint(&self, pod: &PodRecord, wanted: Endpoint) -> Result<Duration> {
        let start = Instant::now();
        let as_wanted = || self.leads_to(pod).is_ok_and(|leads| leads == (wanted == Endpoint::Present));
        until("the proxy follows the manifests", as_wanted)
            .with_context(|| fs::read_to_string(&self.log).unwrap_or_default())?;
        Ok(start.elapsed())
    }

    /// Stops the proxy as a service manager would; the rules stay, and are then removed.
    pub(super) fn stop_proxy(&mut self) -> Result<()> {
        let Some(proxy) = self.proxy.take() else { bail!("the proxy does not run") };
        proxy.signal(Signal::TERM)?;
        let status = proxy.wait_for(PATIENCE).context("the proxy ends when told to")?;
        ensure!(status.success(), "the proxy ended with {status}");
        let answer = self.outside.run(|| http::get((NODE, NODE_PORT).into()))?;
        match self.mode {
            Mode::Userspace => ensure!(answer.is_err(), "somebody answers in place of the proxy"),
            Mode::Iptables | Mode::Nftables | Mode::Ipvs => {
                answer.context("traffic goes on without the proxy")?;
            }
        }
        output(Command::new(dist().join("fairlead")).args(["proxy", "--cleanup"])).map(drop)
    }
}

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// Whether the rules forward to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Present,
    Gone,
}

impl Pod {
    /// One of the pod's own ports.
    pub(super) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.record.address, port)
    }

    /// Runs a command inside the pod, to its end.
    pub(super) fn shell(&self, script: &str) -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        let status = self.sandbox.join("shell", command)?.process.wait();
        ensure!(status.success(), "{script:?} in pod {}: {status}", self.record.name);
        Ok(())
    }

    /// What `ps` shows inside the pod: process, parent, state and command.
    pub(super) fn processes(&self) -> Result<Vec<Vec<String>>> {
        let mut command = Command::new("ps");
        command.args(["-e", "-o", "pid=,ppid=,stat=,args="]).stdin(Stdio::null()).stdout(Stdio::piped());
        let started = self.sandbox.join("shell", command)?;
        let text = std::io::read_to_string(started.stdout.context("ps prints")?)?;
        started.process.wait();
        let cells = |line: &str| -> Vec<String> {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (fixed, command) = words.split_at(words.len().min(3));
            fixed.iter().map(ToString::to_string).chain([command.join(" ")]).collect()
        };
        Ok(text.lines().map(cells).filter(|cells| !cells[3].starts_with("ps -e")).collect())
    }
}

/// Waits for something.
pub(super) fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_so() {
        ensure!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Somebody who is not of the cluster, one hop away.
fn outside(node: &Netns) -> Result<Netns> {
    let outside = Netns::new()?;
    let (node_end, client_end) = Link::veth("outside", node, "eth0", &outside)?;
    for (link, address) in [(&node_end, NODE), (&client_end, CLIENT)] {
        link.add_address(format!("{address}/24").parse()?)?.set_up()?;
    }
    client_end.wait_running()?;
    client_end.add_route(&Route::default_via(NODE.into()))?;
    // A node sends to a cluster IP only if it has a way there at all, before the way is changed.
    node_end.wait_running()?.add_route(&Route::default_via(CLIENT.into()))?;
    Ok(outside)
}
