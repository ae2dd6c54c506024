//! Endpoints, and which of them a new client gets.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernel_state::listeners::{Header, Listener};

use crate::clock::Moment;

/// Which endpoint a new client gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest connections.
    LeastConnections,
    /// Of two chosen by chance the one with fewer connections.
    PowerOfTwo,
}

/// The endpoints of a listener.
pub(crate) struct Pool {
    endpoints: Vec<Arc<Endpoint>>,
    /// Those that left while somebody was connected to them.
    gone: Vec<Arc<Endpoint>>,
    turn: AtomicUsize,
    /// How many endpoints were passed over, since this was last taken.
    passed_over: AtomicU64,
    kept: Option<Duration>,
    /// What endpoints are told of their clients.
    pub(crate) header: Header,
    clients: Arc<Mutex<Clients>>,
}

/// An endpoint, as long as it is in a pool or somebody is connected to it.
pub(crate) struct Endpoint {
    pub(crate) at: SocketAddr,
    connections: AtomicU32,
    /// How often in a row it could not be reached, and until when it is therefore passed over.
    failures: AtomicU32,
    passed_over: AtomicU64,
    /// When it left its pool; 0 if it has not.
    left: AtomicU64,
}

/// A client at an endpoint. The endpoint counts it until this is dropped.
pub(crate) struct Lease(Arc<Endpoint>);

/// Which endpoint each client had last, and when.
#[derive(Default)]
struct Clients {
    by_ip: HashMap<IpAddr, (SocketAddr, Moment)>,
    /// How many there may be before those whose time has passed are looked for.
    limit: usize,
}

impl Balancer {
    /// All of them, by the name that the command line has for each.
    pub const NAMES: [(&str, Self); 3] = [
        ("round-robin", Self::RoundRobin),
        ("least-connections", Self::LeastConnections),
        ("power-of-two", Self::PowerOfTwo),
    ];
}

impl Pool {
    /// What a listener leads to. What is known of endpoints that it led to before stays known.
    /// Clients of its kin are kept where they are here, too.
    pub(crate) fn new(listener: &Listener, before: Option<&Self>, kin: Option<&Self>, now: Moment) -> Self {
        let known = || before.into_iter().flat_map(|before| before.endpoints.iter().chain(&before.gone));
        let endpoint = |at: &SocketAddr| match known().find(|endpoint| endpoint.at == *at) {
            Some(endpoint) => {
                endpoint.left.store(0, Ordering::Relaxed);
                Arc::clone(endpoint)
            }
            None => Arc::new(Endpoint::new(*at)),
        };
        let endpoints: Vec<_> = listener.endpoints.iter().map(endpoint).collect();
        let has_left = |endpoint: &&Arc<Endpoint>| !listener.endpoints.contains(&endpoint.at);
        let gone: Vec<_> = known().filter(has_left).filter(|endpoint| endpoint.is_busy()).cloned().collect();
        known().filter(has_left).for_each(|endpoint| endpoint.leave(now));
        let clients = before.or(kin).map(|known| Arc::clone(&known.clients)).unwrap_or_default();
        let turn = AtomicUsize::new(before.map_or(0, |before| before.turn.load(Ordering::Relaxed)));
        let kept = listener.kept.map(|seconds| Duration::from_secs(seconds.into()));
        let header = listener.header;
        Self { endpoints, gone, turn, passed_over: AtomicU64::new(0), kept, header, clients }
    }

    /// All endpoints leave: the listener is closed.
    pub(crate) fn close(&self, now: Moment) {
        self.endpoints.iter().for_each(|endpoint| endpoint.leave(now));
    }

    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// An endpoint that was not tried yet. The one that the client had last counts only for the first try: who could
    /// not reach it stays with the one that is found now.
    pub(crate) fn pick(
        &self,
        client: IpAddr,
        tried: &[SocketAddr],
        balancer: Balancer,
        now: Moment,
    ) -> Option<Lease> {
        let kept = self.kept.and_then(|kept| self.last_endpoint(client, kept, now));
        let chosen = match kept.filter(|_| tried.is_empty()) {
            Some(endpoint) => endpoint,
            None => self.balanced(tried, balancer, now)?,
        };
        if self.kept.is_some() {
            self.remember(client, chosen.at, now);
        }
        Some(Lease::new(chosen))
    }

    fn balanced(&self, tried: &[SocketAddr], balancer: Balancer, now: Moment) -> Option<&Arc<Endpoint>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let untried = |endpoint: &&Arc<Endpoint>| !tried.contains(&endpoint.at);
        let fit = |endpoint: &&Arc<Endpoint>| untried(endpoint) && !self.passes_over(endpoint, now);
        let in_turn = || {
            let count = self.endpoints.len();
            (0..count).map(move |step| &self.endpoints[(turn + step) % count])
        };
        let few = |endpoint: &&Arc<Endpoint>| endpoint.connections.load(Ordering::Relaxed);
        let best = match balancer {
            Balancer::RoundRobin => in_turn().find(fit),
            Balancer::LeastConnections => in_turn().filter(fit).min_by_key(few),
            Balancer::PowerOfTwo => {
                let fitting: Vec<_> = in_turn().filter(fit).collect();
                let by_chance = |seed| fitting.get(scattered(turn, seed) % fitting.len().max(1)).copied();
                by_chance(1).into_iter().chain(by_chance(2)).min_by_key(few)
            }
        };
        best.or_else(|| in_turn().find(untried))
    }

    /// How many endpoints were passed over, since this was last asked.
    pub(crate) fn take_passed_over(&self) -> u64 {
        // Seldom any: a plain look costs other threads nothing.
        if self.passed_over.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.passed_over.swap(0, Ordering::Relaxed)
    }

    fn passes_over(&self, endpoint: &Endpoint, now: Moment) -> bool {
        let passes = endpoint.is_passed_over(now);
        if passes {
            self.passed_over.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }

    fn last_endpoint(&self, client: IpAddr, kept: Duration, now: Moment) -> Option<&Arc<Endpoint>> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, when) = *clients.by_ip.get(&client)?;
        if now >= when.after(kept) {
            return None;
        }
        self.endpoints.iter().find(|endpoint| endpoint.at == at)
    }

    fn remember(&self, client: IpAddr, at: SocketAddr, now: Moment) {
        const FEW: usize = 1024;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.by_ip.len() >= clients.limit.max(FEW) {
            let kept = self.kept.unwrap_or_default();
            clients.by_ip.retain(|_, (_, when)| now < when.after(kept));
            clients.limit = 2 * clients.by_ip.len();
        }
        clients.by_ip.insert(client, (at, now));
    }
}

impl Endpoint {
    fn new(at: SocketAddr) -> Self {
        Self {
            at,
            connections: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            passed_over: AtomicU64::new(0),
            left: AtomicU64::new(0),
        }
    }

    /// When it left its pool, if it has.
    pub(crate) fn left(&self) -> Option<Moment> {
        Some(self.left.load(Ordering::Relaxed)).filter(|left| *left != 0).map(Moment)
    }

    /// It could not be reached: it is passed over for a while, longer each time, as long as there are others.
    pub(crate) fn failed(&self, now: Moment) {
        const LONGEST: Duration = Duration::from_secs(30);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(5);
        let pause = Duration::from_secs(1 << failures).min(LONGEST);
        self.passed_over.store(now.after(pause).0, Ordering::Relaxed);
    }

    /// It was reached.
    pub(crate) fn answered(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.passed_over.store(0, Ordering::Relaxed);
        }
    }

    fn is_passed_over(&self, now: Moment) -> bool {
        self.passed_over.load(Ordering::Relaxed) > now.0
    }

    fn is_busy(&self) -> bool {
        self.connections.load(Ordering::Relaxed) > 0
    }

    /// Only the first leave counts. Who came back has never left.
    fn leave(&self, now: Moment) {
        let _ = self.left.compare_exchange(0, now.0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Lease {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A number that tells nothing of the one before (the finaliser of `MurmurHash3`, as in `SplitMix64`).
fn scattered(turn: usize, seed: u64) -> usize {
    let mut bits = (turn as u64).wrapping_mul(2).wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from(bits >> 33).unwrap_or_default()
}

#[cfg(test)]
mod tests;
