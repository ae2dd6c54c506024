//! What a client is told when an endpoint does not take its datagrams: the ICMP message that it would have got from
//! the endpoint itself.
//!
//! The kernel tells the relay, whose socket it was; the client asked somebody else. So the relay writes the message anew
//! with the client's own datagram in it, as it came to the listener. The connection tracker knows that one, and puts
//! back the address that the client called, inside and outside. It needs `CAP_NET_RAW`.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, bind, ipproto, sendto, socket_with,
};
use tracing::warn;

use crate::Mark;
use crate::towards::marked;

/// Why a datagram was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody listens at the port.
    Port,
    /// The host is not there.
    Host,
    /// There is no way to it.
    Network,
}

/// What tells clients.
#[derive(Default)]
pub(crate) struct Refusals {
    v4: Telling,
    v6: Telling,
}

#[derive(Default)]
enum Telling {
    #[default]
    NotTried,
    By(OwnedFd),
    Impossible,
}

const UDP: u8 = 17;
const HOPS: u8 = 64;
/// An IPv4 header without options, an IPv6 header, a UDP header.
const IPV4: u16 = 20;
const UDP_HEADER: u16 = 8;

impl Refusal {
    /// What an error of a socket that sends datagrams says of its other end.
    pub(crate) fn of(error: Errno) -> Option<Self> {
        match error {
            Errno::CONNREFUSED => Some(Self::Port),
            Errno::HOSTUNREACH | Errno::HOSTDOWN => Some(Self::Host),
            Errno::NETUNREACH => Some(Self::Network),
            _ => None,
        }
    }
}

impl Refusals {
    /// Tells a client that what it sent to a listener was not taken.
    pub(crate) fn tell(&mut self, client: SocketAddr, listener: SocketAddr, refusal: Refusal, mark: Mark) {
        let (telling, message) = match (client.ip(), listener.ip()) {
            (IpAddr::V4(_), IpAddr::V4(_)) => (&mut self.v4, icmp(client, listener, refusal)),
            _ => (&mut self.v6, icmp6(client, listener, refusal)),
        };
        if let Telling::NotTried = telling {
            *telling = match raw(listener.ip(), mark) {
                Ok(socket) => Telling::By(socket),
                Err(error) => {
                    warn!(%error, "clients are not told when endpoints refuse their datagrams");
                    Telling::Impossible
                }
            };
        }
        if let Telling::By(socket) = telling {
            // It may be lost, as such messages may.
            let to = SocketAddr::new(client.ip(), 0);
            let _ = sendto(socket, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT, &to);
        }
    }
}

fn raw(from: IpAddr, mark: Mark) -> Result<OwnedFd, Errno> {
    let (family, protocol): (_, Protocol) = match from {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = marked(socket_with(family, SocketType::RAW, flags, Some(protocol))?, mark)?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    Ok(socket)
}

/// RFC 792, destination unreachable; the kernel puts the outer header before it.
fn icmp(client: SocketAddr, listener: SocketAddr, refusal: Refusal) -> Vec<u8> {
    const DESTINATION_UNREACHABLE: u8 = 3;
    let code = match refusal {
        Refusal::Network => 0,
        Refusal::Host => 1,
        Refusal::Port => 3,
    };
    let mut inner = vec![0x45, 0];
    inner.extend((IPV4 + UDP_HEADER).to_be_bytes());
    inner.extend([0, 0, 0, 0, HOPS, UDP, 0, 0]);
    inner.extend(octets(client.ip()));
    inner.extend(octets(listener.ip()));
    let sum = checksum(&inner);
    inner[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut message = vec![DESTINATION_UNREACHABLE, code, 0, 0, 0, 0, 0, 0];
    message.extend(inner);
    message.extend(udp_header(client, listener));
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// RFC 4443, destination unreachable; the kernel adds the outer header and the checksum.
fn icmp6(client: SocketAddr, listener: SocketAddr, refusal: Refusal) -> Vec<u8> {
    const DESTINATION_UNREACHABLE: u8 = 1;
    let code = match refusal {
        Refusal::Network => 0,
        Refusal::Host => 3,
        Refusal::Port => 4,
    };
    let mut message = vec![DESTINATION_UNREACHABLE, code, 0, 0, 0, 0, 0, 0];
    message.extend([0x60, 0, 0, 0]);
    message.extend(UDP_HEADER.to_be_bytes());
    message.extend([UDP, HOPS]);
    message.extend(octets(client.ip()));
    message.extend(octets(listener.ip()));
    message.extend(udp_header(client, listener));
    message
}

/// As of a datagram without content; a client knows its own by addresses and ports.
fn udp_header(client: SocketAddr, listener: SocketAddr) -> Vec<u8> {
    [client.port(), listener.port(), UDP_HEADER, 0].into_iter().flat_map(u16::to_be_bytes).collect()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// RFC 1071
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
