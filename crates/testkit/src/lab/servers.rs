//! Servers on every address and port in play. Each answers with its own address and the client's.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use kernel_io::netns::Netns;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::LabError;
use super::network::Network;
use super::places::Places;
use super::raw::Responder;

/// They answer until this is dropped.
pub(super) struct Servers {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

enum Server {
    Tcp(SocketAddr, TcpListener),
    Udp(SocketAddr, UdpSocket),
    Sctp(Responder),
}

impl Servers {
    pub(super) fn start(network: &Network, places: &Places) -> Result<Self, LabError> {
        let mut servers = Vec::new();
        let ports = Arc::new(places.ports.clone());
        let mut open = |netns: &Netns, ips: &BTreeSet<IpAddr>| -> Result<(), LabError> {
            servers.extend(netns.run(|| opened(&places.served(ips), &places.relayed))??);
            if places.sctp {
                servers.extend(netns.run(|| responders(ips, &ports))??);
            }
            Ok(())
        };
        open(&network.node, &places.node)?;
        open(&network.clients, &places.clients)?;
        open(&network.world, &places.world)?;
        for (ip, netns) in &network.pods {
            open(netns, &[*ip].into())?;
        }
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("servers".to_owned());
        let thread = thread.spawn(move || serve(&servers, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The counter is at 0, so that it can be written.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

fn opened(all: &[SocketAddr], relayed: &BTreeSet<SocketAddr>) -> Result<Vec<Server>, io::Error> {
    let named = |at: &SocketAddr| {
        let at = *at;
        move |error: io::Error| io::Error::new(error.kind(), format!("serve {at}: {error}"))
    };
    let mut servers = Vec::new();
    for at in all {
        if !relayed.contains(at) {
            let listener = TcpListener::bind(at).map_err(named(at))?;
            listener.set_nonblocking(true)?;
            servers.push(Server::Tcp(*at, listener));
        }
        let socket = UdpSocket::bind(at).map_err(named(at))?;
        socket.set_nonblocking(true)?;
        servers.push(Server::Udp(*at, socket));
    }
    Ok(servers)
}

fn responders(ips: &BTreeSet<IpAddr>, ports: &Arc<BTreeSet<u16>>) -> io::Result<Vec<Server>> {
    ips.iter().map(|ip| Responder::open(*ip, Arc::clone(ports)).map(Server::Sctp)).collect()
}

fn serve(servers: &[Server], stop: &OwnedFd) {
    loop {
        let mut ready: Vec<PollFd<'_>> =
            servers.iter().map(|server| PollFd::from_borrowed_fd(server.as_fd(), PollFlags::IN)).collect();
        ready.push(PollFd::new(stop, PollFlags::IN));
        if poll(&mut ready, None).is_err() {
            continue;
        }
        let (asked, stopped) = ready.split_at(servers.len());
        if stopped.iter().any(|each| !each.revents().is_empty()) {
            return;
        }
        for (server, _) in servers.iter().zip(asked).filter(|(_, ready)| !ready.revents().is_empty()) {
            // Only that nobody asks any more ends it; a client that is gone has lost interest.
            while server.answer().is_ok() {}
        }
    }
}

impl Server {
    fn answer(&self) -> io::Result<()> {
        let gone = |error: io::Error| if error.kind() == ErrorKind::WouldBlock { Err(error) } else { Ok(()) };
        match self {
            Self::Tcp(at, listener) => {
                let (mut stream, peer) = listener.accept()?;
                stream.write_all(format!("{at} {peer}\n").as_bytes()).or_else(gone)
            }
            Self::Udp(at, socket) => {
                let (_, peer) = match socket.recv_from(&mut [0; 64]) {
                    Ok(asked) => asked,
                    Err(error) => return gone(error),
                };
                socket.send_to(format!("{at} {peer}\n").as_bytes(), peer).map(drop).or_else(gone)
            }
            Self::Sctp(responder) => responder.answer(),
        }
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(_, listener) => listener.as_fd(),
            Self::Udp(_, socket) => socket.as_fd(),
            Self::Sctp(responder) => responder.socket().as_fd(),
        }
    }
}
