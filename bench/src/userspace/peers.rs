//! The proxies, each as a process of its own.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use kernel_io::Target;
use kernel_io::listeners::AddressBook;
use kernel_state::Change;
use kernel_state::listeners::{Key, Listener, Transport};
use relay::{Balancer, Mark, PortRange, Relay, Settings};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tempfile::TempDir;

use super::{Part, Service};

/// Who leads from a port to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Ours,
    Haproxy,
    Nginx,
    Naive,
}

/// A proxy that runs, until this is dropped.
pub(super) struct Running {
    offset: u16,
    child: Child,
    _directory: TempDir,
}

impl Peer {
    /// How far its ports are from those of the servers.
    fn offset(self) -> u16 {
        match self {
            Self::Ours => 100,
            Self::Haproxy => 200,
            Self::Nginx => 300,
            Self::Naive => 400,
        }
    }
}

impl Running {
    pub(super) fn start(peer: Peer) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("config");
        let mut command = match peer {
            Peer::Ours => part(Part::Relay)?,
            Peer::Naive => part(Part::Naive)?,
            Peer::Haproxy => {
                fs::write(&file, haproxy_config())?;
                let mut command = Command::new("haproxy");
                command.args(["-db", "-f"]).arg(&file);
                command
            }
            Peer::Nginx => {
                fs::write(&file, nginx_config(directory.path()))?;
                let mut command = Command::new("nginx");
                command.arg("-c").arg(&file);
                command
            }
        };
        let child = started(&mut command).with_context(|| format!("start {peer:?}"))?;
        let running = Self { offset: peer.offset(), child, _directory: directory };
        match peer {
            Peer::Ours | Peer::Haproxy | Peer::Nginx => reached(running.at(Service::Short))?,
            Peer::Naive => thread::sleep(Duration::from_millis(300)),
        }
        Ok(running)
    }

    /// A process of this program.
    pub(super) fn part(which: Part) -> Result<Self> {
        let child = started(&mut part(which)?)?;
        let running = Self { offset: 0, child, _directory: tempfile::tempdir()? };
        match which {
            Part::Servers => reached(running.at(Service::Short))?,
            Part::RelayOfMany => thread::sleep(Duration::from_secs(3)),
            Part::Relay | Part::Naive => {}
        }
        Ok(running)
    }

    /// Where it leads to a server.
    pub(super) fn at(&self, service: Service) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, service.port() + self.offset))
    }

    /// Seconds of the processor that it and its children have had so far.
    pub(super) fn processor_time(&self) -> Result<f64> {
        let ticks = rustix::param::clock_ticks_per_second();
        let mut all = 0;
        for pid in self.processes()? {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
            // utime and stime, the 14th and 15th field (proc(5)); the name in brackets is the 2nd.
            for field in [12, 13] {
                all += fields.get(field).context("a short stat")?.parse::<u64>()?;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "no run takes 2^52 ticks")]
        Ok(all as f64 / ticks as f64)
    }

    /// Bytes of memory that it and its children have.
    pub(super) fn memory(&self) -> Result<f64> {
        let mut all = 0.0;
        for pid in self.processes()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kilobytes = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
            all += kilobytes.parse::<f64>()? * 1024.0;
        }
        Ok(all)
    }

    fn processes(&self) -> Result<Vec<u32>> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let children = children.split_whitespace().map(|child| child.parse().context("a process number"));
        [Ok(pid)].into_iter().chain(children).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx takes its workers with it only when it is asked kindly.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our relay, with a listener for each server.
pub(super) fn relay() -> Result<()> {
    let relay = Relay::start(settings())?;
    let mut all = Vec::new();
    for service in Service::ALL {
        let port = service.port() + Peer::Ours.offset();
        let range = PortRange::Between(port, port);
        let mut listeners = relay.listeners(Ipv4Addr::LOCALHOST.into(), range, AddressBook::default());
        let transport = if service == Service::Echo { Transport::Udp } else { Transport::Tcp };
        listeners.write(&[opened(service.port(), transport, service.port())])?;
        all.push(listeners);
    }
    forever()
}

/// Our relay with as many listeners as a large cluster has service ports.
pub(super) fn relay_of_many() -> Result<()> {
    let relay = Relay::start(settings())?;
    let mut listeners = relay.listeners(Ipv4Addr::LOCALHOST.into(), PortRange::Any, AddressBook::default());
    let all: Vec<_> = (0..8000).map(|number| opened(number, Transport::Tcp, 9001)).collect();
    listeners.write(&all)?;
    forever()
}

fn settings() -> Settings {
    raise_limit();
    Settings {
        workers: 2,
        balancer: Balancer::RoundRobin,
        mark: Mark::None,
        udp_timeout: Duration::from_secs(5),
        drain_timeout: Duration::from_mins(15),
    }
}

fn opened(number: u16, transport: Transport, server: u16) -> Change<kernel_state::listeners::Listeners> {
    let endpoints = [SocketAddr::from((Ipv4Addr::LOCALHOST, server))].into();
    let key = Key::new(&format!("bench/{number}"), transport);
    Change::Put { key, value: Listener { endpoints, ..Listener::default() }, replaced: None }
}

/// Raises the limit of open files as far as it goes.
pub(super) fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // What is too little shows.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

pub(super) fn forever() -> ! {
    loop {
        thread::park();
    }
}

fn part(which: Part) -> Result<Command> {
    let name = which.to_possible_value().context("a part has a name")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["part", name.get_name()]);
    Ok(command)
}

fn started(command: &mut Command) -> Result<Child> {
    raise_limit();
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?)
}

/// Waits until a proxy and its server answer.
fn reached(at: SocketAddr) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if super::clients::short_once(at).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    let error = TcpStream::connect(at).err();
    bail!("nothing answers at {at}: {error:?}")
}

fn haproxy_config() -> String {
    let mut config = String::from(
        "global
  nbthread 2
  maxconn 9400
  tune.pipesize 262144
  maxpipes 250
defaults
  mode tcp
  option splice-request
  option splice-response
  option dontlognull
  timeout connect 5s
  timeout client 1h
  timeout server 1h
",
    );
    for service in Service::ALL.into_iter().filter(|service| *service != Service::Echo) {
        let (port, server) = (service.port() + Peer::Haproxy.offset(), service.port());
        let lines = format!("listen s{server}\n  bind 127.0.0.1:{port}\n  server s 127.0.0.1:{server}\n");
        config.push_str(&lines);
    }
    config
}

fn nginx_config(directory: &std::path::Path) -> Vec<u8> {
    let mut config = Vec::new();
    let mut write = |text: String| config.write_all(text.as_bytes()).expect("writing to a Vec cannot fail");
    write(format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
pid {}/pid;
error_log stderr crit;
events {{ worker_connections 9900; multi_accept on; }}
stream {{
  proxy_buffer_size 64k;
",
        directory.display()
    ));
    for service in Service::ALL {
        let (port, server) = (service.port() + Peer::Nginx.offset(), service.port());
        let kind = if service == Service::Echo { "udp reuseport" } else { "reuseport" };
        write(format!("  server {{ listen 127.0.0.1:{port} {kind}; proxy_pass 127.0.0.1:{server}; }}\n"));
    }
    write("}\n".to_owned());
    config
}

/// For clients that need many descriptors.
pub(super) fn enough_descriptors(wanted: u32) -> Result<()> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(limit > u64::from(wanted), "at most {limit} files may be open");
    Ok(())
}
