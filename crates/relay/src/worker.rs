//! A thread that relays: one epoll, and everything that is told by it.
//!
//! Sockets are watched edge by edge: the kernel tells once, and what is told is remembered until a call finds that it
//! is no longer so. So moving bytes costs no call besides those that move them.

mod mailbox;
mod token;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kernel_state::listeners::Transport;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tracing::{info, warn};

use crate::clock::Moment;
use crate::connection::{ATTEMPTS, Call, Calling, Connection, NoAnswer, Progress, Side, Why, reset};
use crate::flows::{Drained, Flows};
use crate::listeners::Portal;
use crate::slab::{Slab, Ticket};
use crate::stream::Tools;
use crate::{Settings, Shared};

pub(crate) use mailbox::{Command, Mailbox};
use token::Token;

/// The thread's own things.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    epoll: OwnedFd,
    portals: BTreeMap<u32, Arc<Portal>>,
    connections: Slab<Connection>,
    flows: Flows,
    calling: Calling,
    tools: Tools,
    /// What has more to do than its share, to go on with when all others had theirs.
    again: VecDeque<Token>,
    /// Calls that run, by how long they may take: the one that ends first stands first.
    calls: [VecDeque<(Moment, Ticket)>; ATTEMPTS.len()],
    next_sweep: Moment,
    shortage: Shortage,
}

/// What waits for descriptors.
#[derive(Default)]
struct Shortage {
    until: Option<Moment>,
    /// Whether few were left when the last client was accepted.
    is_near: bool,
    /// Clients that were accepted but have no endpoint yet.
    clients: VecDeque<(OwnedFd, Box<Call>)>,
    /// Listeners that have more clients.
    portals: Vec<u32>,
    /// When it was last told of.
    told: Option<Moment>,
}

/// How many clients of a listener are accepted before others come first.
const ACCEPTED: usize = 64;
const EVENTS: usize = 256;
const PAUSE: Duration = Duration::from_millis(100);
const SWEEP: Duration = Duration::from_secs(1);

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mailbox = shared.mailboxes[index].bell();
        epoll::add(&epoll, mailbox, Token::Mailbox.data(), EventFlags::IN)?;
        let Settings { balancer, mark, .. } = shared.settings;
        let (ways, counts) = (Arc::clone(&shared.ways), Arc::clone(&shared.counts));
        let descriptors = Arc::clone(&shared.descriptors);
        let tools = Tools::new(Arc::clone(&descriptors));
        let calling = Calling { balancer, mark, ways, counts, descriptors };
        let next_sweep = shared.clock.now();
        Ok(Self {
            shared,
            index,
            epoll,
            portals: BTreeMap::new(),
            connections: Slab::new(),
            flows: Flows::new(calling.clone(), index),
            calling,
            tools,
            again: VecDeque::new(),
            calls: Default::default(),
            next_sweep,
            shortage: Shortage::default(),
        })
    }

    /// Relays until told to stop.
    pub(crate) fn run(&mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            let timeout = self.timeout().and_then(|timeout| Timespec::try_from(timeout).ok());
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    warn!(%error, "a thread of the relay cannot wait and ends");
                    return;
                }
            }
            let now = self.shared.clock.now();
            for _ in 0..self.again.len() {
                if let Some(token) = self.again.pop_front() {
                    self.attend(token, EventFlags::empty(), now);
                }
            }
            for event in &events {
                // The struct is packed: its fields are copied out.
                let (flags, data) = (event.flags, event.data);
                if self.attend(Token::of(data), flags, now) == Then::Stop {
                    return;
                }
            }
            self.end_slow_calls(now);
            self.end_shortage(now);
            self.sweep(now);
            self.count();
        }
    }

    /// Until when nothing is to be done unless the kernel tells.
    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let calls = self.calls.iter().filter_map(|calls| calls.front().map(|(until, _)| *until));
        let has_clients = !self.connections.is_empty() || !self.flows.is_empty();
        let sweep = has_clients.then_some(self.next_sweep);
        let next = calls.chain(sweep).chain(self.shortage.until).min()?;
        // One more, since a moment is over only when the next one has begun.
        Some(self.shared.clock.now().until(next) + Duration::from_millis(1))
    }

    fn attend(&mut self, token: Token, flags: EventFlags, now: Moment) -> Then {
        match token {
            Token::Mailbox => return self.obey(),
            Token::Portal(id) => match self.portals.get(&id).map(|portal| portal.transport) {
                Some(Transport::Tcp) => self.accept(id, now),
                Some(Transport::Udp) => self.take_datagrams(id, now),
                None => {}
            },
            Token::Client(ticket) => self.advance(ticket, Side::Client, flags, now),
            Token::Endpoint(ticket) => self.advance(ticket, Side::Endpoint, flags, now),
            Token::Flow(ticket) => {
                if self.flows.down(ticket, now) == Drained::Enough {
                    self.again.push_back(token);
                }
            }
        }
        Then::GoOn
    }

    fn obey(&mut self) -> Then {
        for command in self.shared.mailboxes[self.index].take() {
            match command {
                Command::Open(portal) => self.open(portal),
                Command::Serve(client, call) => {
                    self.begin(client, call, self.shared.clock.now());
                    self.shared.underway.fetch_sub(1, Ordering::Relaxed);
                }
                Command::Close(portal) => self.close(&portal),
                Command::CloseAll => {
                    let portals: Vec<_> = self.portals.values().cloned().collect();
                    for portal in &portals {
                        self.close(portal);
                    }
                }
                Command::Stop => return Then::Stop,
            }
        }
        Then::GoOn
    }

    /// All threads wait at a listener for connections, and the kernel wakes one. For datagrams each has a socket of
    /// its own; the kernel gives all of one client to the same socket, so its flow is in one place.
    fn open(&mut self, portal: Arc<Portal>) {
        let flags = match portal.transport {
            Transport::Tcp => EventFlags::IN | EventFlags::ET | EventFlags::EXCLUSIVE,
            Transport::Udp => EventFlags::IN | EventFlags::ET,
        };
        let data = Token::Portal(portal.id).data();
        if let Err(error) = epoll::add(&self.epoll, portal.socket(self.index), data, flags) {
            warn!(%error, "a listener cannot be watched");
        }
        self.portals.insert(portal.id, portal);
    }

    fn close(&mut self, portal: &Arc<Portal>) {
        if self.portals.remove(&portal.id).is_some() {
            // The other threads hold it open for a moment.
            let _ = epoll::delete(&self.epoll, portal.socket(self.index));
            self.flows.close(portal);
        }
    }

    fn accept(&mut self, id: u32, now: Moment) {
        let Some(portal) = self.portals.get(&id).cloned() else { return };
        for _ in 0..ACCEPTED {
            if self.shortage.until.is_none() && self.others_come_first() {
                self.shortage.until = Some(now.after(PAUSE));
            }
            if self.shortage.until.is_some() {
                self.shortage.portals.push(id);
                return;
            }
            match acceptfrom_with(portal.socket(self.index), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((client, from)) => {
                    let Some(Ok(from)) = from.map(SocketAddr::try_from) else { continue };
                    let call = Box::new(Call::new(&portal, from, now));
                    self.shortage.is_near = self.shared.descriptors.are_scarce(&client);
                    if self.shared.descriptors.are_out(&client) {
                        self.wait_for_descriptors(client, call, now);
                    } else {
                        self.share(client, call, now);
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.run_short(now);
                    self.shortage.portals.push(id);
                    return;
                }
                // The client has gone, or an error of its network: the next one may do.
                Err(_) => {}
            }
        }
        self.again.push_back(Token::Portal(id));
    }

    /// Whether a client that is accepted now would take the descriptor that another one waits for. Whoever was accepted
    /// first comes first, at whichever thread.
    fn others_come_first(&self) -> bool {
        let has = |count: &AtomicUsize| count.load(Ordering::Relaxed) > 0;
        has(&self.shared.waiting) || (self.shortage.is_near && has(&self.shared.underway))
    }

    /// Serves a client, or leaves it to a thread that has fewer: the kernel wakes the same one first each time. Where
    /// descriptors are scarce nobody is left to others: there would be more clients than endpoints could be called for.
    fn share(&mut self, client: OwnedFd, call: Box<Call>, now: Moment) {
        self.count();
        let idler = if self.shortage.is_near { None } else { self.shared.idler(self.index) };
        match idler {
            Some(idler) => {
                self.shared.underway.fetch_add(1, Ordering::Relaxed);
                self.shared.loads[idler].fetch_add(1, Ordering::Relaxed);
                self.shared.mailboxes[idler].put(Command::Serve(client, call));
            }
            None => self.begin(client, call, now),
        }
    }

    fn begin(&mut self, client: OwnedFd, call: Box<Call>, now: Moment) {
        let connection = Connection::begin(client, call, &self.calling, now);
        self.admit(connection, now);
    }

    /// Takes a connection whose endpoint is called in, or lets its client go.
    fn admit(&mut self, connection: Result<Connection, NoAnswer>, now: Moment) {
        let connection = match connection {
            Ok(connection) => connection,
            Err(NoAnswer::Nobody(client)) => {
                self.shared.counts.unserved.add(1);
                return reset(&client);
            }
            Err(NoAnswer::OutOfDescriptors(client, call)) => {
                return self.wait_for_descriptors(client, call, now);
            }
        };
        let ticket = self.connections.next();
        let (data, flags) = (Token::Endpoint(ticket).data(), WATCHED);
        if let Err(error) = epoll::add(&self.epoll, connection.endpoint(), data, flags) {
            warn!(%error, "a connection cannot be watched");
            return connection.reset(&mut self.tools);
        }
        if let Some(call) = connection.call() {
            let patience = call.patience();
            self.calls[patience].push_back((now.after(ATTEMPTS[patience]), ticket));
        }
        self.connections.insert(connection);
    }

    fn advance(&mut self, ticket: Ticket, side: Side, flags: EventFlags, now: Moment) {
        let Some(connection) = self.connections.get_mut(ticket) else { return };
        if connection.call().is_some() {
            if connection.answered().is_err() {
                return self.call_another(ticket, Why::Refused, now);
            }
            // The client is watched from here on; what it has sent already is read at once.
            let data = Token::Client(ticket).data();
            if let Err(error) = epoll::add(&self.epoll, connection.client(), data, WATCHED) {
                warn!(%error, "a connection cannot be watched");
                return self.end(ticket, Ending::Reset);
            }
        }
        let told = Some((side, flags)).filter(|(_, flags)| !flags.is_empty());
        match connection.advance(told, &mut self.tools, now) {
            Progress::Waits => {}
            Progress::GoesOn => self.again.push_back(Token::Client(ticket)),
            Progress::Over => self.end(ticket, Ending::Quiet),
            Progress::Broken => self.end(ticket, Ending::Reset),
        }
    }

    fn call_another(&mut self, ticket: Ticket, why: Why, now: Moment) {
        if let Some(connection) = self.connections.remove(ticket) {
            let next = connection.call_another(why, &self.calling, now);
            self.admit(next, now);
        }
    }

    fn end(&mut self, ticket: Ticket, ending: Ending) {
        let Some(connection) = self.connections.remove(ticket) else { return };
        match ending {
            Ending::Quiet => connection.end(&mut self.tools),
            Ending::Reset => connection.reset(&mut self.tools),
        }
    }

    fn take_datagrams(&mut self, id: u32, now: Moment) {
        let Some(portal) = self.portals.get(&id).cloned() else { return };
        let epoll = &self.epoll;
        let mut watch = |socket: &OwnedFd, ticket| {
            epoll::add(epoll, socket.as_fd(), Token::Flow(ticket).data(), EventFlags::IN | EventFlags::ET)
        };
        if self.flows.up(&portal, &mut watch, now) == Drained::Enough {
            self.again.push_back(Token::Portal(id));
        }
    }

    fn end_slow_calls(&mut self, now: Moment) {
        for patience in 0..ATTEMPTS.len() {
            while let Some((_, ticket)) = self.calls[patience].pop_front_if(|(until, _)| *until <= now) {
                let connection = self.connections.get_mut(ticket);
                if connection.is_some_and(|connection| connection.call().is_some()) {
                    self.call_another(ticket, Why::Silent, now);
                }
            }
        }
    }

    /// An accepted client waits until there are some again.
    fn wait_for_descriptors(&mut self, client: OwnedFd, call: Box<Call>, now: Moment) {
        self.run_short(now);
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.shortage.clients.push_back((client, call));
    }

    /// Accepting pauses; it is told once in a while.
    fn run_short(&mut self, now: Moment) {
        const SILENCE: Duration = Duration::from_mins(1);
        self.shared.counts.shortages.add(1);
        self.tools.spare();
        self.shortage.until = Some(now.after(PAUSE));
        self.shared.descriptors.look();
        if self.shortage.told.is_none_or(|told| told.after(SILENCE) <= now) {
            self.shortage.told = Some(now);
            warn!("descriptors have run out; accepting pauses until connections end");
        }
    }

    /// Goes on with what waited for descriptors.
    fn end_shortage(&mut self, now: Moment) {
        if self.shortage.until.is_none_or(|until| until > now) {
            return;
        }
        self.shortage.until = None;
        while !self.shortage.clients.is_empty() && self.shortage.until.is_none() {
            if self.shared.descriptors.are_out_now(&self.epoll) {
                self.run_short(now);
            } else if let Some((client, call)) = self.shortage.clients.pop_front() {
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                self.begin(client, call, now);
            }
        }
        if self.shortage.until.is_some() {
            return;
        }
        for id in std::mem::take(&mut self.shortage.portals) {
            self.accept(id, now);
        }
    }

    fn sweep(&mut self, now: Moment) {
        if now < self.next_sweep {
            return;
        }
        let udp_timeout = self.shared.settings.udp_timeout;
        let pause = if self.flows.is_empty() { SWEEP } else { SWEEP.min(udp_timeout / 4) };
        self.next_sweep = now.after(pause.max(Duration::from_millis(10)));
        self.flows.sweep(udp_timeout, now);
        let drain_timeout = self.shared.settings.drain_timeout;
        let overdue: Vec<Ticket> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.call().is_none())
            .filter(|(_, connection)| connection.is_overdue(drain_timeout, now))
            .map(|(ticket, _)| ticket)
            .collect();
        if !overdue.is_empty() {
            info!(
                connections = overdue.len(),
                "connections ended: idle, or their endpoint has long been gone"
            );
        }
        for ticket in overdue {
            self.end(ticket, Ending::Reset);
        }
    }

    /// Lets others know how many clients there are.
    fn count(&mut self) {
        let clients = self.connections.len() + self.flows.len() + self.shortage.clients.len();
        self.shared.loads[self.index].store(clients, Ordering::Relaxed);
    }
}

/// What the kernel tells of both sides of a connection.
const WATCHED: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    Stop,
}

/// How both sides of a connection are closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Both have said all.
    Quiet,
    /// Both learn that something was lost.
    Reset,
}
