//! Virtual servers and the real servers behind them, over IPVS's own netlink family.
//!
//! The kernel keeps them in one table a network namespace, and nothing in it says whose they are. Ours are those
//! whose address is a member of sets that are written before them and dropped after them ([`Ownership`]).
//!
//! A real server of TCP that is dropped keeps its connections: it gets weight 0 and is removed when the last one is
//! gone, or when the limit has passed ([`Target::drift`]). That it drains is written in the kernel, by its weight
//! alone, so a restarted process goes on with it. To be read, it is gone.

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel_state::Change;
use kernel_state::ipset::{Family, Member, SetName};
use kernel_state::ipvs::{self, Destination, Key, Scheduler, Server, Service, Value};
use kernel_state::xtables::Protocol;
use rustix::io::Errno;
use thiserror::Error;

use crate::ipset::Ipsets;
use crate::netlink::{self, NetlinkError, Refusal, Socket};
use crate::pipeline::{Pipeline, widened};
use crate::target::{Drift, ReadError, Target, WriteError};

/// The virtual servers of one family in the network namespace in which this was opened.
#[derive(Debug)]
pub struct Servers {
    socket: Socket,
    family_id: u16,
    family: Family,
    ipsets: Ipsets,
    ownership: Ownership,
    drain_limit: Duration,
    draining: BTreeMap<(Server, SocketAddr), Instant>,
    /// Those that nobody wants any more, but that may not be removed.
    left: BTreeSet<Server>,
    /// When to look at them next.
    drain_look: Instant,
    last_read: Instant,
}

/// How a process with no memory knows which virtual servers are ours.
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    /// Sets of addresses, protocols and ports, each of a virtual server of ours.
    pub addresses: Vec<SetName>,
    /// Sets of ports: a virtual server of ours is at each, on any address.
    pub ports: Vec<(SetName, Protocol)>,
    /// A virtual server in one of these ranges is never removed, whoever made it.
    pub spared: Vec<IpNet>,
}

/// How long the kernel remembers a connection that is silent; nothing leaves the kernel's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Of an established TCP connection.
    pub tcp: Option<Duration>,
    /// Of a TCP connection that is being closed.
    pub tcp_fin: Option<Duration>,
    /// Of UDP.
    pub udp: Option<Duration>,
}

/// IPVS cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Not in this kernel.
    #[error("the kernel has no IPVS; load the module ip_vs")]
    Missing,
    /// The scheduler is not in this kernel.
    #[error(
        "the kernel has no IPVS scheduler {scheduler:?}; load the module ip_vs_{scheduler}, or choose another"
    )]
    NoScheduler {
        /// Its name.
        scheduler: String,
    },
    /// The caller may not use it.
    #[error("IPVS: permission denied; virtual servers need root or CAP_NET_ADMIN")]
    Permission,
    /// The sets that tell which virtual servers are ours cannot be used.
    #[error(transparent)]
    Ipset(#[from] crate::ipset::OpenError),
    /// Anything else.
    #[error("IPVS: {0}")]
    Failed(#[from] NetlinkError),
}

/// A real server as it was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub at: SocketAddr,
    /// How it is used.
    pub destination: Destination,
    /// How many connections it has, also such as are being closed.
    pub connections: u64,
}

/// How often real servers that drain are looked at.
const DRAIN_LOOK: Duration = Duration::from_secs(1);

/// How often all is read again, as kube-proxy's ipvs mode does by itself (syncPeriod).
const READ_PERIOD: Duration = Duration::from_secs(30);

impl Servers {
    /// Opens the virtual servers of the calling thread's namespace. Real servers drain for at most this long.
    pub fn open(family: Family, ownership: Ownership, drain_limit: Duration) -> Result<Self, OpenError> {
        let mut socket = widened(Socket::open(netlink::Protocol::Generic)?)?;
        let family_id = family_id(&mut socket)?.ok_or(OpenError::Missing)?;
        let sets = ownership.addresses.iter().chain(ownership.ports.iter().map(|(name, _)| name));
        let ipsets = Ipsets::open(sets.cloned().collect())?;
        Ok(Self {
            socket,
            family_id,
            family,
            ipsets,
            ownership,
            drain_limit,
            draining: BTreeMap::new(),
            left: BTreeSet::new(),
            drain_look: Instant::now(),
            last_read: Instant::now(),
        })
    }

    /// Whether there is a scheduler. The kernel can only be asked by making a virtual server that uses it.
    pub fn require(&mut self, scheduler: &Scheduler) -> Result<(), OpenError> {
        let probe = Server { protocol: Protocol::Tcp, at: SocketAddr::from(([198, 51, 100, 0], 20_000)) };
        let service =
            Service { scheduler: *scheduler, persistence: None, flags: ipvs::SchedulerFlags::default() };
        match self.socket.request(&mut wire::put_server(self.family_id, wire::NEW_SERVICE, &probe, &service))
        {
            Ok(()) => Ok(self.socket.request(&mut wire::drop_server(self.family_id, &probe))?),
            // Somebody else probes just now.
            Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
            Err(error) => Err(match error.errno() {
                Some(Errno::NOENT) => OpenError::NoScheduler { scheduler: scheduler.to_string() },
                Some(Errno::PERM) => OpenError::Permission,
                Some(_) | None => error.into(),
            }),
        }
    }

    /// Sets the timeouts of the namespace. Those that are not given stay.
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<(), NetlinkError> {
        if *timeouts == Timeouts::default() {
            return Ok(());
        }
        self.socket.request(&mut wire::set_timeouts(self.family_id, timeouts))
    }

    /// The timeouts of the namespace.
    pub fn timeouts(&mut self) -> Result<Timeouts, NetlinkError> {
        let mut timeouts = Timeouts::default();
        self.socket.query(&mut wire::ask_timeouts(self.family_id), |reply| {
            timeouts = wire::timeouts(&reply)?;
            Ok(())
        })?;
        Ok(timeouts)
    }

    /// The real servers of a virtual server.
    pub fn destinations(&mut self, server: &Server) -> Result<Vec<Listed>, NetlinkError> {
        self.socket
            .dump_all(&mut wire::list_destinations(self.family_id, server), |reply| wire::destination(&reply))
    }

    /// How many connections virtual servers of ours have that would notice their end, also such as are being closed.
    pub fn connections(&mut self) -> Result<u64, NetlinkError> {
        let mut sum = 0;
        for (server, _) in
            self.servers()?.into_iter().filter(|(server, _)| keeps_connections(server.protocol))
        {
            sum += self.destinations(&server)?.iter().map(|listed| listed.connections).sum::<u64>();
        }
        Ok(sum)
    }

    /// Removes those virtual servers of ours whose connections would not notice it.
    pub fn remove_connectionless(&mut self) -> Result<(), NetlinkError> {
        for (server, _) in self.servers()? {
            if !keeps_connections(server.protocol) && !self.spares(&server) {
                self.socket.request(&mut wire::drop_server(self.family_id, &server))?;
            }
        }
        Ok(())
    }

    /// Those of ours.
    fn servers(&mut self) -> Result<Vec<(Server, Service)>, NetlinkError> {
        let all =
            self.socket.dump_all(&mut wire::list_servers(self.family_id), |reply| wire::server(&reply))?;
        let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
        for name in &self.ownership.addresses {
            addresses.extend(self.ipsets.list(name)?.into_iter().flat_map(|listed| listed.members));
        }
        for (name, protocol) in &self.ownership.ports {
            let members = self.ipsets.list(name)?.into_iter().flat_map(|listed| listed.members);
            ports.extend(members.map(|member| (*protocol, member)));
        }
        let is_ours = |server: &Server| {
            let (ip, port) = (server.at.ip(), server.at.port());
            self.has(&ip)
                && !self.left.contains(server)
                && (addresses.contains(&Member::IpPort(ip, server.protocol, port))
                    || ports.contains(&(server.protocol, Member::Port(port))))
        };
        Ok(all.into_iter().filter(|(server, _)| is_ours(server)).collect())
    }

    fn spares(&self, server: &Server) -> bool {
        self.ownership.spared.iter().any(|range| range.contains(&server.at.ip()))
    }

    fn has(&self, ip: &IpAddr) -> bool {
        match self.family {
            Family::Inet => ip.is_ipv4(),
            Family::Inet6 => ip.is_ipv6(),
        }
    }

    /// The request that a change stands for; none where a greater change settles it.
    fn message(&mut self, change: &Change<ipvs::Ipvs>, gone: &BTreeSet<Server>) -> Option<netlink::Message> {
        let id = self.family_id;
        match change {
            Change::Put { key: Key::Server(server), value: Value::Server(service), replaced } => {
                let is_there = self.left.remove(server) || replaced.is_some();
                let command = if is_there { wire::SET_SERVICE } else { wire::NEW_SERVICE };
                Some(wire::put_server(id, command, server, service))
            }
            Change::Put { key: Key::Destination(server, at), value: Value::Destination(to), replaced } => {
                let drains = self.draining.remove(&(*server, *at)).is_some();
                let command = if drains || replaced.is_some() { wire::SET_DEST } else { wire::NEW_DEST };
                Some(wire::put_destination(id, command, server, *at, *to))
            }
            Change::Put { .. } => None,
            Change::Drop { key: Key::Server(server), .. } => {
                self.draining.retain(|(behind, _), _| behind != server);
                if self.spares(server) {
                    self.left.insert(*server);
                    return None;
                }
                Some(wire::drop_server(id, server))
            }
            Change::Drop { key: Key::Destination(server, _), .. } if gone.contains(server) => None,
            Change::Drop { key: Key::Destination(server, at), value } => {
                let Value::Destination(to) = value else { return None };
                if !keeps_connections(server.protocol) {
                    return Some(wire::drop_destination(id, server, *at));
                }
                self.draining.insert((*server, *at), Instant::now());
                let idle = Destination { weight: 0, ..*to };
                Some(wire::put_destination(id, wire::SET_DEST, server, *at, idle))
            }
        }
    }

    /// Removes the real servers of one virtual server that have drained.
    fn remove_drained(&mut self, server: &Server) -> Result<(), NetlinkError> {
        let listed = self.destinations(server)?;
        let here = self.draining.range((*server, lowest())..).take_while(|((behind, _), _)| behind == server);
        let draining: Vec<(SocketAddr, Instant)> = here.map(|((_, at), since)| (*at, *since)).collect();
        for (at, since) in draining {
            let found = listed.iter().find(|listed| listed.at == at);
            let stays = |listed: &Listed| listed.connections > 0 && since.elapsed() < self.drain_limit;
            if found.is_some_and(stays) {
                continue;
            }
            if found.is_some() {
                match self.socket.request(&mut wire::drop_destination(self.family_id, server, at)) {
                    Err(error) if error.errno() == Some(Errno::NOENT) => {}
                    other => other?,
                }
            }
            self.draining.remove(&(*server, at));
        }
        Ok(())
    }
}

impl Target<ipvs::Ipvs> for Servers {
    /// As many as two system calls take.
    const LARGE: usize = 2 * crate::pipeline::AT_ONCE;

    fn read(&mut self, found: &mut dyn FnMut(Key, Value)) -> Result<(), ReadError> {
        let failed = |source: NetlinkError| ReadError { source: source.into() };
        let mut draining = BTreeMap::new();
        for (server, service) in self.servers().map_err(failed)? {
            found(Key::Server(server), Value::Server(service));
            for Listed { at, destination, .. } in self.destinations(&server).map_err(failed)? {
                if destination.weight == 0 {
                    let since = self.draining.get(&(server, at)).copied();
                    draining.insert((server, at), since.unwrap_or_else(Instant::now));
                } else {
                    found(Key::Destination(server, at), Value::Destination(destination));
                }
            }
        }
        self.draining = draining;
        self.last_read = Instant::now();
        Ok(())
    }

    fn write(&mut self, changes: &[Change<ipvs::Ipvs>]) -> Result<(), WriteError> {
        let gone: BTreeSet<Server> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Drop { key: Key::Server(server), .. } => Some(*server),
                Change::Drop { .. } | Change::Put { .. } => None,
            })
            .collect();
        // What is gone already need not go.
        let forgives = |change: &Change<ipvs::Ipvs>, refusal: &Refusal| {
            matches!(change, Change::Drop { .. }) && matches!(refusal.errno, Errno::NOENT | Errno::SRCH)
        };
        let mut pipeline = Pipeline::default();
        for (index, change) in changes.iter().enumerate() {
            if let Some(message) = self.message(change, &gone) {
                pipeline.push(index, message);
            }
            if pipeline.is_full() {
                pipeline.send(&mut self.socket, changes, forgives, words)?;
            }
        }
        pipeline.send(&mut self.socket, changes, forgives, words)
    }

    /// The kernel tells nobody of a virtual server that changed, so all is read again now and then. What has drained
    /// by then goes on the way.
    fn drift(&mut self) -> Drift<ipvs::Ipvs> {
        if self.drain_look <= Instant::now() {
            self.drain_look = Instant::now() + DRAIN_LOOK;
            let servers: BTreeSet<Server> = self.draining.keys().map(|(server, _)| *server).collect();
            if !servers.into_iter().all(|server| self.remove_drained(&server).is_ok()) {
                return Drift::Possible;
            }
        }
        if self.last_read.elapsed() < READ_PERIOD { Drift::None } else { Drift::Possible }
    }

    fn bytes_sent(&self) -> u64 {
        self.socket.bytes_sent()
    }
}

/// The kernel's words, or ours where it means the scheduler.
fn words(change: &Change<ipvs::Ipvs>, refusal: &Refusal) -> String {
    match change {
        Change::Put { value: Value::Server(service), .. } if refusal.errno == Errno::NOENT => {
            OpenError::NoScheduler { scheduler: service.scheduler.to_string() }.to_string()
        }
        Change::Put { .. } | Change::Drop { .. } => refusal.to_string(),
    }
}

/// Whether a connection of this protocol would notice that its real server is gone.
fn keeps_connections(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp => true,
        Protocol::Udp | Protocol::Sctp => false,
    }
}

/// What sorts before every address.
fn lowest() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

/// The number under which IPVS can be spoken to. The kernel loads the module if it has one.
fn family_id(socket: &mut Socket) -> Result<Option<u16>, NetlinkError> {
    let mut id = None;
    let asked = socket.query(&mut wire::ask_family(), |reply| {
        id = wire::family_id(&reply)?.or(id);
        Ok(())
    });
    match asked {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        other => other.map(|()| id),
    }
}

#[cfg(test)]
mod tests;
