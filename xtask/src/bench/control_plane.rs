//! An API server and its etcd, filled faster than any client of theirs could.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use kernel_io::process::{Launch, Process, Signal};
use serde_json::{Value, json};

use super::client::Client;
use crate::workspace::{output, root};

const ETCD: &str = "http://127.0.0.1:2379";
const PATIENCE: Duration = Duration::from_mins(1);
const TOKEN: &str = "bench-token";

/// Where the server listens.
pub(super) const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);

/// Both run in the namespace of who starts them, and end with this.
pub(super) struct ControlPlane {
    folder: PathBuf,
    running: [Process; 2],
}

impl ControlPlane {
    /// Answers once the server does.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let path = |name: &str| folder.join(name).display().to_string();
        fs::write(path("tokens.csv"), format!("{TOKEN},bench,1,system:masters\n"))?;
        let key = path("sa.key");
        let mut openssl = Command::new("openssl");
        output(openssl.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]))?;
        let mut etcd = Command::new("etcd");
        etcd.args(["--unsafe-no-fsync", "--listen-peer-urls=http://127.0.0.1:2380", "--data-dir"]);
        etcd.arg(path("etcd")).args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
        let mut server = Command::new(program("kube-apiserver")?);
        server.args([
            "--service-cluster-ip-range=10.96.0.0/12",
            "--service-account-issuer=https://fairlead.bench",
            "--authorization-mode=AlwaysAllow",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            "--bind-address=127.0.0.1",
            "--advertise-address=192.0.2.1",
        ]);
        server.args(["--etcd-servers", ETCD, "--cert-dir", &path("certs")]);
        server.args(["--service-account-key-file", &key, "--service-account-signing-key-file", &key]);
        server.args(["--token-auth-file", &path("tokens.csv")]);
        let start = |command, log: &str| start(command, &folder.join(log));
        let running = [start(etcd, "etcd.log")?, start(server, "kube-apiserver.log")?];
        let control_plane = Self { folder: folder.to_owned(), running };
        control_plane.write_kubeconfig(SERVER.port(), &control_plane.kubeconfig())?;
        control_plane.wait()?;
        Ok(control_plane)
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Creates an object as a user does.
    pub(super) fn create(&self, object: &Value) -> Result<()> {
        let file = self.folder.join("object.json");
        fs::write(&file, object.to_string())?;
        self.kubectl(&["create", "--filename", &file.display().to_string()])
    }

    /// Writes objects where a server keeps them, by their keys there.
    pub(super) fn fill(objects: impl Iterator<Item = (String, Value)>) -> Result<()> {
        let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], 2379)))?;
        let answers = BufReader::new(stream.try_clone()?);
        let reader = thread::spawn(move || accepted(answers));
        let mut requests = BufWriter::new(stream);
        let mut sent = 0;
        for (key, object) in objects {
            let encoded = |text: &str| BASE64.encode(text.as_bytes());
            let body = json!({ "key": encoded(&key), "value": encoded(&object.to_string()) }).to_string();
            let length = body.len();
            write!(
                requests,
                "POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}"
            )?;
            sent += 1;
        }
        write!(requests, "GET /version HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n")?;
        requests.flush()?;
        drop(requests);
        let accepted = reader.join().expect("it does not panic")?;
        ensure!(accepted == sent + 1, "etcd accepted {accepted} requests of {}", sent + 1);
        Ok(())
    }

    /// Leads to the server by a port where somebody is between.
    pub(super) fn kubeconfig_by(&self, port: u16) -> Result<PathBuf> {
        let file = self.folder.join(format!("kubeconfig-{port}"));
        self.write_kubeconfig(port, &file)?;
        Ok(file)
    }

    /// One that asks for no more than it must.
    pub(super) fn client(&self) -> Result<Client> {
        Client::new(&self.authority(), TOKEN)
    }

    fn authority(&self) -> PathBuf {
        self.folder.join("certs/apiserver.crt")
    }

    fn write_kubeconfig(&self, port: u16, file: &Path) -> Result<()> {
        let server = format!("https://127.0.0.1:{port}");
        let authority = self.authority();
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{ "name": "it", "cluster": { "server": server, "certificate-authority": authority } }],
            "users": [{ "name": "it", "user": { "token": TOKEN } }],
            "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
        });
        fs::write(file, config.to_string()).context("write a kubeconfig")
    }

    fn wait(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.kubectl(&["get", "--raw", "/readyz"]) {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > PATIENCE => return Err(error.context("the API server")),
                Err(_) => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        let mut kubectl = Command::new(program("kubectl")?);
        kubectl.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments).env("HOME", &self.folder);
        output(&mut kubectl).map(drop)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for process in self.running.iter().rev() {
            // One that has ended by itself needs no signal.
            let _ = process.signal(Signal::KILL);
            process.wait();
        }
    }
}

/// A program that came with the server.
pub(super) fn program(name: &str) -> Result<PathBuf> {
    let programs = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let program = programs.unwrap_or_else(|| root().join("target/cluster")).join(name);
    ensure!(
        program.exists(),
        "{} is not there; the cluster tests build it: cargo test -p fairlead --test cluster",
        program.display()
    );
    Ok(program)
}

fn start(mut command: Command, log: &Path) -> Result<Process> {
    let file = File::create(log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    Ok(Launch::new(command).dying_with_us().start()?.process)
}

/// How many requests were answered well, once the other side closes.
fn accepted(mut answers: impl Read) -> Result<usize> {
    let mut text = Vec::new();
    answers.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).matches("HTTP/1.1 200").count())
}
