//! The relay of the userspace mode: takes what comes to a listener and passes it on to an endpoint.
//!
//! ```text
//! Target::write ──▶ listeners ──▶ workers (a thread each, one epoll each)
//!                    open, lead,    TCP: accept, call an endpoint, move bytes both ways
//!                    close          UDP: a flow for each client, moved by the batch
//! ```
//! It knows nothing of Services: a listener has a name and leads to a [`pool`] of endpoints.

mod clock;
mod connection;
mod counts;
mod descriptors;
mod flows;
mod header;
mod listeners;
mod pool;
mod ports;
mod refusal;
mod slab;
mod stream;
mod towards;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use counts::Counts;
pub use listeners::RelayListeners;
pub use pool::Balancer;
pub use ports::{PortRange, PortRangeError};

use clock::Clock;
use descriptors::Descriptors;
use towards::Ways;
use worker::{Command, Mailbox, Worker};

/// How a relay works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many threads move bytes.
    pub workers: usize,
    /// Which endpoint a new client gets.
    pub balancer: Balancer,
    /// The mark of everything that is sent to endpoints, so that rules can spare it.
    pub mark: Mark,
    /// How long a client that sends datagrams is remembered without any.
    pub udp_timeout: Duration,
    /// How long connections to an endpoint that has left its pool may live on.
    pub drain_timeout: Duration,
}

/// Whether what is sent to endpoints is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// With this; needs `CAP_NET_ADMIN`.
    Bits(u32),
    /// It is not.
    None,
}

/// Threads that relay. They end when this is dropped, and what they relay with them.
pub struct Relay {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the workers and those who command them share.
struct Shared {
    settings: Settings,
    clock: Clock,
    mailboxes: Vec<Mailbox>,
    /// How many listeners were opened so far.
    portals: AtomicU32,
    /// How many clients each thread has.
    loads: Vec<AtomicUsize>,
    /// How many clients were accepted and wait for a descriptor to call an endpoint with.
    waiting: AtomicUsize,
    /// How many are on their way from the thread that accepted them to another one.
    underway: AtomicUsize,
    descriptors: Arc<Descriptors>,
    ways: Arc<Ways>,
    counts: Arc<Counts>,
}

impl Relay {
    /// Starts the threads, in the network namespace of the caller.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let count = settings.workers.max(1);
        let mailboxes = (0..count).map(|_| Mailbox::new()).collect::<Result<_, _>>()?;
        let shared = Arc::new(Shared {
            settings,
            clock: Clock::start(),
            mailboxes,
            portals: AtomicU32::new(0),
            loads: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            waiting: AtomicUsize::new(0),
            underway: AtomicUsize::new(0),
            descriptors: Arc::new(Descriptors::new()),
            ways: Arc::default(),
            counts: Arc::default(),
        });
        let mut relay = Self { shared, threads: Vec::new() };
        for index in 0..relay.shared.mailboxes.len() {
            let mut worker = Worker::new(Arc::clone(&relay.shared), index)?;
            let thread = thread::Builder::new().name(format!("relay {index}"));
            relay.threads.push(thread.spawn(move || worker.run())?);
        }
        Ok(relay)
    }

    /// What went wrong so far, and will.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.shared.counts)
    }

    /// How many connections and flows there are.
    pub fn clients(&self) -> usize {
        self.shared.clients()
    }

    /// Takes no new clients, and waits until those that there are have gone, but no longer than this. Answers how
    /// many were left.
    pub fn drain(&self, grace: Duration) -> usize {
        const LOOK: Duration = Duration::from_millis(20);
        self.shared.tell(|| Command::CloseAll);
        let end = Instant::now() + grace;
        while self.shared.clients() > 0 && Instant::now() < end {
            thread::sleep(LOOK);
        }
        self.shared.clients()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.tell(|| Command::Stop);
        for thread in self.threads.drain(..) {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn tell(&self, command: impl Fn() -> Command) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.put(command()));
    }

    /// Connections and flows that live.
    fn clients(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }

    /// A thread that has clearly fewer clients than this one.
    fn idler(&self, than: usize) -> Option<usize> {
        const CLEARLY: usize = 2;
        let load = |index: &usize| self.loads[*index].load(Ordering::Relaxed);
        let idlest = (0..self.loads.len()).min_by_key(load)?;
        (load(&idlest) + CLEARLY <= load(&than)).then_some(idlest)
    }
}

#[cfg(test)]
mod tests;
