//! The control plane, in a namespace that is also the way between the nodes.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel_io::link::Link;
use kernel_io::netns::Netns;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::assets::Assets;
use crate::credentials;
use crate::node::{self, Node};

/// An address that every node reaches, whichever link it comes by.
pub(crate) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 18, 255, 1));
pub(crate) const PORT: u16 = 6443;

/// Who may what: the last one is known, and may nothing.
const TOKENS: &str = "admin-token,admin,1,system:masters\n\
                      proxy-token,system:kube-proxy,2\n\
                      blind-token,blind,3\n";

/// A cluster of two nodes.
pub(crate) struct Cluster {
    /// Empty while the API server is away.
    server: Option<Process>,
    etcd: Option<Process>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) netns: Netns,
    pub(crate) assets: Assets,
    pub(crate) directory: TempDir,
    etcd_data: u32,
}

/// A program that ends with this.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Cluster {
    /// A server that answers, and nodes whose proxies serve.
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("fairlead-cluster-").tempdir().expect("a directory");
        let netns = Netns::new().expect("a namespace");
        node::route(&netns);
        Link::loopback(&netns).add_address(IpNet::from(SERVER)).expect("the server's address");
        let mut cluster = Self {
            server: None,
            etcd: None,
            nodes: Vec::new(),
            netns,
            assets: Assets::get(),
            directory,
            etcd_data: 0,
        };
        cluster.write_secrets();
        cluster.start_etcd();
        cluster.start_server();
        cluster.add_nodes();
        cluster
    }

    fn write_secrets(&self) {
        self.write_tokens("");
        credentials::write_authority(self.directory.path());
        let key = self.path("sa.key");
        let mut openssl = Command::new("openssl");
        openssl.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]).arg(&key);
        assert!(openssl.stderr(Stdio::null()).status().expect("openssl starts").success(), "a key");
        for user in ["admin", "proxy", "blind"] {
            self.write_kubeconfig(user, &format!("{user}-token"));
        }
    }

    /// The tokens that the next server believes: everybody's, and more.
    pub(crate) fn write_tokens(&self, more: &str) {
        fs::write(self.path("tokens.csv"), format!("{TOKENS}{more}")).expect("a written file");
    }

    /// A kubeconfig for a user; the file of that name is answered.
    pub(crate) fn write_kubeconfig(&self, user: &str, token: &str) -> PathBuf {
        self.write_kubeconfig_of(user, "", &format!("token: {token}"))
    }

    /// A kubeconfig with more fields of the cluster, and those of the user.
    pub(crate) fn write_kubeconfig_of(&self, name: &str, cluster: &str, user: &str) -> PathBuf {
        let path = self.path(&format!("{name}.kubeconfig"));
        // The last of the two in the file is the authority.
        let authority = self.path("certs/apiserver.crt");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
             clusters: [{{name: it, cluster: {{server: \"https://{SERVER}:{PORT}\", certificate-authority: {}{cluster}}}}}]\n\
             users: [{{name: it, user: {{{user}}}}}]\n\
             contexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n",
            authority.display()
        );
        fs::write(&path, text).expect("a written file");
        path
    }

    pub(crate) fn start_etcd(&mut self) {
        let data = self.path(&format!("etcd-{}", self.etcd_data));
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(data).args([
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--max-txn-ops=1024",
        ]);
        self.etcd = Some(self.spawn(etcd, "etcd"));
        let at = SocketAddr::from(([127, 0, 0, 1], 2379));
        until("etcd answers", || self.netns.run(|| TcpStream::connect(at).is_ok()).expect("entered"));
    }

    pub(crate) fn start_server(&mut self) {
        let mut server = self.assets.command("kube-apiserver");
        server.args([
            "--etcd-servers=http://127.0.0.1:2379",
            "--service-cluster-ip-range=10.96.0.0/12,fd00:96::/108",
            "--service-account-issuer=https://fairlead.test",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            "--bind-address=0.0.0.0",
            "--allow-privileged=true",
        ]);
        server.arg(format!("--advertise-address={SERVER}")).arg(format!("--secure-port={PORT}"));
        for (flag, file) in [
            ("--service-account-key-file", "sa.key"),
            ("--service-account-signing-key-file", "sa.key"),
            ("--token-auth-file", "tokens.csv"),
            ("--client-ca-file", "clients.crt"),
            ("--cert-dir", "certs"),
        ] {
            server.arg(format!("{flag}={}", self.path(file).display()));
        }
        self.server = Some(self.spawn(server, "kube-apiserver"));
        until("the API server is ready", || {
            self.server.as_mut().expect("it was started").expect_alive();
            self.try_kubectl(&["get", "--raw", "/readyz"], "").status.success()
        });
    }

    /// Kills the server, as a crash would.
    pub(crate) fn kill_server(&mut self) {
        self.server = None;
    }

    /// Kills etcd, and forgets all that it held.
    pub(crate) fn wipe_etcd(&mut self) {
        self.etcd = None;
        self.etcd_data += 1;
    }

    fn add_nodes(&mut self) {
        let modes = ["iptables", "nftables"];
        for (number, mode) in (1..).zip(modes) {
            let node = Node::join(self, number);
            self.apply(&node.manifest());
            self.nodes.push(node);
            let process = self.start_proxy(&self.nodes[usize::from(number) - 1], mode);
            self.nodes[usize::from(number) - 1].proxy = Some(process);
        }
    }

    fn start_proxy(&self, node: &Node, mode: &str) -> Process {
        let mut proxy = self.proxy_command(node);
        proxy.arg("--proxy-mode").arg(mode);
        node.netns.run(|| spawn(proxy, &self.path(&format!("{}.log", node.name)))).expect("entered")
    }

    /// `fairlead proxy` on a node, without a mode.
    pub(crate) fn proxy_command(&self, node: &Node) -> Command {
        self.proxy_command_by(node, "config.conf", "")
    }

    /// The same with more fields in its configuration, whose file has a name of its own, since it is followed.
    pub(crate) fn proxy_command_by(&self, node: &Node, config: &str, fields: &str) -> Command {
        let config = self.path(config);
        let kubeconfig = self.path("proxy.kubeconfig");
        let text = format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
             clientConnection: {{kubeconfig: {}}}\nclusterCIDR: 10.244.0.0/16\nmode: \"\"\n\
             iptables: {{masqueradeBit: null, localhostNodePorts: null}}\nnodePortAddresses: null\n{fields}",
            kubeconfig.display()
        );
        fs::write(&config, text).expect("a written file");
        let mut proxy = Command::new(env!("CARGO_BIN_EXE_fairlead"));
        proxy.args(["proxy", "--hostname-override", &node.name, "--config"]).arg(config);
        proxy.env("XTABLES_LOCKFILE", self.path(&format!("{}.lock", node.name))).stdin(Stdio::null());
        proxy
    }

    /// kubectl with these arguments and this input, which must succeed; answers what it printed.
    pub(crate) fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_kubectl(arguments, input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "kubectl {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    pub(crate) fn apply(&self, manifest: &str) {
        self.kubectl(&["apply", "--server-side", "-f", "-"], manifest);
    }

    fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut kubectl = self.assets.command("kubectl");
        kubectl.arg("--kubeconfig").arg(self.path("admin.kubeconfig")).args(arguments);
        kubectl.env("HOME", self.directory.path());
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = || {
            let mut child = kubectl.spawn().expect("kubectl starts");
            // It may have ended without reading.
            let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
            child.wait_with_output().expect("kubectl ends")
        };
        self.netns.run(run).expect("entered")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spawn(&self, command: Command, name: &str) -> Process {
        self.netns.run(|| spawn(command, &self.path(&format!("{name}.log")))).expect("entered")
    }
}

/// Starts a program in the calling thread's namespace.
pub(crate) fn spawn(mut command: Command, log: &Path) -> Process {
    let file = File::options().create(true).append(true).open(log).expect("a log");
    command.stdin(Stdio::null()).stdout(file.try_clone().expect("a log")).stderr(file);
    Process { child: command.spawn().expect("it starts"), log: log.to_owned() }
}

impl Process {
    /// Expects that it has not ended by itself.
    pub(crate) fn expect_alive(&mut self) {
        let ended = self.child.try_wait().expect("a child of ours");
        assert_eq!(ended, None, "{}", self.log());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("a child of ours")
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn end(&mut self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a child of ours");
        until("it has ended", || self.child.try_wait().expect("a child of ours").is_some());
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}:\n{}", self.log.display(), lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// Waits for what must come, however slow the machine.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_mins(1), "{what} within a minute");
        thread::sleep(Duration::from_millis(50));
    }
}
