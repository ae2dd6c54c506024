//! Listening sockets.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind as bind_socket, listen, socket_with};

/// Which families a socket at "any address" is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Families {
    Both,
    Own,
}

const BACKLOG: i32 = 1024;

/// Listens at an address; at any address of either family, it is that of both, as upstream has it.
pub(super) fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    if !at.ip().is_unspecified() {
        return bind_to(at, Families::Own);
    }
    match bind_to(SocketAddr::from((Ipv6Addr::UNSPECIFIED, at.port())), Families::Both) {
        // A machine without IPv6.
        Err(error) if has_no_ipv6(&error) => bind_to(at, Families::Own),
        result => result,
    }
}

/// Listens at an address of its own family alone.
pub(super) fn bind_own(at: SocketAddr) -> io::Result<TcpListener> {
    bind_to(at, Families::Own)
}

fn bind_to(at: SocketAddr, families: Families) -> io::Result<TcpListener> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    // Connections of an earlier process may still be ending at it.
    set_socket_reuseaddr(&socket, true)?;
    if at.is_ipv6() {
        set_ipv6_v6only(&socket, families == Families::Own)?;
    }
    bind_socket(&socket, &at)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

fn has_no_ipv6(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].contains(&errno))
}
