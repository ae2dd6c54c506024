//! A request over HTTP, with or without TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use pod_manifests::{Header, Scheme};

use super::tls;

/// An answer need not be read beyond its first line.
const HEAD: usize = 4096;

/// Who is asked for what.
pub(super) struct Request<'a> {
    pub(super) scheme: Scheme,
    pub(super) at: SocketAddr,
    pub(super) host: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) headers: &'a [Header],
}

impl Request<'_> {
    /// Sends it, and says what is wrong with the answer.
    pub(super) fn answered(&self, limit: Duration) -> Result<(), String> {
        let word = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let failed = |what: String| format!("{word}://{}{}: {what}", self.at, self.path);
        let head = self.head_of_answer(limit).map_err(|error| failed(error.to_string()))?;
        status_of(&head).map_err(failed)
    }

    fn head_of_answer(&self, limit: Duration) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + limit;
        let stream = Timed { stream: TcpStream::connect_timeout(&self.at, limit)?, deadline };
        match self.scheme {
            Scheme::Http => self.spoken(stream),
            Scheme::Https => self.spoken(tls::over(stream, self.at.ip(), self.host)?),
        }
    }

    fn spoken(&self, mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
        stream.write_all(self.text().as_bytes())?;
        stream.flush()?;
        let (mut head, mut buffer) = (Vec::new(), [0; 512]);
        while head.len() < HEAD && !head.contains(&b'\n') {
            match stream.read(&mut buffer)? {
                0 => break,
                count => head.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            }
        }
        Ok(head)
    }

    fn text(&self) -> String {
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        let mut lines = vec![format!("GET {slash}{} HTTP/1.1", self.path), "Connection: close".to_owned()];
        let named = |name: &str| self.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
        let host = self.host.map_or_else(|| self.at.to_string(), str::to_owned);
        for (name, value) in [("Accept", "*/*"), ("Host", &host), ("User-Agent", "kube-probe/1.36")] {
            if !named(name) {
                lines.push(format!("{name}: {value}"));
            }
        }
        lines.extend(self.headers.iter().map(|header| format!("{}: {}", header.name, header.value)));
        lines.join("\r\n") + "\r\n\r\n"
    }
}

/// A connection on which nothing is waited for beyond an instant.
#[derive(Debug)]
pub(super) struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> Duration {
        // None at all would mean to wait for ever.
        self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
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
