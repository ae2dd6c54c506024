//! Servers that tell their address and then say back what they hear, and clients that listen.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use kernel_io::netns::Netns;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use crate::world::{WEB, World};

/// Longer than anything that works takes.
const PATIENCE: Duration = Duration::from_secs(10);

const PORT: u16 = 8080;

/// A connection, and who answers it.
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) endpoint: String,
}

/// Serves TCP and UDP at these addresses, for as long as this process lives.
pub(crate) fn serve(addresses: &[&str]) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("a free port");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Its client goes away when it likes.
            thread::spawn(move || talk(stream));
        }
    });
    for address in addresses {
        let at: Ipv4Addr = address.parse().expect("an address");
        let socket = UdpSocket::bind((at, PORT)).expect("a free port");
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, client)) = socket.recv_from(&mut buffer) {
                let _unreachable = socket.send_to(at.to_string().as_bytes(), client);
            }
        });
    }
}

fn talk(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(format!("{}\n", stream.local_addr()?.ip()).as_bytes())?;
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

impl Connection {
    /// Connects, and hears who answers.
    pub(crate) fn open(from: &Netns, to: &str) -> io::Result<Self> {
        Self::open_from_port(from, 0, to)
    }

    /// The same, from a port of one's own; any, if it is 0.
    pub(crate) fn open_from_port(from: &Netns, port: u16, to: &str) -> io::Result<Self> {
        from.run(|| Self::open_here(port, to)).expect("entered")
    }

    /// The same, in the namespace of the thread.
    pub(crate) fn open_here(port: u16, to: &str) -> io::Result<Self> {
        let to: SocketAddr = to.parse().expect("an address");
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if port != 0 {
            bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
        }
        let mut stream = TcpStream::from(socket);
        // What is dropped would be tried for minutes.
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        connect(&stream, &to)?;
        // The line comes in one packet, and nothing follows it until we say something.
        let mut line = [0; 64];
        let length = stream.read(&mut line)?;
        let endpoint = String::from_utf8_lossy(&line[..length]).trim().to_owned();
        if endpoint.is_empty() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(Self { stream, endpoint }) }
    }

    /// Whether what is said comes back.
    pub(crate) fn lives(&mut self) -> bool {
        let mut answer = [0; 5];
        self.stream.write_all(b"hello").is_ok()
            && self.stream.read_exact(&mut answer).is_ok()
            && answer == *b"hello"
    }
}

/// Resets it, so that its port is free at once.
impl Drop for Connection {
    fn drop(&mut self) {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("a socket");
    }
}

impl World {
    /// A new connection to the Service web.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.outside, WEB).expect("the Service answers")
    }

    /// One that has reached this endpoint.
    pub(crate) fn connect_to(&self, endpoint: &str) -> Connection {
        (0..50).map(|_| self.connect()).find(|found| found.endpoint == endpoint).expect("each gets its share")
    }

    /// Who answers so many new connections.
    pub(crate) fn answered(&self, connections: usize) -> Vec<String> {
        let mut found: Vec<String> = (0..connections).map(|_| self.connect().endpoint.clone()).collect();
        found.sort();
        found.dedup();
        found
    }
}
