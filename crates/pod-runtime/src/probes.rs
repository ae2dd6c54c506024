//! Things that are done to a container: a program run in it, a request, a connection.

mod grpc;
mod http;
mod tls;

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use kernel_io::process::{End, Orphan, Signal};
use pod_manifests::{Action, Container};

use crate::holder::Shared;
use crate::oci::told;

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does an action, and says what was wrong.
pub(crate) fn done(
    shared: &Shared,
    container: &Container,
    action: &Action,
    limit: Duration,
) -> Result<(), String> {
    let port =
        |number| container.port(number).ok_or_else(|| "its port is not among the container's".to_owned());
    let own = shared.own_address();
    match action {
        Action::Exec(words) => exec(shared, container, words, limit),
        Action::Http { scheme, port: number, host, path, headers } => {
            let at = address(host.as_deref(), own, port(number)?)?;
            let request = http::Request { scheme: *scheme, at, host: host.as_deref(), path, headers };
            request.answered(limit)
        }
        Action::Grpc { port, service } => grpc::serves(SocketAddr::new(own, *port), service, limit),
        Action::Tcp { port: number, host } => {
            let at = address(host.as_deref(), own, port(number)?)?;
            TcpStream::connect_timeout(&at, limit)
                .map(drop)
                .map_err(|error| format!("connect to {at}: {error}"))
        }
        Action::Sleep(seconds) => {
            std::thread::sleep(Duration::from_secs(u64::from(*seconds)).min(limit));
            Ok(())
        }
    }
}

fn address(host: Option<&str>, own: IpAddr, port: u16) -> Result<SocketAddr, String> {
    let Some(host) = host else { return Ok(SocketAddr::new(own, port)) };
    if let Ok(ip) = host.parse() {
        return Ok(SocketAddr::new(ip, port));
    }
    let mut found = (host, port).to_socket_addrs().map_err(|error| format!("look up {host}: {error}"))?;
    found.next().ok_or_else(|| format!("{host} has no address"))
}

fn exec(shared: &Shared, container: &Container, words: &[String], limit: Duration) -> Result<(), String> {
    let directory = shared.directory.container(&container.name);
    let pid_file = directory.join(format!("exec-{:?}", std::thread::current().id()));
    let nowhere = || File::options().write(true).open("/dev/null");
    let output = [nowhere(), nowhere()];
    let [Ok(stdout), Ok(stderr)] = output else { return Err("open /dev/null".to_owned()) };
    let id = shared.id(container);
    let started = shared.oci.exec(&container.name, &id, &pid_file, words, [stdout, stderr]);
    let _ = std::fs::remove_file(&pid_file); // it is read, or was never made
    let pid = started.map_err(|error| error.told())?;
    let Some(process) = Orphan::left(pid) else { return Err("it was gone at once".to_owned()) };
    let command = words.join(" ");
    match process.wait_for(limit) {
        Some(End::Status(status)) if status.success() => Ok(()),
        Some(End::Status(status)) => Err(format!("{command}: {status}")),
        Some(End::Unknown) => Err(format!("nobody knows how {command} ended")),
        None => {
            process.signal(Signal::KILL).map_err(|error| told(&error))?;
            process.wait_for(PATIENCE);
            Err(format!("{command} took longer than {limit:?}"))
        }
    }
}
