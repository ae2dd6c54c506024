//! Sockets towards endpoints, under the relay's own address or under a client's.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kernel_io::link::{Links, Way};
use kernel_io::socket_options;
use kernel_state::listeners::Caller;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_keepalive, set_socket_reuseaddr, set_tcp_nodelay};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use crate::Mark;
use crate::clock::Moment;
use crate::descriptors::Descriptors;

/// How threads call endpoints.
#[derive(Default)]
pub(crate) struct Ways(Mutex<Known>);

/// Where packets to an address go, as the kernel said a moment ago.
#[derive(Default)]
struct Known {
    links: Option<Links>,
    by_ip: HashMap<IpAddr, (Option<Way>, Moment)>,
}

impl Ways {
    /// The address under which an endpoint is called for a client.
    ///
    /// What the endpoint answers to the client's address must come by here and be routed. If both are behind the same
    /// link it need not come by, as on a bridge; what this machine answers itself is never looked at by PREROUTING.
    pub(crate) fn name(
        &self,
        caller: Caller,
        client: SocketAddr,
        endpoint: IpAddr,
        now: Moment,
    ) -> Option<SocketAddr> {
        match caller {
            Caller::Relay => None,
            Caller::Client => {
                let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let ways = [client.ip(), endpoint].map(|ip| known.way_to(ip, now));
                let [Some(Way::Link(one)), Some(Way::Link(other))] = ways else { return None };
                (one != other).then_some(client)
            }
        }
    }
}

impl Known {
    fn way_to(&mut self, ip: IpAddr, now: Moment) -> Option<Way> {
        const FRESH: Duration = Duration::from_secs(5);
        const MANY: usize = 4096;
        if let Some((way, when)) = self.by_ip.get(&ip)
            && now < when.after(FRESH)
        {
            return *way;
        }
        if self.links.is_none() {
            self.links = Links::here().ok();
        }
        // Who cannot be asked about is called by the relay itself, which always comes back.
        let way = self.links.as_mut().and_then(|links| links.way_to(ip).ok().flatten());
        if self.by_ip.len() >= MANY {
            self.by_ip.clear();
        }
        self.by_ip.insert(ip, (way, now));
        way
    }
}

/// A connection that is on its way to an endpoint.
pub(crate) fn called(
    at: SocketAddr,
    mark: Mark,
    name: Option<SocketAddr>,
    descriptors: &Descriptors,
) -> Result<OwnedFd, Errno> {
    let open = |name| {
        let socket = descriptors.spared(opened(at, SocketType::STREAM, mark)?)?;
        set_tcp_nodelay(&socket, true)?;
        set_socket_keepalive(&socket, true)?;
        led(socket, at, SocketType::STREAM, name)
    };
    in_name(name, open)
}

/// A socket for datagrams to an endpoint, and from nobody else.
pub(crate) fn exchanging(
    at: SocketAddr,
    mark: Mark,
    name: Option<SocketAddr>,
    descriptors: &Descriptors,
) -> Result<OwnedFd, Errno> {
    let open = |name| {
        let socket = descriptors.spared(opened(at, SocketType::DGRAM, mark)?)?;
        socket_options::set_errors_told(&socket, at.ip()).map_err(|error| as_errno(&error))?;
        // An older kernel hands them out one by one.
        let _ = socket_options::set_trains(&socket);
        led(socket, at, SocketType::DGRAM, name)
    };
    in_name(name, open)
}

/// A socket of our own for what goes to an address.
pub(crate) fn opened(at: SocketAddr, kind: SocketType, mark: Mark) -> Result<OwnedFd, Errno> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    marked(socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?, mark)
}

/// A socket whose packets rules pass by.
pub(crate) fn marked(socket: OwnedFd, mark: Mark) -> Result<OwnedFd, Errno> {
    if let Mark::Bits(bits) = mark {
        socket_options::set_mark(&socket, bits).map_err(|error| as_errno(&error))?;
    }
    Ok(socket)
}

/// The client's own port is tried first, as rules would keep it; it may be in use towards this endpoint.
fn in_name(
    name: Option<SocketAddr>,
    open: impl Fn(Option<SocketAddr>) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    match (open(name), name) {
        (Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL), Some(name)) => {
            open(Some(SocketAddr::new(name.ip(), 0)))
        }
        (result, _) => result,
    }
}

fn led(
    socket: OwnedFd,
    at: SocketAddr,
    kind: SocketType,
    name: Option<SocketAddr>,
) -> Result<OwnedFd, Errno> {
    if let Some(name) = name {
        socket_options::set_transparent(&socket, name.ip()).map_err(|error| as_errno(&error))?;
        if name.port() == 0 {
            socket_options::set_late_port(&socket).map_err(|error| as_errno(&error))?;
        } else if kind == SocketType::STREAM {
            // Both ends together must be unique, and connect sees to that. Datagrams have nobody who would.
            set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &name)?;
    }
    match connect(&socket, &at) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

fn as_errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::PERM)
}
