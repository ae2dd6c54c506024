//! As much HTTP as the demo needs: a server that tells who it is and whom it sees, and a client that asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long a request may take.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// What a pod answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The pod's host name.
    pub(super) pod: String,
    /// The client's address as the pod saw it.
    pub(super) client: IpAddr,
}

/// Answers every request with the host name and the client's address, one connection each, for ever. A server that
/// asks another port of its pod answers what that one answered.
pub(super) fn serve(port: u16, ask: Option<u16>) -> Result<()> {
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).with_context(|| format!("listen on port {port}"))?;
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for stream in listener.incoming() {
        let (stream, name) = (stream?, name.clone());
        // A client that goes away harms nobody else.
        thread::spawn(move || answer(stream, &name, ask));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, name: &str, ask: Option<u16>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    let answer = match ask {
        Some(port) => get((Ipv4Addr::LOCALHOST, port).into())?,
        None => Answer { pod: name.to_owned(), client: stream.peer_addr()?.ip() },
    };
    let body = format!("{} {}\n", answer.pod, answer.client);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    Ok(stream.write_all(format!("{head}{body}").as_bytes())?)
}

/// Asks once, over a connection of its own.
pub(super) fn get(at: SocketAddr) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer has a head")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "not answered well: {head}");
    let (pod, client) = body.trim().split_once(' ').context("the answer names pod and client")?;
    Ok(Answer { pod: pod.to_owned(), client: client.parse()? })
}
