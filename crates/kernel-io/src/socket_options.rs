//! Options of sockets that rustix has no call for (linux/in.h, linux/in6.h, asm-generic/socket.h).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

#[expect(clippy::cast_possible_truncation, reason = "it is 4")]
const SIZE: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;

const ON: libc::c_int = 1;

/// Marks what a socket sends from now on. Needs `CAP_NET_ADMIN`.
pub fn set_mark(socket: impl AsFd, mark: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())
}

/// Lets a socket be bound to an address that is not this machine's, of the family of `ip`. Needs `CAP_NET_ADMIN` or
/// `CAP_NET_RAW`.
pub fn set_transparent(socket: impl AsFd, ip: IpAddr) -> io::Result<()> {
    match ip {
        IpAddr::V4(_) => set(socket, libc::SOL_IP, libc::IP_TRANSPARENT, ON),
        IpAddr::V6(_) => set(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, ON),
    }
}

/// Leaves the choice of a port to connect(2), which knows the other end: then only both ends together must be unique
/// (since Linux 4.2).
pub fn set_late_port(socket: impl AsFd) -> io::Result<()> {
    const IP_BIND_ADDRESS_NO_PORT: libc::c_int = 24;
    set(socket, libc::SOL_IP, IP_BIND_ADDRESS_NO_PORT, ON)
}

/// Lets a socket for datagrams hear of every ICMP error, and not only of refusals, as errors of later calls.
pub fn set_errors_told(socket: impl AsFd, ip: IpAddr) -> io::Result<()> {
    match ip {
        IpAddr::V4(_) => set(socket, libc::SOL_IP, libc::IP_RECVERR, ON),
        IpAddr::V6(_) => set(socket, libc::SOL_IPV6, libc::IPV6_RECVERR, ON),
    }
}

/// Cuts what a socket for datagrams sends into datagrams of this length; 0 for none (since Linux 4.18).
pub fn set_segments(socket: impl AsFd, length: u16) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, length.into())
}

/// Leaves datagrams together that came together, of one sender and one length: they are received as one (since Linux 5.0).
pub fn set_trains(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, ON)
}

#[expect(unsafe_code, reason = "rustix has no call for these options")]
fn set(socket: impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open as long as the borrow, and pointer and size are those of `value`, which the
    // kernel only reads.
    let answer = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), SIZE) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
