//! Raw sockets that ask and answer in SCTP, where the kernel has no sockets for it.
//!
//! A raw socket is given whatever comes to its address, also what is meant for others; each takes its own.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, ipproto, recvfrom, sendto,
    socket_with,
};

use super::sctp::{self, Chunk, Packet};

/// One that asked, and waits for an answer or a refusal.
pub(super) struct Asker {
    from: SocketAddr,
    to: SocketAddr,
    answers: OwnedFd,
    errors: OwnedFd,
}

/// What came back.
pub(super) enum Reply {
    Answer(String),
    Refused,
    /// Another ICMP error.
    Unreachable,
}

/// One that answers at every served port of an address.
pub(super) struct Responder {
    ip: IpAddr,
    ports: Arc<BTreeSet<u16>>,
    socket: OwnedFd,
}

/// Destination unreachable, and among its reasons that nobody listens at the port: in ICMP for IPv4 and IPv6.
const UNREACHABLE: [u8; 2] = [3, 1];
const PORT_UNREACHABLE: [u8; 2] = [3, 4];

impl Asker {
    /// Asks.
    pub(super) fn send(from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let icmp = if from.is_ipv4() { ipproto::ICMP } else { ipproto::ICMPV6 };
        let (answers, errors) = (opened(from.ip(), ipproto::SCTP)?, opened(from.ip(), icmp)?);
        let tag = 0x4661_0000 | u32::from(from.port());
        let question = Packet::asking(from.port(), to.port(), tag).bytes();
        sendto(&answers, &question, SendFlags::empty(), &SocketAddr::new(to.ip(), 0))?;
        Ok(Self { from, to, answers, errors })
    }

    /// Where something may come in.
    pub(super) fn sockets(&self) -> [&OwnedFd; 2] {
        [&self.answers, &self.errors]
    }

    /// What came in, if it was for this one.
    pub(super) fn reply(&self) -> io::Result<Option<Reply>> {
        while let Some((bytes, sender)) = received(&self.answers)? {
            let Some(packet) = Packet::parse(&bytes) else { continue };
            let is_mine = sender == self.to.ip()
                && packet.source == self.to.port()
                && packet.destination == self.from.port();
            if let (true, Chunk::InitAck(text)) = (is_mine, packet.chunk) {
                return Ok(Some(Reply::Answer(String::from_utf8_lossy(&text).into_owned())));
            }
        }
        while let Some((bytes, _)) = received(&self.errors)? {
            if let Some(reply) = self.refusal(&bytes) {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// An ICMP error that quotes the question.
    fn refusal(&self, icmp: &[u8]) -> Option<Reply> {
        const IPV6_HEADER: usize = 40;
        let (kind, code) = (*icmp.first()?, *icmp.get(1)?);
        let quoted = icmp.get(8..)?;
        let transport =
            if self.from.is_ipv4() { after_ipv4_header(quoted)? } else { quoted.get(IPV6_HEADER..)? };
        let family = usize::from(!self.from.is_ipv4());
        match sctp::ports(transport)? {
            (source, _) if source != self.from.port() => None,
            _ if kind == UNREACHABLE[family] && code == PORT_UNREACHABLE[family] => Some(Reply::Refused),
            _ => Some(Reply::Unreachable),
        }
    }
}

impl Responder {
    pub(super) fn open(ip: IpAddr, ports: Arc<BTreeSet<u16>>) -> io::Result<Self> {
        Ok(Self { ip, ports, socket: opened(ip, ipproto::SCTP)? })
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Answers one question, with its own address and the asker's; fails when there is none.
    pub(super) fn answer(&self) -> io::Result<()> {
        let (bytes, asker) = received(&self.socket)?.ok_or(io::ErrorKind::WouldBlock)?;
        let question = Packet::parse(&bytes).filter(|packet| packet.chunk == Chunk::Init);
        let Some(question) = question.filter(|packet| self.ports.contains(&packet.destination)) else {
            return Ok(());
        };
        let at = SocketAddr::new(self.ip, question.destination);
        let peer = SocketAddr::new(asker, question.source);
        let answer = question.answered(&format!("{at} {peer}\n")).bytes();
        // One that cannot be sent is a silence, and that is told where it is waited for.
        let _ = sendto(&self.socket, &answer, SendFlags::empty(), &SocketAddr::new(asker, 0));
        Ok(())
    }
}

fn opened(ip: IpAddr, protocol: Protocol) -> io::Result<OwnedFd> {
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::RAW, flags, Some(protocol))?;
    bind(&socket, &SocketAddr::new(ip, 0))?;
    Ok(socket)
}

/// The next packet, without its IP header, and who sent it.
fn received(socket: &OwnedFd) -> io::Result<Option<(Vec<u8>, IpAddr)>> {
    let mut buffer = [0; 2048];
    let (length, sender) = match recvfrom(socket, &mut buffer, RecvFlags::empty()) {
        Ok((_, length, sender)) => (length, sender),
        Err(Errno::AGAIN) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bytes = &buffer[..length];
    let sender = sender.and_then(|sender| SocketAddr::try_from(sender).ok()).ok_or(Errno::BADMSG)?;
    // Only IPv4 hands out its header.
    let packet = if sender.is_ipv4() { after_ipv4_header(bytes).unwrap_or_default() } else { bytes };
    Ok(Some((packet.to_vec(), sender.ip())))
}

fn after_ipv4_header(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(usize::from(*bytes.first()? & 0xf) * 4..)
}
