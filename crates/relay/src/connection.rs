//! A connection: a client, and the endpoint that is called for it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use kernel_state::listeners::{Caller, Header};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, socket_error};

use crate::Mark;
use crate::clock::Moment;
use crate::counts::Counts;
use crate::descriptors::Descriptors;
use crate::header;
use crate::listeners::Portal;
use crate::pool::{Balancer, Lease, Pool};
use crate::stream::{Moved, Stream, Tools};
use crate::towards::{Ways, called};

/// A client and its endpoint.
pub(crate) struct Connection {
    client: OwnedFd,
    endpoint: OwnedFd,
    lease: Lease,
    /// While the endpoint has not answered.
    call: Option<Box<Call>>,
    up: Stream,
    down: Stream,
    /// When bytes were last moved.
    moved: Moment,
}

/// The search for an endpoint that answers.
pub(crate) struct Call {
    pool: Arc<Pool>,
    caller: Caller,
    client: SocketAddr,
    tried: Vec<SocketAddr>,
    attempts: usize,
    /// Whether one of them may only have been slow.
    silence: Silence,
    until: Moment,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Silence {
    Some,
    None,
}

/// A client for whom no endpoint answers.
pub(crate) enum NoAnswer {
    /// None is left to try.
    Nobody(OwnedFd),
    /// It is not known: there are no descriptors left.
    OutOfDescriptors(OwnedFd, Box<Call>),
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It waits for the kernel to tell.
    Waits,
    /// It may have more; others come first.
    GoesOn,
    /// Both sides have said all.
    Over,
    /// One side is broken.
    Broken,
}

/// Which side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Endpoint,
}

/// How a thread calls endpoints.
#[derive(Clone)]
pub(crate) struct Calling {
    pub(crate) balancer: Balancer,
    pub(crate) mark: Mark,
    pub(crate) ways: Arc<Ways>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) descriptors: Arc<Descriptors>,
}

/// How long each attempt may take, as upstream's; and all together.
pub(crate) const ATTEMPTS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
const ALL_ATTEMPTS: Duration = Duration::from_secs(10);

/// How long a connection may be without a byte: what the kernel's connection tracker gives it in the other modes.
const IDLE: Duration = Duration::from_hours(24);
const HALF_CLOSED: Duration = Duration::from_hours(1);

impl Call {
    pub(crate) fn new(portal: &Portal, client: SocketAddr, now: Moment) -> Self {
        let (pool, caller) = (portal.pool(), portal.caller);
        let (tried, silence) = (Vec::new(), Silence::None);
        Self { pool, caller, client, tried, attempts: 0, silence, until: now.after(ALL_ATTEMPTS) }
    }

    /// How long the attempt that runs may take, as a place in [`ATTEMPTS`].
    pub(crate) fn patience(&self) -> usize {
        self.attempts.saturating_sub(1).min(ATTEMPTS.len() - 1)
    }

    /// Begins to call the next endpoint.
    fn next(&mut self, calling: &Calling, now: Moment) -> Result<(OwnedFd, Lease), Next> {
        loop {
            let picked = self.pool.pick(self.client.ip(), &self.tried, calling.balancer, now);
            calling.counts.passed_over.add(self.pool.take_passed_over());
            let lease = match picked {
                Some(lease) => lease,
                // Whoever was silent is asked again, as long as there is time.
                None if self.may_ask_again(now) => {
                    self.tried.clear();
                    self.silence = Silence::None;
                    continue;
                }
                None => return Err(Next::Nobody),
            };
            self.attempts += 1;
            let at = lease.endpoint().at;
            let name = calling.ways.name(self.caller, self.client, at.ip(), now);
            match called(at, calling.mark, name, &calling.descriptors) {
                Ok(socket) => return Ok((socket, lease)),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.attempts -= 1;
                    return Err(Next::OutOfDescriptors);
                }
                Err(_) => {
                    calling.counts.refused.add(1);
                    lease.endpoint().failed(now);
                    self.tried.push(lease.endpoint().at);
                }
            }
        }
    }

    fn may_ask_again(&self, now: Moment) -> bool {
        let more = self.attempts < ATTEMPTS.len().max(self.pool.len());
        self.silence == Silence::Some && more && now < self.until
    }
}

enum Next {
    Nobody,
    OutOfDescriptors,
}

impl Connection {
    /// Takes a client in and calls an endpoint for it.
    pub(crate) fn begin(
        client: OwnedFd,
        mut call: Box<Call>,
        calling: &Calling,
        now: Moment,
    ) -> Result<Self, NoAnswer> {
        match call.next(calling, now) {
            Ok((endpoint, lease)) => {
                let (up, down) = (Stream::new(), Stream::new());
                Ok(Self { client, endpoint, lease, call: Some(call), up, down, moved: now })
            }
            Err(Next::Nobody) => Err(NoAnswer::Nobody(client)),
            Err(Next::OutOfDescriptors) => Err(NoAnswer::OutOfDescriptors(client, call)),
        }
    }

    pub(crate) fn client(&self) -> &OwnedFd {
        &self.client
    }

    pub(crate) fn endpoint(&self) -> &OwnedFd {
        &self.endpoint
    }

    /// The search, while it goes on.
    pub(crate) fn call(&self) -> Option<&Call> {
        self.call.as_deref()
    }

    /// Whether the endpoint has answered; to be asked when the kernel tells something of its socket.
    pub(crate) fn answered(&mut self) -> Result<(), Errno> {
        if let Some(call) = &self.call {
            socket_error(&self.endpoint).and_then(|error| error)?;
            match call.pool.header {
                Header::None => {}
                Header::ProxyV2 => header::tell(&self.endpoint, &self.client, call.client)?,
            }
            self.lease.endpoint().answered();
            self.call = None;
        }
        Ok(())
    }

    /// Calls another endpoint, since this one refused or was silent too long.
    pub(crate) fn call_another(self, why: Why, calling: &Calling, now: Moment) -> Result<Self, NoAnswer> {
        let Self { client, lease, call, .. } = self;
        lease.endpoint().failed(now);
        match why {
            Why::Refused => calling.counts.refused.add(1),
            Why::Silent => calling.counts.silent.add(1),
        }
        let Some(mut call) = call else { return Err(NoAnswer::Nobody(client)) };
        call.tried.push(lease.endpoint().at);
        if why == Why::Silent {
            call.silence = Silence::Some;
        }
        Self::begin(client, call, calling, now)
    }

    /// Moves bytes both ways, as what the kernel told of a side lets expect.
    pub(crate) fn advance(
        &mut self,
        told: Option<(Side, EventFlags)>,
        tools: &mut Tools,
        now: Moment,
    ) -> Progress {
        if let Some((side, flags)) = told {
            self.note(side, flags);
        }
        self.moved = now;
        let (client, endpoint) = (self.client.as_fd(), self.endpoint.as_fd());
        let up = self.up.advance(client, endpoint, tools);
        let down = self.down.advance(endpoint, client, tools);
        match (up, down) {
            (Err(_), _) | (_, Err(_)) => Progress::Broken,
            (Ok(Moved::Enough), _) | (_, Ok(Moved::Enough)) => Progress::GoesOn,
            _ if self.up.is_over() && self.down.is_over() => Progress::Over,
            (Ok(Moved::All), Ok(Moved::All)) => Progress::Waits,
        }
    }

    fn note(&mut self, side: Side, flags: EventFlags) {
        let (from, to) = match side {
            Side::Client => (&mut self.up, &mut self.down),
            Side::Endpoint => (&mut self.down, &mut self.up),
        };
        let broken = EventFlags::ERR | EventFlags::HUP;
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | broken) {
            from.readable();
        }
        if flags.intersects(EventFlags::OUT | broken) {
            to.writable();
        }
    }

    /// Whether it has been without a byte for too long, or its endpoint has been gone for too long.
    pub(crate) fn is_overdue(&self, drain_timeout: Duration, now: Moment) -> bool {
        let is_half_closed = self.up.is_over() || self.down.is_over();
        let idle = if is_half_closed { HALF_CLOSED } else { IDLE };
        let gone = self.lease.endpoint().left().is_some_and(|left| left.after(drain_timeout) <= now);
        gone || self.moved.after(idle) <= now
    }

    /// Closes both sides as they are.
    pub(crate) fn end(self, tools: &mut Tools) {
        self.up.end(tools);
        self.down.end(tools);
    }

    /// Lets both sides know that something was lost.
    pub(crate) fn reset(self, tools: &mut Tools) {
        reset(&self.client);
        reset(&self.endpoint);
        self.end(tools);
    }
}

/// Why another endpoint is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Refused,
    Silent,
}

/// Makes closing a socket reset its connection: whoever reads must not take what was lost for the end.
pub(crate) fn reset(socket: &OwnedFd) {
    // Where that fails the connection is broken anyway.
    let _ = set_socket_linger(socket, Some(Duration::ZERO));
}
