//! Things that are done to a container: a program run in it, a request, a connection.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use kernel_io::process::{End, Orphan, Signal};
use pod_manifests::{Action, Container, Header};

use crate::holder::Shared;
use crate::oci::told;

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer need not be read beyond its first line.
const HEAD: usize = 4096;

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
        Action::Http { port: number, host, path, headers } => {
            let port = port(number)?;
            let at = address(host.as_deref(), own, port)?;
            http(at, host.as_deref(), path, headers, limit)
        }
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

fn http(
    at: SocketAddr,
    host: Option<&str>,
    path: &str,
    headers: &[Header],
    limit: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let failed = |error: io::Error| format!("http://{at}{path}: {error}");
    let mut stream = TcpStream::connect_timeout(&at, limit).map_err(failed)?;
    let left = |stream: &TcpStream| {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).and_then(|()| stream.set_write_timeout(Some(left)))
    };
    left(&stream).map_err(failed)?;
    stream.write_all(request(at, host, path, headers).as_bytes()).map_err(failed)?;
    let (mut head, mut buffer) = (Vec::new(), [0; 512]);
    while head.len() < HEAD && !head.contains(&b'\n') {
        left(&stream).map_err(failed)?;
        match stream.read(&mut buffer).map_err(failed)? {
            0 => break,
            count => head.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
    status_of(&head).map_err(|what| format!("http://{at}{path}: {what}"))
}

fn request(at: SocketAddr, host: Option<&str>, path: &str, headers: &[Header]) -> String {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut lines = vec![format!("GET {slash}{path} HTTP/1.1"), "Connection: close".to_owned()];
    let named = |name: &str| headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    let host = host.map_or_else(|| at.to_string(), str::to_owned);
    for (name, value) in [("Accept", "*/*"), ("Host", &host), ("User-Agent", "kube-probe/1.36")] {
        if !named(name) {
            lines.push(format!("{name}: {value}"));
        }
    }
    lines.extend(headers.iter().map(|header| format!("{}: {}", header.name, header.value)));
    lines.join("\r\n") + "\r\n\r\n"
}

fn status_of(head: &[u8]) -> Result<(), String> {
    let line = String::from_utf8_lossy(head);
    let mut words = line.lines().next().unwrap_or_default().split(' ');
    let version = words.next().unwrap_or_default();
    match words.next().and_then(|status| status.parse::<u16>().ok()) {
        Some(200..400) if version.starts_with("HTTP/1.") => Ok(()),
        Some(status) if version.starts_with("HTTP/1.") => Err(format!("answered {status}")),
        Some(_) | None => Err("no answer that is HTTP".to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use super::status_of;

    #[test]
    fn statuses_from_200_to_399_are_good() {
        for (head, good) in [
            ("HTTP/1.1 200 OK\r\n", true),
            ("HTTP/1.0 399 Odd\r\n", true),
            ("HTTP/1.1 204\r\n", true),
            ("HTTP/1.1 400 Bad\r\n", false),
            ("HTTP/1.1 199 No\r\n", false),
            ("HTTP/2 200\r\n", false),
            ("SSH-2.0 200\r\n", false),
            ("", false),
        ] {
            assert_eq!(status_of(head.as_bytes()).is_ok(), good, "{head:?}");
        }
    }
}
