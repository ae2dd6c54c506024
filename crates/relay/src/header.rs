//! The header by which an endpoint learns who its client is: the PROXY protocol, version 2, as `HAProxy`'s
//! `doc/proxy-protocol.txt` has it (section 2.2).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use rustix::net::{SendFlags, getsockname, send};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, a connection that is relayed for somebody.
const PROXY: u8 = 0x21;
const TCP_OVER_V4: u8 = 0x11;
const TCP_OVER_V6: u8 = 0x21;

/// Tells an endpoint whose connection follows. To be called before anything else is sent: then the socket has room.
pub(crate) fn tell(endpoint: impl AsFd, client: impl AsFd, client_at: SocketAddr) -> Result<(), Errno> {
    let header = proxy_v2(client_at, called_at(client)?);
    let sent = send(endpoint, &header, SendFlags::NOSIGNAL)?;
    // Half of a header would be taken for the client's words.
    if sent == header.len() { Ok(()) } else { Err(Errno::NOBUFS) }
}

/// Where a client called, before rules led it to a listener.
fn called_at(client: impl AsFd) -> Result<SocketAddr, Errno> {
    let client = client.as_fd();
    let here = SocketAddr::try_from(getsockname(client)?)?;
    let before = match here {
        SocketAddr::V4(_) => ip_original_dst(client).map(SocketAddr::V4),
        SocketAddr::V6(_) => ipv6_original_dst(client).map(SocketAddr::V6),
    };
    // Who came without rules called here.
    Ok(before.unwrap_or(here))
}

fn proxy_v2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(PROXY);
    let (family, addresses) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            (TCP_OVER_V4, [source.octets(), destination.octets()].concat())
        }
        (source, destination) => (TCP_OVER_V6, [as_v6(source), as_v6(destination)].concat()),
    };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    header.push(family);
    let length = u16::try_from(addresses.len() + ports.len()).expect("they are 36 bytes at most");
    header.extend(length.to_be_bytes());
    header.extend(addresses);
    header.extend(ports);
    header
}

fn as_v6(ip: IpAddr) -> [u8; 16] {
    let v6: Ipv6Addr = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    v6.octets()
}

#[cfg(test)]
mod tests {
    use super::proxy_v2;

    #[test]
    fn a_header_reads_as_the_specification_has_it() {
        let v4 = proxy_v2("192.0.2.1:40000".parse().unwrap(), "172.30.0.41:80".parse().unwrap());
        assert_eq!(
            v4,
            [
                0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, // signature
                0x21, 0x11, 0, 12, // version 2 and PROXY, TCP over IPv4, 12 bytes follow
                192, 0, 2, 1, 172, 30, 0, 41, // source and destination
                0x9c, 0x40, 0, 80, // their ports
            ]
        );
        let v6 = proxy_v2("[2001:db8::1]:1".parse().unwrap(), "[fd00::2]:443".parse().unwrap());
        assert_eq!(v6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(v6[16..20], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(v6[32..34], [0xfd, 0]);
        assert_eq!(v6[47..], [2, 0, 1, 0x01, 0xbb]);
    }
}
