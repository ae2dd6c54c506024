//! Clients: some hold connections for as long as the soak lasts, others connect anew all the time.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use kernel_io::netns::Netns;

use super::random::Random;
use super::world::{Outlook, Way, World};
use crate::field::{Answer, Field, ask, connect};

/// What came of all connections.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// New connections.
    pub(super) asked: usize,
    /// Those that had to be answered.
    pub(super) owed: usize,
    /// Those of them that were not.
    pub(super) lost: usize,
    /// Those of them that were, but a packet was lost before.
    pub(super) slow: usize,
    /// Those that reached an endpoint that they should not have.
    pub(super) astray: usize,
    /// Long connections that ended.
    pub(super) died: usize,
    /// Each of these in words.
    pub(super) faults: Vec<String>,
}

/// How many connections are held.
pub(super) const LONG: usize = 50;

/// A first packet that is lost is sent again after a second, and no sooner.
const RESENT: Duration = Duration::from_millis(950);

const PATIENCE: Duration = Duration::from_secs(5);

/// Where nobody has to answer, this long is long enough.
const SHORT_PATIENCE: Duration = Duration::from_millis(250);

/// Between two connections of one client.
const PAUSE: Duration = Duration::from_millis(40);

/// Starts all of them.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    field: &'scope Field,
    world: &'scope Mutex<World>,
    tally: &'scope Mutex<Tally>,
    stop: &'scope AtomicBool,
    seed: u64,
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    let places =
        [(&field.node, Way::ClusterIp), (&field.pod, Way::ClusterIp), (&field.outside, Way::NodePort)];
    let mut threads = Vec::new();
    for (number, (netns, way)) in (100_u64..).zip(places.into_iter().cycle().take(6)) {
        let client = Client { world, tally, stop, way, random: Random::new(seed + number) };
        threads.push(scope.spawn(move || inside(netns, client, Client::connect_anew)));
    }
    for (number, netns) in (200_u64..).zip([&field.node, &field.pod]) {
        let way = Way::ClusterIp;
        let client = Client { world, tally, stop, way, random: Random::new(seed + number) };
        threads.push(scope.spawn(move || inside(netns, client, Client::hold)));
    }
    threads
}

fn inside<'a>(netns: &Netns, client: Client<'a>, work: fn(Client<'a>)) {
    // The namespace was entered before; a thread that cannot be made ends the soak as a panic.
    netns.run(move || work(client)).expect("the namespace can be entered");
}

struct Client<'a> {
    world: &'a Mutex<World>,
    tally: &'a Mutex<Tally>,
    stop: &'a AtomicBool,
    way: Way,
    random: Random,
}

/// How the first packet of a connection travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Journey {
    Straight,
    Repeated,
}

/// A connection that is held.
struct Held {
    stream: TcpStream,
    name: String,
    endpoint: Ipv4Addr,
    since: Instant,
}

impl Client<'_> {
    fn connect_anew(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some((slot, at, settled, patience)) = self.pick() else { continue };
            let (sent_again, start) = (sent_again(), Instant::now());
            let answer = ask(at, patience);
            let took = start.elapsed();
            // A machine that is busy is slow as well, but then nothing was sent again.
            let loss = took > RESENT && self::sent_again() > sent_again;
            self.judge(slot, settled, answer, took, if loss { Journey::Repeated } else { Journey::Straight });
            thread::sleep(PAUSE);
        }
    }

    /// A Service; seldom one that nobody serves.
    fn pick(&mut self) -> Option<(usize, SocketAddr, u64, Duration)> {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = self.random.below(world.slots.len());
        let place = &world.slots[slot];
        let served = place.outlooks(world.settled).all(|outlook| !outlook.by(self.way).is_empty());
        let patience = if served { PATIENCE } else { SHORT_PATIENCE };
        let chosen = served || self.random.percent(10);
        chosen.then(|| (slot, place.at(self.way), world.settled, patience))
    }

    fn judge(&self, slot: usize, settled: u64, answer: Answer, took: Duration, journey: Journey) {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &world.slots[slot];
        let outlooks: Vec<&Outlook> = place.outlooks(settled).collect();
        let owed = outlooks.iter().all(|outlook| !outlook.by(self.way).is_empty());
        let name = format!("{} by {:?}", place.name(), self.way);
        let mut tally = self.tally();
        tally.asked += 1;
        tally.owed += usize::from(owed);
        match answer {
            Answer::By(ip) if !outlooks.iter().any(|outlook| outlook.by(self.way).contains(&ip)) => {
                tally.astray += 1;
                tally
                    .faults
                    .push(format!("{name} was answered by {ip}, settled {settled}, may be {outlooks:?}"));
            }
            Answer::By(ip) if owed && journey == Journey::Repeated => {
                tally.slow += 1;
                tally.faults.push(format!("{name} was answered by {ip} after {took:?}"));
            }
            Answer::Nobody(error) if owed => {
                tally.lost += 1;
                let past = place.past(self.way);
                let fault =
                    format!("{name} was not answered: {error} after {took:?}, settled {settled}: {past}");
                tally.faults.push(fault);
            }
            Answer::By(_) | Answer::Nobody(_) => {}
        }
    }

    /// Holds half of the long connections, and uses each once a second.
    fn hold(mut self) {
        let mut all: Vec<Held> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            while all.len() < LONG / 2 && !self.stop.load(Ordering::Relaxed) {
                all.extend(self.open());
            }
            let (alive, dead): (Vec<Held>, Vec<Held>) = all.into_iter().partition(Held::answers);
            for held in dead {
                let mut tally = self.tally();
                tally.died += 1;
                let Held { name, endpoint, since, .. } = held;
                let age = since.elapsed();
                tally.faults.push(format!("a connection to {name} at {endpoint} died after {age:?}"));
            }
            all = alive;
            thread::sleep(Duration::from_secs(1));
        }
    }

    fn open(&mut self) -> Option<Held> {
        let (slot, at, ..) = self.pick()?;
        let (stream, endpoint) = connect(at, PATIENCE).ok()?;
        let name = self.world.lock().unwrap_or_else(PoisonError::into_inner).slots[slot].name();
        Some(Held { stream, name, endpoint, since: Instant::now() })
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn answers(&self) -> bool {
        let mut stream = &self.stream;
        let mut answer = [0; 5];
        let said = stream.write_all(b"still").and_then(|()| stream.read_exact(&mut answer));
        said.is_ok() || said.is_err_and(|error| error.kind() == ErrorKind::Interrupted)
    }
}

/// How often a first packet was sent again, by any client of this thread's namespace.
fn sent_again() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").unwrap_or_default();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else { return 0 };
    let found = names.split(' ').zip(numbers.split(' ')).find(|(name, _)| *name == "TCPSynRetrans");
    found.and_then(|(_, number)| number.parse().ok()).unwrap_or_default()
}
