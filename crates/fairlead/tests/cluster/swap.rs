//! A real kube-proxy on a node, stopped, ours in its place with the same file and flags, and back, while clients
//! of the node and of a pod make requests all the time and each holds a connection.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kernel_io::netns::Netns;
use rustix::process::Signal;

use crate::acts;
use crate::cluster::{Cluster, Process, until};
use crate::node::Node;

pub(crate) fn iptables(cluster: &mut Cluster) {
    play(cluster, "iptables", 8);
}

pub(crate) fn nftables(cluster: &mut Cluster) {
    play(cluster, "nftables", 9);
}

/// kube-proxy, ours, kube-proxy, ours: each step with the same command line but the program. The node of this number
/// has no proxy of its own.
fn play(cluster: &mut Cluster, mode: &str, number: u8) {
    let node = Node::join(cluster, number);
    cluster.apply(&node.manifest());
    let name = format!("swapped-{mode}");
    let at = acts::create(cluster, &name, 50 + number, &[1, 2]);
    let echo_at = create_echo(cluster, mode, 60 + number);
    let stage = Stage { cluster, node: &node, mode, config: config(cluster, mode) };
    let mut kube_proxy = stage.started("kube-proxy");
    node.until_served_by(at, &[1, 2]);
    until("the echo is served", || node.netns.run(|| Held::open(echo_at)).expect("entered").is_ok());
    stage.until_rules_are_of("kube-proxy");
    let clients = [&node.netns, &node.pod].map(|netns| Clients::start(netns, at, echo_at));
    for turn in 1..=2 {
        kube_proxy.end(Signal::TERM);
        let mut fairlead = stage.started("fairlead");
        stage.until_rules_are_of("fairlead");
        cluster.apply(&acts::slice(&name, &[2]));
        node.until_served_by(at, &[2]);
        cluster.apply(&acts::slice(&name, &[1, 2]));
        node.until_served_by(at, &[1, 2]);
        clients.iter().for_each(Clients::expect_well);
        fairlead.end(Signal::TERM);
        if turn == 2 {
            break;
        }
        kube_proxy = stage.started("kube-proxy");
        stage.hand_back(&at.ip().to_string());
        stage.until_rules_are_of("kube-proxy");
        cluster.apply(&acts::slice(&name, &[1]));
        node.until_served_by(at, &[1]);
        cluster.apply(&acts::slice(&name, &[1, 2]));
        node.until_served_by(at, &[1, 2]);
        clients.iter().for_each(Clients::expect_well);
    }
    for clients in clients {
        clients.end();
    }
}

struct Stage<'a> {
    cluster: &'a Cluster,
    node: &'a Node,
    mode: &'a str,
    config: String,
}

impl Stage<'_> {
    /// Starts one of the two, told the same.
    fn started(&self, program: &str) -> Process {
        let mut command = if program == "kube-proxy" {
            self.cluster.assets.command(program)
        } else {
            let mut command = Command::new(env!("CARGO_BIN_EXE_fairlead"));
            command.arg("proxy");
            command
        };
        command.args(["--config", &self.config, "--hostname-override", &self.node.name, "--v=2"]);
        command.env("XTABLES_LOCKFILE", self.cluster.path("swap.lock"));
        let log = self.cluster.path(&format!("{program}-{}.log", self.mode));
        self.node.netns.run(|| crate::cluster::spawn(command, &log)).expect("entered")
    }

    /// Waits until the rules are those of one of the two, and nothing of the other is left: no table, no chain that
    /// nothing leads to, no mark of who was here before.
    fn until_rules_are_of(&self, program: &str) {
        let start = Instant::now();
        loop {
            let strange = self.strange(program);
            if strange.is_empty() {
                return;
            }
            assert!(start.elapsed() < Duration::from_mins(1), "after a minute of {program}: {strange:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What does not belong to this program's rules in this mode.
    fn strange(&self, program: &str) -> Vec<String> {
        let tables = self.run("nft", &["list", "tables"]);
        let wanted: &[&str] = match (self.mode, program) {
            ("nftables", "kube-proxy") => &["table ip kube-proxy", "table ip6 kube-proxy"],
            ("nftables", _) => &["table ip fairlead", "table ip6 fairlead"],
            _ => &[],
        };
        // The tables in which iptables keeps its rules have its own names.
        let of_modes = |table: &&str| table.ends_with("kube-proxy") || table.ends_with("fairlead");
        let found: BTreeSet<&str> = tables.lines().filter(of_modes).collect();
        let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
        let mut strange: Vec<String> =
            found.symmetric_difference(&wanted).map(|&table| table.to_owned()).collect();
        for tool in ["iptables-save", "ip6tables-save"] {
            let rules = self.run(tool, &[]);
            strange.extend(orphans(&rules));
            let has_services = rules.contains(":KUBE-SERVICES");
            if has_services != (self.mode == "iptables") {
                strange.push(format!("{tool}: KUBE-SERVICES there: {has_services}"));
            }
        }
        strange
    }

    /// What an operator does besides, on the way back (docs/takeover.md): in nftables mode each has a table of its
    /// own, and kube-proxy knows nothing of ours.
    fn hand_back(&self, cluster_ip: &str) {
        if self.mode != "nftables" {
            return;
        }
        until("kube-proxy has written its table", || {
            self.run("nft", &["list", "table", "ip", "kube-proxy"]).contains(cluster_ip)
        });
        for family in ["ip", "ip6"] {
            self.run("nft", &["delete", "table", family, "fairlead"]);
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments).env("XTABLES_LOCKFILE", self.cluster.path("swap.lock"));
        let Output { stdout, .. } =
            self.node.netns.run(|| command.output().expect("it starts")).expect("entered");
        String::from_utf8(stdout).expect("text")
    }
}

/// Chains of a proxy that no rule leads to. What a proxy keeps for others to lead to, or to see that it was flushed,
/// is none.
fn orphans(rules: &str) -> Vec<String> {
    const FOR_OTHERS: [&str; 5] = [
        "KUBE-MARK-MASQ",
        "KUBE-KUBELET-CANARY",
        "KUBE-PROXY-CANARY",
        "KUBE-IPTABLES-HINT",
        "KUBE-MARK-DROP",
    ];
    let mut orphans = Vec::new();
    for table in rules.split("COMMIT") {
        let chains = table.lines().filter_map(|line| line.strip_prefix(":KUBE-")?.split(' ').next());
        for chain in chains.map(|chain| format!("KUBE-{chain}")) {
            let leads_there =
                |line: &str| line.starts_with("-A") && line.split(' ').any(|word| word == chain);
            let jump = format!("-j {chain}");
            let is_led_to = table.lines().any(|line| leads_there(line) && line.ends_with(&jump));
            if !is_led_to && !FOR_OTHERS.contains(&chain.as_str()) {
                orphans.push(chain);
            }
        }
    }
    orphans
}

/// As kubeadm writes it, without what a namespace may not set.
fn config(cluster: &Cluster, mode: &str) -> String {
    let path = cluster.path(&format!("swap-{mode}.conf"));
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
         clientConnection: {{kubeconfig: {}}}\nclusterCIDR: 10.244.0.0/16\nmode: {mode}\n\
         conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}\n",
        cluster.path("proxy.kubeconfig").display()
    );
    fs::write(&path, text).expect("a written file");
    path.display().to_string()
}

/// A Service whose pod, the first one, sends back what it is sent. Answers where it is served.
fn create_echo(cluster: &Cluster, mode: &str, number: u8) -> SocketAddr {
    let (ip, pod) = (Ipv4Addr::new(10, 96, 1, number), Node::pod_ip_of(1));
    // Those who hold a connection hold the port, too.
    let (name, port) = (format!("held-{mode}"), 8100 + u16::from(number));
    serve_echo(&cluster.nodes[0].pod, SocketAddr::from((pod, port)));
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}},\n\
         spec: {{clusterIP: {ip}, ports: [{{port: 80, targetPort: {port}}}]}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice,\n\
         metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}},\n\
         addressType: IPv4, ports: [{{name: \"\", port: {port}}}], endpoints: [{{addresses: [{pod}]}}]}}\n"
    ));
    SocketAddr::from((ip, 80))
}

/// Sends back to everybody what it is sent, until the tests end.
fn serve_echo(pod: &Netns, at: SocketAddr) {
    let listener = pod.run(|| TcpListener::bind(at).expect("a port")).expect("entered");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
}

/// A connection that is held, and spoken through.
struct Held(TcpStream);

impl Held {
    fn open(at: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut held = Self(stream);
        held.speak()?;
        Ok(held)
    }

    fn speak(&mut self) -> io::Result<()> {
        self.0.write_all(b"are you there?")?;
        self.0.read_exact(&mut [0; 14])
    }
}

/// Those in one namespace: one makes requests all the time, one holds a connection.
struct Clients {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<Asked>,
    holding: JoinHandle<Asked>,
}

/// How often somebody asked, and each time that it was in vain.
#[derive(Debug, Default)]
struct Asked {
    well: u32,
    in_vain: Vec<String>,
}

impl Asked {
    fn note(&mut self, outcome: io::Result<()>, start: Instant) {
        match outcome {
            Ok(()) => self.well += 1,
            Err(error) => self.in_vain.push(format!("after {:?}: {error}", start.elapsed())),
        }
    }
}

impl Clients {
    fn start(netns: &Netns, at: SocketAddr, echo_at: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let until_stopped = |mut ask: Box<dyn FnMut() -> io::Result<()> + Send>| {
            let (netns, stop) = (netns.clone(), Arc::clone(&stop));
            let work = move || {
                let mut asked = Asked::default();
                while !stop.load(Ordering::Relaxed) {
                    asked.note(ask(), start);
                    thread::sleep(Duration::from_millis(2));
                }
                asked
            };
            thread::spawn(move || netns.run(work).expect("entered"))
        };
        let mut held = netns.run(|| Held::open(echo_at)).expect("entered").expect("a connection");
        let holding = until_stopped(Box::new(move || held.speak()));
        let asking = until_stopped(Box::new(move || request(at)));
        Self { stop, asking, holding }
    }

    /// None of them has given up.
    fn expect_well(&self) {
        assert!(!self.asking.is_finished() && !self.holding.is_finished(), "a client panicked");
    }

    /// Nobody asked in vain, and everybody asked often.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for (what, clients) in [("asking", self.asking), ("holding", self.holding)] {
            let asked = clients.join().expect("it does not panic");
            eprintln!("{what}: {} times well, {} in vain", asked.well, asked.in_vain.len());
            assert!(asked.in_vain.is_empty() && asked.well > 100, "{what}: {asked:?}");
        }
    }
}

/// A connection of its own, and the whole answer.
fn request(at: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("10.244.") { Ok(()) } else { Err(io::Error::other(format!("{answer:?}"))) }
}
