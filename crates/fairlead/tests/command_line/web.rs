//! A plain client of HTTP/1.1, and a neighbour of the stage who has one.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use kernel_io::link::Link;
use kernel_io::netns::Netns;

use crate::stage::Stage;

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
        let request = format!("GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n{headers}\r\n");
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

/// A host on the same link as the stage.
pub(crate) struct Neighbour {
    pub(crate) netns: Netns,
}

impl Neighbour {
    /// The stage's own addresses on that link.
    pub(crate) const STAGE: [&'static str; 2] = ["192.0.2.1", "2001:db8::1"];

    pub(crate) fn new(stage: &Stage) -> Self {
        let netns = Netns::new().expect("a namespace");
        let (here, there) = Link::veth("eth0", &stage.netns, "eth0", &netns).expect("a link");
        for (link, addresses) in [(&here, Self::STAGE), (&there, ["192.0.2.2", "2001:db8::2"])] {
            for (address, length) in addresses.into_iter().zip([24, 64]) {
                let range = format!("{address}/{length}").parse().expect("a range");
                link.add_address(range).expect("an address");
            }
            link.set_up().expect("a link that is up");
        }
        here.wait_running().expect("a link that runs");
        Self { netns }
    }

    /// Asks a port of the stage by its address of each family.
    pub(crate) fn ask(&self, port: u16) -> [io::Result<Answer>; 2] {
        Self::STAGE.map(|ip| {
            let ip: IpAddr = ip.parse().expect("an address");
            get(&self.netns, SocketAddr::new(ip, port), "/")
        })
    }
}
