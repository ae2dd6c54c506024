//! What the proxy answers about itself over HTTP: health, metrics, and the health checks of Services.
//!
//! One thread serves all of it; what it answers from is told by the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use service_watch::Notices;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A place to answer at, and what is answered there.
struct Site {
    what: What,
    at: SocketAddr,
    pages: Pages,
    listener: Option<std::net::TcpListener>,
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
        let mut sites = Vec::new();
        for (what, at, pages) in [
            (What::Healthz, addresses.healthz, pages::health(told)),
            (What::Metrics, Some(addresses.metrics), pages::metrics(told)),
        ] {
            let Some(at) = at else { continue };
            let listener = match (socket::bind(at), addresses.bind_failure) {
                (Ok(listener), _) => Some(listener),
                (Err(source), BindFailure::Exit) => return Err(ServeError { what, at, source }.into()),
                (Err(error), BindFailure::Retry) => {
                    warn!(%what, %at, %error, "cannot be served there yet; it is tried again");
                    None
                }
            };
            sites.push(Site { what, at, pages, listener });
        }
        let health = Arc::clone(&told.health);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            runtime.block_on(async move {
                let _sites: Vec<_> = sites.into_iter().map(|site| tokio::spawn(site.serve())).collect();
                tokio::spawn(checks::serve(checks, health, notices));
                // An error says that nobody is there to stop it, which is the same.
                let _ = stopped.await;
            });
        };
        let thread = thread::Builder::new().name("http".to_owned()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
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
    async fn serve(self) {
        let Self { what, at, pages, listener } = self;
        let mut listener = listener;
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
