//! Health check node ports: what a load balancer asks this node about a Service.
//!
//! Each family of a Service has listeners of its own, at every address where node ports are served. They are all
//! there or none is: a balancer must not take a part of them for the whole.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use service_plan::{Family, HealthCheck, NodePort, NodePortAddresses, ServiceName};
use service_watch::{Importance, Notice, Notices, Subject};
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::answer::{Answer, JSON, answer};
use super::conversation::{self, Pages};
use super::{RETRY, socket};
use crate::health::{ProxyHealth, Verdict};
use crate::witness::Checks;

/// All that are wanted.
struct ServiceChecks {
    health: Arc<ProxyHealth>,
    notices: Notices,
    checks: BTreeMap<(Family, ServiceName), Check>,
    at: BTreeMap<Family, NodePortAddresses>,
}

/// One family of a Service.
struct Check {
    port: NodePort,
    local_ready: Arc<AtomicUsize>,
    listeners: Vec<JoinHandle<()>>,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// To be opened.
    Closed,
    Open,
    /// It could not be opened, for this reason, and is tried again.
    Failed(String),
}

/// Opens, changes and closes what is told, and tries again what could not be opened.
pub(super) async fn serve(mut news: UnboundedReceiver<Checks>, health: Arc<ProxyHealth>, notices: Notices) {
    let mut all = ServiceChecks { health, notices, checks: BTreeMap::new(), at: BTreeMap::new() };
    let mut retry = tokio::time::interval(RETRY);
    loop {
        tokio::select! {
            told = news.recv() => match told {
                Some(told) => all.take(told).await,
                // The writers have ended; what is open stays so until the process does.
                None => std::future::pending().await,
            },
            _ = retry.tick() => {}
        }
        all.open();
    }
}

impl ServiceChecks {
    /// Closes first, so that ports may pass from one Service to another.
    async fn take(&mut self, told: Checks) {
        let Checks { family, at, changed } = told;
        if self.at.insert(family, at.clone()).is_some_and(|before| before != at) {
            for (_, check) in self.checks.iter_mut().filter(|((of, _), _)| *of == family) {
                check.close().await;
            }
        }
        for (name, wanted) in changed {
            let key = (family, name);
            let Some(HealthCheck { port, local_ready }) = wanted else {
                if let Some(mut check) = self.checks.remove(&key) {
                    check.close().await;
                }
                continue;
            };
            let check = self.checks.entry(key).or_insert_with(|| Check::new(port));
            check.local_ready.store(local_ready, Ordering::Relaxed);
            if check.port != port {
                check.close().await;
                check.port = port;
            }
        }
    }

    fn open(&mut self) {
        for ((family, name), check) in &mut self.checks {
            if check.state == State::Open {
                continue;
            }
            let Some(at) = self.at.get(family) else { continue };
            let pages = pages(name.clone(), &check.local_ready, &self.health);
            match check.open(&addresses(*family, at), &pages) {
                Ok(()) => {
                    debug!(service = %name, %family, port = check.port.get(), "its health is told there");
                }
                Err(error) => {
                    let failed = State::Failed(error.to_string());
                    // It is told once.
                    if std::mem::replace(&mut check.state, failed.clone()) != failed {
                        warn!(service = %name, %family, port = check.port.get(), %error,
                            "its health check port cannot be opened; it is tried again");
                        self.notices.send(notice(name, check.port, &error));
                    }
                }
            }
        }
    }
}

impl Check {
    fn new(port: NodePort) -> Self {
        Self { port, local_ready: Arc::default(), listeners: Vec::new(), state: State::Closed }
    }

    /// Opens all its listeners, or none.
    fn open(&mut self, addresses: &[IpAddr], pages: &Pages) -> io::Result<()> {
        let listen = |ip: &IpAddr| {
            let at = SocketAddr::new(*ip, self.port.get());
            let listener = socket::bind_own(at).and_then(TcpListener::from_std);
            listener.map_err(|error| io::Error::new(error.kind(), format!("listen at {at}: {error}")))
        };
        let listeners = addresses.iter().map(listen).collect::<io::Result<Vec<_>>>()?;
        let accept = |listener| tokio::spawn(conversation::accept(listener, Arc::clone(pages)));
        self.listeners = listeners.into_iter().map(accept).collect();
        self.state = State::Open;
        Ok(())
    }

    /// Returns when its ports are free again, and its connections closed.
    async fn close(&mut self) {
        for listener in self.listeners.drain(..) {
            listener.abort();
            // That it was cancelled is what we wanted.
            let _ = listener.await;
        }
        self.state = State::Closed;
    }
}

/// Where a family's listeners are.
fn addresses(family: Family, at: &NodePortAddresses) -> Vec<IpAddr> {
    match (at, family) {
        (NodePortAddresses::Only(addresses), _) => addresses.clone(),
        (NodePortAddresses::All, Family::V4) => vec![Ipv4Addr::UNSPECIFIED.into()],
        (NodePortAddresses::All, Family::V6) => vec![Ipv6Addr::UNSPECIFIED.into()],
    }
}

/// The same answer to whatever is asked.
fn pages(name: ServiceName, local_ready: &Arc<AtomicUsize>, health: &Arc<ProxyHealth>) -> Pages {
    let (local_ready, health) = (Arc::clone(local_ready), Arc::clone(health));
    Arc::new(move |_| report(&name, local_ready.load(Ordering::Relaxed), health.proxy()))
}

/// Whether the Service has somebody here, and whether this node would lead there. Laid out as upstream does.
fn report(name: &ServiceName, local_ready: usize, proxy: Verdict) -> Answer {
    let is_well = proxy == Verdict::Well;
    let status = if is_well && local_ready > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\
         \t\"localEndpoints\": {local_ready},\n\t\"serviceProxyHealthy\": {is_well}\n}}",
        name.namespace, name.name
    );
    let mut answer = answer(status, JSON, body);
    let weight = HeaderName::from_static("x-load-balancing-endpoint-weight");
    answer.headers_mut().insert(weight, HeaderValue::from(local_ready));
    answer
}

fn notice(name: &ServiceName, port: NodePort, error: &io::Error) -> Notice {
    Notice {
        subject: Subject::Service(name.clone()),
        importance: Importance::Warning,
        reason: "FailedToStartServiceHealthcheck",
        action: "Listen",
        note: format!("the health check port {} cannot be opened: {error}", port.get()),
    }
}
