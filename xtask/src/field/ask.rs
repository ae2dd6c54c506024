//! A client: connects, and hears which endpoint it has reached.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This endpoint answered.
    By(Ipv4Addr),
    /// Nobody did.
    Nobody(ErrorKind),
}

/// Connects, hears who answers, and hangs up.
pub(crate) fn ask(at: SocketAddr, patience: Duration) -> Answer {
    match connect(at, patience) {
        Ok((stream, endpoint)) => {
            hang_up(stream);
            Answer::By(endpoint)
        }
        Err(error) => Answer::Nobody(error.kind()),
    }
}

/// Connects, and hears who answers.
pub(crate) fn connect(at: SocketAddr, patience: Duration) -> io::Result<(TcpStream, Ipv4Addr)> {
    let mut stream = TcpStream::connect_timeout(&at, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    let mut line = Vec::new();
    let mut letter = [0];
    while line.last() != Some(&b'\n') {
        // The line comes in one packet; reading it letter by letter takes nothing of what follows.
        stream.read_exact(&mut letter)?;
        line.push(letter[0]);
    }
    let text = String::from_utf8_lossy(&line);
    let endpoint = text.trim().parse().map_err(io::Error::other)?;
    Ok((stream, endpoint))
}

/// Resets a connection, so that its port is free at once.
fn hang_up(stream: TcpStream) {
    // Without it the port is free a minute later.
    let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}
