//! Packets that are sent all at once, and what is seen of each.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use packet_trace::Packet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with,
};
use service_plan::Protocol;

use super::LabError;
use super::network::Network;
use super::places::Places;
use super::raw::{Asker, Reply};

/// What is seen of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A server answered.
    Answer {
        /// From where it was sent.
        from: SocketAddr,
        /// Where the server sits.
        server: SocketAddr,
        /// Whom the server took for the client.
        peer: SocketAddr,
    },
    /// The connection was refused.
    Refused,
    /// Nothing came back in time.
    Silence,
    /// Something else came back.
    Odd(Errno),
}

/// Sends packets; each from a port of its own, so that the kernel takes none for another's.
pub(super) struct Prober {
    next_port: u16,
    served: BTreeSet<u16>,
}

struct Sent {
    index: usize,
    from: SocketAddr,
    line: Line,
    deadline: Instant,
    seen: Option<Seen>,
}

/// What a packet was sent by, and what comes back on.
enum Line {
    Socket(OwnedFd),
    Raw(Asker),
}

impl Prober {
    pub(super) fn new(places: &Places) -> Self {
        Self { next_port: 10_000, served: places.ports.clone() }
    }

    /// Sends a wave, each packet with the number of who asked for it, and waits for each as long as its asker does.
    pub(super) fn send(
        &mut self,
        network: &Network,
        wave: &[(usize, Packet)],
        patience: &[Duration],
    ) -> Result<Vec<(usize, Seen)>, LabError> {
        let mut sent = Vec::new();
        for askers in wave.chunk_by(|one, other| one.1.from == other.1.from) {
            let ports: Vec<u16> = askers.iter().map(|_| self.port()).collect();
            let open = || -> io::Result<Vec<Sent>> {
                let each = askers.iter().zip(ports);
                each.map(|((index, packet), port)| opened(*index, packet, port, patience[*index])).collect()
            };
            sent.extend(network.netns_of(askers[0].1.from).run(open)??);
        }
        while let Some(left) = time_left(&sent) {
            look(&mut sent, left)?;
        }
        Ok(sent.into_iter().map(|each| (each.index, each.seen.unwrap_or(Seen::Silence))).collect())
    }

    fn port(&mut self) -> u16 {
        loop {
            self.next_port = if self.next_port == 29_999 { 10_000 } else { self.next_port + 1 };
            if !self.served.contains(&self.next_port) {
                return self.next_port;
            }
        }
    }
}

fn opened(index: usize, packet: &Packet, port: u16, patience: Duration) -> io::Result<Sent> {
    let from = SocketAddr::new(packet.from.ip(), port);
    let named = |error: io::Error| io::Error::other(format!("send from {from}: {error}"));
    let (line, error) = match packet.protocol {
        Protocol::Tcp => asked(SocketType::STREAM, from, packet.to).map_err(named)?,
        Protocol::Udp => asked(SocketType::DGRAM, from, packet.to).map_err(named)?,
        Protocol::Sctp => (Line::Raw(Asker::send(from, packet.to).map_err(named)?), None),
    };
    Ok(Sent { index, from, line, deadline: Instant::now() + patience, seen: error.map(seen_of_error) })
}

fn asked(kind: SocketType, from: SocketAddr, to: SocketAddr) -> io::Result<(Line, Option<Errno>)> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    bind(&socket, &from)?;
    let first = match connect(&socket, &to) {
        Ok(()) if kind == SocketType::DGRAM => send(&socket, b"?", SendFlags::empty()).map(drop),
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(error) => Err(error),
    };
    Ok((Line::Socket(socket), first.err()))
}

/// How long the first one that is still open has; nothing, if none is.
fn time_left(sent: &[Sent]) -> Option<Duration> {
    let now = Instant::now();
    let open = sent.iter().filter(|each| each.seen.is_none() && each.deadline > now);
    open.map(|each| each.deadline - now).min()
}

/// Waits for news of those that are still open.
fn look(sent: &mut [Sent], limit: Duration) -> io::Result<()> {
    let now = Instant::now();
    let mut open: Vec<&mut Sent> =
        sent.iter_mut().filter(|each| each.seen.is_none() && each.deadline > now).collect();
    let (owners, mut ready): (Vec<usize>, Vec<PollFd<'_>>) = (0..)
        .zip(&open)
        .flat_map(|(place, each)| each.line.sockets().into_iter().map(move |socket| (place, socket)))
        .map(|(place, socket)| (place, PollFd::new(socket, PollFlags::IN)))
        .unzip();
    poll(&mut ready, Some(&Timespec::try_from(limit).map_err(io::Error::other)?))?;
    let news = owners.into_iter().zip(ready).filter(|(_, each)| !each.revents().is_empty());
    for place in news.map(|(place, _)| place).collect::<BTreeSet<usize>>() {
        open[place].seen = received(open[place])?;
    }
    Ok(())
}

impl Line {
    fn sockets(&self) -> Vec<&OwnedFd> {
        match self {
            Self::Socket(socket) => vec![socket],
            Self::Raw(asker) => asker.sockets().into(),
        }
    }
}

fn received(sent: &Sent) -> io::Result<Option<Seen>> {
    let socket = match &sent.line {
        Line::Socket(socket) => socket,
        Line::Raw(asker) => {
            return Ok(asker.reply()?.map(|reply| match reply {
                Reply::Answer(text) => answer(sent.from, &text),
                Reply::Refused => Seen::Refused,
                Reply::Unreachable => Seen::Odd(Errno::HOSTUNREACH),
            }));
        }
    };
    let mut buffer = [0; 256];
    Ok(Some(match recv(socket, &mut buffer, RecvFlags::empty()) {
        Ok((_, length)) => answer(sent.from, &String::from_utf8_lossy(&buffer[..length])),
        // Where the refusal arrives while connect() still runs, the kernel keeps it as a soft error and tries again.
        Err(Errno::AGAIN) => return Ok(socket_error(socket)?.err().map(seen_of_error)),
        Err(error) => seen_of_error(error),
    }))
}

fn answer(from: SocketAddr, text: &str) -> Seen {
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(server)), Some(Ok(peer))) => Seen::Answer { from, server, peer },
        _ => Seen::Odd(Errno::BADMSG),
    }
}

fn seen_of_error(error: Errno) -> Seen {
    if error == Errno::CONNREFUSED { Seen::Refused } else { Seen::Odd(error) }
}
