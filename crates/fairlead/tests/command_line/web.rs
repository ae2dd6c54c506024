//! A plain client of HTTP/1.0, to which everything is answered in one piece.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kernel_io::netns::Netns;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header, whose name is written as upstream writes it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Asks from a namespace.
pub(crate) fn get(from: &Netns, at: SocketAddr, path: &str) -> io::Result<Answer> {
    get_with(from, at, path, "")
}

/// The same with more headers, each of which ends in CR LF.
pub(crate) fn get_with(from: &Netns, at: SocketAddr, path: &str, headers: &str) -> io::Result<Answer> {
    const PATIENCE: Duration = Duration::from_secs(2);
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: it\r\n{headers}\r\n");
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
    })
    .expect("entered")
}
