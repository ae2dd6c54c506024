//! Datagrams: a flow for each client, with a socket of its own towards its endpoint.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use kernel_io::datagrams::Batch;
use rustix::io::Errno;

use crate::clock::Moment;
use crate::connection::Calling;
use crate::listeners::Portal;
use crate::pool::Lease;
use crate::refusal::{Refusal, Refusals};
use crate::slab::{Slab, Ticket};
use crate::towards::exchanging;

/// All flows of a thread.
pub(crate) struct Flows {
    open: Slab<Flow>,
    by_client: HashMap<(u32, SocketAddr), Ticket>,
    batch: Batch,
    calling: Calling,
    refusals: Refusals,
    /// Which of a listener's sockets is this thread's.
    index: usize,
}

/// A client and its endpoint.
struct Flow {
    portal: Arc<Portal>,
    client: SocketAddr,
    endpoint: OwnedFd,
    lease: Lease,
    /// When a datagram last passed, either way.
    used: Moment,
}

/// How far the datagrams of a socket were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// There are none left.
    All,
    /// There may be more; others come first.
    Enough,
}

/// What an error of a flow's socket means.
enum Failure {
    /// It could not be done now.
    Passing,
    /// A datagram was longer than the path takes.
    TooLong,
    /// The endpoint does not take what it is sent; what its client is to be told of it.
    Refused(Option<Refusal>),
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Self::Passing,
            Some(Errno::MSGSIZE) => Self::TooLong,
            Some(error) => Self::Refused(Refusal::of(error)),
            None => Self::Refused(None),
        }
    }
}

/// What is done with sockets of new flows: their number is told, so that the kernel can tell of them.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(&OwnedFd, Ticket) -> Result<(), Errno>;

/// How many batches are moved before others come first.
const ENOUGH: usize = 8;

impl Flows {
    pub(crate) fn new(calling: Calling, index: usize) -> Self {
        Self {
            open: Slab::new(),
            by_client: HashMap::new(),
            batch: Batch::new(),
            calling,
            refusals: Refusals::default(),
            index,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Passes on what clients sent to a listener.
    pub(crate) fn up(&mut self, portal: &Arc<Portal>, watch: Watch<'_>, now: Moment) -> Drained {
        for _ in 0..ENOUGH {
            // An error is one of an earlier answer, which tells nothing of what is to be received.
            let Ok(count) = self.batch.receive(portal.socket(self.index).as_fd()) else {
                return Drained::All;
            };
            let mut start = 0;
            while start < count {
                let run = self.batch.run(start, count);
                start = run.end;
                if let Some(client) = self.batch.sender(run.start) {
                    self.pass_on(portal, client, run, watch, now);
                }
            }
            if count < Batch::SIZE {
                return Drained::All;
            }
        }
        Drained::Enough
    }

    /// Passes on what an endpoint answered.
    pub(crate) fn down(&mut self, ticket: Ticket, now: Moment) -> Drained {
        for _ in 0..ENOUGH {
            let Some(flow) = self.open.get_mut(ticket) else { return Drained::All };
            match self.batch.receive(flow.endpoint.as_fd()) {
                Ok(count) => {
                    flow.used = now;
                    flow.lease.endpoint().answered();
                    // What the client's socket has no room for is lost, as datagrams are.
                    let socket = flow.portal.socket(self.index).as_fd();
                    let _ = self.batch.send(0..count, socket, Some(flow.client));
                    if count < Batch::SIZE {
                        return Drained::All;
                    }
                }
                Err(error) => match Failure::of(&error) {
                    Failure::Passing => return Drained::All,
                    // The path takes no datagrams so long; the next ones are sent in parts. There may be more to read.
                    Failure::TooLong => {}
                    Failure::Refused(refusal) => {
                        self.refused(ticket, refusal, now);
                        return Drained::All;
                    }
                },
            }
        }
        Drained::Enough
    }

    /// Ends the flows that have been idle for so long.
    pub(crate) fn sweep(&mut self, idle: Duration, now: Moment) {
        self.remove_all(|flow| flow.used.after(idle) <= now);
    }

    /// Ends the flows of a listener.
    pub(crate) fn close(&mut self, portal: &Portal) {
        self.remove_all(|flow| flow.portal.id == portal.id);
    }

    fn pass_on(
        &mut self,
        portal: &Arc<Portal>,
        client: SocketAddr,
        datagrams: std::ops::Range<usize>,
        watch: Watch<'_>,
        now: Moment,
    ) {
        let mut tried = Vec::new();
        // A socket tells only when it is next used that its endpoint has refused what went before.
        for _ in 0..=portal.pool().len() {
            let Some(ticket) = self.flow(portal, client, &tried, watch, now) else { return };
            let Some(flow) = self.open.get_mut(ticket) else { return };
            flow.used = now;
            match self.batch.send(datagrams.clone(), flow.endpoint.as_fd(), None) {
                Ok(_) => return,
                Err(error) => match Failure::of(&error) {
                    // No room: it is lost, as datagrams are.
                    Failure::Passing => return,
                    Failure::TooLong => {}
                    Failure::Refused(refusal) => {
                        tried.push(flow.lease.endpoint().at);
                        self.refused(ticket, refusal, now);
                    }
                },
            }
        }
    }

    /// The flow of a client; a new one, if it has none to an endpoint that is still there.
    fn flow(
        &mut self,
        portal: &Arc<Portal>,
        client: SocketAddr,
        tried: &[SocketAddr],
        watch: Watch<'_>,
        now: Moment,
    ) -> Option<Ticket> {
        if let Some(ticket) = self.by_client.get(&(portal.id, client)).copied() {
            let flow = self.open.get_mut(ticket)?;
            if flow.lease.endpoint().left().is_none() {
                return Some(ticket);
            }
            self.remove(ticket);
        }
        let pool = portal.pool();
        let picked = pool.pick(client.ip(), tried, self.calling.balancer, now);
        self.calling.counts.passed_over.add(pool.take_passed_over());
        let lease = picked?;
        let at = lease.endpoint().at;
        let name = self.calling.ways.name(portal.caller, client, at.ip(), now);
        let endpoint = exchanging(at, self.calling.mark, name, &self.calling.descriptors).ok()?;
        watch(&endpoint, self.open.next()).ok()?;
        let flow = Flow { portal: Arc::clone(portal), client, endpoint, lease, used: now };
        let ticket = self.open.insert(flow);
        self.by_client.insert((portal.id, client), ticket);
        Some(ticket)
    }

    /// An endpoint does not take what it was sent. The client is told, as it would be by the endpoint itself, and goes
    /// to another one next time.
    fn refused(&mut self, ticket: Ticket, refusal: Option<Refusal>, now: Moment) {
        let Some(flow) = self.open.get_mut(ticket) else { return };
        flow.lease.endpoint().failed(now);
        if let Some(refusal) = refusal {
            self.refusals.tell(flow.client, flow.portal.at, refusal, self.calling.mark);
        }
        self.remove(ticket);
    }

    fn remove_all(&mut self, is_done: impl Fn(&Flow) -> bool) {
        let done: Vec<Ticket> =
            self.open.iter().filter(|(_, flow)| is_done(flow)).map(|(ticket, _)| ticket).collect();
        for ticket in done {
            self.remove(ticket);
        }
    }

    fn remove(&mut self, ticket: Ticket) {
        if let Some(flow) = self.open.remove(ticket) {
            self.by_client.remove(&(flow.portal.id, flow.client));
        }
    }
}
