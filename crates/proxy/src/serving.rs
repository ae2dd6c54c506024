//! What the proxy answers about itself over HTTP: health, metrics, and the health checks of Services.
//!
//! One thread serves all of it; what it answers from is told by the others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use service_watch::Notices;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task;
use tracing::{info, warn};

use crate::config::{BindFailure, Configuration};
use crate::health::ProxyHealth;
use crate::metrics::Metrics;
use crate::witness::Checks;

mod about;
mod answer;
mod checks;
mod conversation;
mod pages;
mod socket;

pub(crate) use about::About;

use conversation::Pages;

/// Where the proxy answers, and what happens if it cannot.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    healthz: Option<SocketAddr>,
    metrics: SocketAddr,
    bind_failure: BindFailure,
}

/// An address at which nothing can be served.
#[derive(Debug, Error)]
#[error("cannot serve {what} at {at}: {source}")]
pub struct ServeError {
    /// What was to be served there.
    pub what: What,
    /// Where.
    pub at: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

/// What is served at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// /healthz and /livez
    Healthz,
    /// /metrics, and what else tells of the process
    Metrics,
}

/// What the answers are made of.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) health: Arc<ProxyHealth>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) about: Arc<About>,
}

/// The thread that serves, until this is dropped.
pub(crate) struct Servers {
    told: Told,
    served: BTreeMap<What, SocketAddr>,
    moves: UnboundedSender<Move>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// From now on something is served there, and nowhere else; perhaps nowhere at all.
struct Move {
    what: What,
    to: Option<Site>,
    /// Whether the place is free.
    answer: oneshot::Sender<io::Result<()>>,
}

/// A place to answer at, and what is answered there.
struct Site {
    at: SocketAddr,
    pages: Pages,
}

/// How long a place that is taken is left alone.
const RETRY: Duration = Duration::from_secs(5);

impl Addresses {
    pub(crate) fn of(configuration: &Configuration) -> Self {
        let Configuration { healthz, metrics, bind_failure, .. } = *configuration;
        Self { healthz, metrics, bind_failure }
    }
}

impl Servers {
    /// Serves at all addresses that are free, and at the others as soon as they are.
    pub(crate) fn start(
        addresses: &Addresses,
        told: &Told,
        checks: UnboundedReceiver<Checks>,
        notices: Notices,
    ) -> Result<Self, StartError> {
        let health = Arc::clone(&told.health);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (moves, wanted) = unbounded_channel();
        let work = move || {
            runtime.block_on(async move {
                tokio::spawn(checks::serve(checks, health, notices));
                tokio::select! {
                    // An error says that nobody is there to stop it, which is the same.
                    _ = stopped => {}
                    () = serve_where_wanted(wanted) => {}
                }
            });
        };
        let thread = Some(thread::Builder::new().name("http".to_owned()).spawn(work)?);
        let (told, served) = (told.clone(), BTreeMap::new());
        let mut servers = Self { told, served, moves, stop: Some(stop), thread };
        servers.serve_at(addresses)?;
        Ok(servers)
    }

    /// Serves at other addresses from now on, as far as they are others.
    pub(crate) fn serve_at(&mut self, addresses: &Addresses) -> Result<(), ServeError> {
        for (what, at, pages) in [
            (What::Healthz, addresses.healthz, pages::health(&self.told)),
            (What::Metrics, Some(addresses.metrics), pages::metrics(&self.told)),
        ] {
            let before = self.served.remove(&what);
            self.served.extend(at.map(|at| (what, at)));
            if at == before {
                continue;
            }
            let (answer, answered) = oneshot::channel();
            let to = at.map(|at| Site { at, pages });
            self.moves.send(Move { what, to, answer }).expect("the thread ends with this");
            let free = answered.blocking_recv().expect("the thread answers");
            let (Some(at), Err(source)) = (at, free) else { continue };
            match addresses.bind_failure {
                BindFailure::Exit => return Err(ServeError { what, at, source }),
                BindFailure::Retry => {
                    warn!(%what, %at, error = %source, "cannot be served there yet; it is tried again");
                }
            }
        }
        Ok(())
    }
}

/// Serves each thing where it was last wanted. What ends takes its conversations with it.
async fn serve_where_wanted(mut wanted: UnboundedReceiver<Move>) {
    let mut serving: BTreeMap<What, task::JoinHandle<()>> = BTreeMap::new();
    while let Some(Move { what, to, answer }) = wanted.recv().await {
        if let Some(before) = serving.remove(&what) {
            before.abort();
            // Its address is free once it has ended.
            let _ = before.await;
        }
        let mut free = Ok(());
        if let Some(site) = to {
            let listener = socket::bind(site.at).map_err(|error| free = Err(error)).ok();
            serving.insert(what, tokio::spawn(site.serve(what, listener)));
        }
        // Whoever asked waits for it.
        let _ = answer.send(free);
    }
}

/// Nothing is served at all.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address is taken, and that was not to be.
    #[error(transparent)]
    Taken(#[from] ServeError),
    /// The thread cannot be started.
    #[error("cannot start serving: {0}")]
    Thread(#[from] io::Error),
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

impl Site {
    async fn serve(self, what: What, mut listener: Option<std::net::TcpListener>) {
        let Self { at, pages } = self;
        loop {
            match listener.map_or_else(|| socket::bind(at), Ok).and_then(TcpListener::from_std) {
                Ok(listener) => {
                    info!(%what, %at, "served");
                    return conversation::accept(listener, pages).await;
                }
                Err(error) => tracing::debug!(%what, %at, %error, "cannot be served there yet"),
            }
            listener = None;
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Healthz => "healthz",
            Self::Metrics => "metrics",
        })
    }
}

#[cfg(test)]
mod tests;
