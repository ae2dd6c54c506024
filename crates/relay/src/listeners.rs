//! Listeners as a target: what is wanted of them is opened, led elsewhere or closed.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use kernel_io::listeners::AddressBook;
use kernel_io::{Applied, Drift, ReadError, Refused, Target, WriteError, socket_options};
use kernel_state::listeners::{Caller, Key, Listener, Listeners, Place, Transport};
use kernel_state::{Change, Objects};
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_keepalive, set_socket_recv_buffer_size, set_socket_reuseaddr, set_socket_reuseport,
    set_socket_send_buffer_size, set_tcp_nodelay,
};
use rustix::net::{SocketType, bind, getsockname, listen};

use crate::pool::Pool;
use crate::towards::opened;
use crate::worker::Command;
use crate::{Mark, PortRange, Relay, Shared};

/// The listeners of one address.
pub struct RelayListeners {
    shared: Arc<Shared>,
    ip: IpAddr,
    ports: PortRange,
    book: AddressBook,
    open: BTreeMap<Key, (Arc<Portal>, Listener)>,
}

/// A listener that is open.
pub(crate) struct Portal {
    pub(crate) id: u32,
    pub(crate) transport: Transport,
    /// Under whose address it calls endpoints.
    pub(crate) caller: Caller,
    /// Where it listens.
    pub(crate) at: SocketAddr,
    /// One for all threads, or one for each.
    sockets: Vec<OwnedFd>,
    pool: RwLock<Arc<Pool>>,
}

impl Relay {
    /// Listeners at an address, on ports of a range, or where they must be. Where each of them is stands in the book.
    pub fn listeners(&self, ip: IpAddr, ports: PortRange, book: AddressBook) -> RelayListeners {
        RelayListeners { shared: Arc::clone(&self.shared), ip, ports, book, open: BTreeMap::new() }
    }
}

impl RelayListeners {
    fn put(&mut self, key: &Key, listener: &Listener) -> io::Result<()> {
        let now = self.shared.clock.now();
        if let Some((portal, known)) = self.open.get_mut(key) {
            let before = portal.pool();
            portal.lead(Arc::new(Pool::new(listener, Some(&before), None, now)));
            known.clone_from(listener);
            return Ok(());
        }
        let first = match key.place {
            Place::Named(_) => self.socket(key.transport)?,
            Place::At(address) => listening(address, key.transport)?,
        };
        let at = SocketAddr::try_from(getsockname(&first)?)?;
        let sockets = match key.transport {
            Transport::Tcp => vec![first],
            Transport::Udp => shared(first, at, self.shared.mailboxes.len())?,
        };
        let kin = self.kin(key).map(Portal::pool);
        let pool = RwLock::new(Arc::new(Pool::new(listener, None, kin.as_deref(), now)));
        let id = self.shared.portals.fetch_add(1, Ordering::Relaxed);
        let portal = Arc::new(Portal { id, transport: key.transport, caller: key.caller, at, sockets, pool });
        self.shared.tell(|| Command::Open(Arc::clone(&portal)));
        self.book.open(key.clone(), at);
        self.open.insert(key.clone(), (portal, listener.clone()));
        Ok(())
    }

    /// The listener that differs only by whose name it calls in.
    fn kin(&self, key: &Key) -> Option<&Portal> {
        let caller = match key.caller {
            Caller::Relay => Caller::Client,
            Caller::Client => Caller::Relay,
        };
        self.open.get(&Key { caller, ..key.clone() }).map(|(portal, _)| &**portal)
    }

    fn close(&mut self, key: &Key) {
        self.book.close(key);
        if let Some((portal, _)) = self.open.remove(key) {
            portal.pool().close(self.shared.clock.now());
            self.shared.tell(|| Command::Close(Arc::clone(&portal)));
        }
    }

    /// A socket at a port that is free.
    fn socket(&self, transport: Transport) -> io::Result<OwnedFd> {
        let start = usize::try_from(self.shared.clock.now().0).unwrap_or_default().wrapping_mul(7919);
        for port in self.ports.candidates(start) {
            match listening(SocketAddr::new(self.ip, port), transport) {
                Err(Errno::ADDRINUSE) => {}
                result => return Ok(result?),
            }
        }
        Err(Errno::ADDRINUSE.into())
    }
}

impl Target<Listeners> for RelayListeners {
    fn read(&mut self, found: &mut dyn FnMut(Key, Listener)) -> Result<(), ReadError> {
        self.open.iter().for_each(|(key, (_, listener))| found(key.clone(), listener.clone()));
        Ok(())
    }

    fn write(&mut self, changes: &[Change<Listeners>]) -> Result<(), WriteError> {
        for (index, change) in changes.iter().enumerate() {
            match change {
                Change::Put { key, value, .. } => {
                    self.put(key, value).map_err(|source| refused(index, change, source))?;
                }
                Change::Drop { key, .. } => self.close(key),
            }
        }
        Ok(())
    }

    /// They are this process's own.
    fn drift(&mut self) -> Drift<Listeners> {
        Drift::None
    }
}

fn refused(index: usize, change: &Change<Listeners>, source: io::Error) -> WriteError {
    let mut text = String::new();
    Listeners::print_changes(std::slice::from_ref(change), &mut text)
        .expect("writing to a String cannot fail");
    let refused = Some(Refused { index, text: text.trim_end().to_owned() });
    WriteError { applied: Applied::First(index), refused, source: source.into() }
}

/// Whoever goes away leaves no listener behind.
impl Drop for RelayListeners {
    fn drop(&mut self) {
        let keys: Vec<Key> = self.open.keys().cloned().collect();
        for key in &keys {
            self.close(key);
        }
    }
}

impl Portal {
    /// What a thread takes its clients from.
    pub(crate) fn socket(&self, thread: usize) -> &OwnedFd {
        &self.sockets[thread % self.sockets.len()]
    }

    pub(crate) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn lead(&self, pool: Arc<Pool>) {
        *self.pool.write().unwrap_or_else(PoisonError::into_inner) = pool;
    }
}

/// Sockets for several threads at one address. Only when nobody else had it is it shared, or two listeners might get
/// the same one.
fn shared(first: OwnedFd, at: SocketAddr, threads: usize) -> Result<Vec<OwnedFd>, Errno> {
    set_socket_reuseport(&first, true)?;
    let mut sockets = vec![first];
    while sockets.len() < threads {
        let socket = datagrams(at)?;
        set_socket_reuseport(&socket, true)?;
        bind(&socket, &at)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// A socket for datagrams, with much room: a burst comes while others are served.
fn datagrams(at: SocketAddr) -> Result<OwnedFd, Errno> {
    const ROOM: usize = 4 << 20;
    let socket = opened(at, SocketType::DGRAM, Mark::None)?;
    // The kernel gives what it may; less is no error.
    set_socket_recv_buffer_size(&socket, ROOM)?;
    set_socket_send_buffer_size(&socket, ROOM)?;
    // An older kernel hands them out one by one.
    let _ = socket_options::set_trains(&socket);
    Ok(socket)
}

/// A socket that takes what comes to an address.
fn listening(at: SocketAddr, transport: Transport) -> Result<OwnedFd, Errno> {
    // As many as the kernel allows; half of the wait is over before the relay hears of a client.
    const BACKLOG: i32 = 1 << 16;
    match transport {
        Transport::Tcp => {
            let socket = opened(at, SocketType::STREAM, Mark::None)?;
            if at.port() != 0 {
                // Connections of an earlier process may still be ending at it.
                set_socket_reuseaddr(&socket, true)?;
            }
            // What is accepted inherits these.
            set_tcp_nodelay(&socket, true)?;
            set_socket_keepalive(&socket, true)?;
            bind(&socket, &at)?;
            listen(&socket, BACKLOG)?;
            Ok(socket)
        }
        Transport::Udp => {
            let socket = datagrams(at)?;
            bind(&socket, &at)?;
            Ok(socket)
        }
    }
}
