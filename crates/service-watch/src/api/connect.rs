//! The way to the API server, as kubeconfig or the pod's service account tell it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use kube::client::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use thiserror::Error;
use tokio::sync::Notify;

use super::Access;
use super::exchanges::Exchanges;
use super::transport::{self, Way};
use super::watched::Kind;

/// Where the server is, and the client that speaks with it.
pub(super) struct Connection {
    access: Access,
    target: Target,
    server: String,
    host: Arc<str>,
    exchanges: Exchanges,
    client: RefCell<Option<Client>>,
    /// Those for whom it does not answer.
    silent_for: RefCell<BTreeSet<Kind>>,
    /// The worst that it was for one of them.
    silence: Cell<Silence>,
    /// Told when it answers one of them again, and others still wait.
    awake: Notify,
}

/// Why it does not answer. Credentials that are refused do not get better by waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Silence {
    Unreachable,
    Refusing,
}

/// Where the server is, who we are to it, and what is on the way.
struct Target {
    config: kube::Config,
    way: Way,
}

/// Why nobody knows how to reach the API server.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The file cannot be used.
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// Neither file nor address, and no service account.
    #[error(
        "no way to the API server: neither --kubeconfig nor --master is given, and this is not a pod with a \
         service account"
    )]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// We would go past the proxy.
    #[error("cannot use the kubeconfig {}: it has the proxy-url {url}, and proxies are spoken with by http:// and socks5:// alone", path.display())]
    ProxyUrl {
        /// Which file.
        path: PathBuf,
        /// What it says.
        url: String,
    },
    /// --master is no address.
    #[error("--master {0:?} is not an address like https://10.0.0.1:6443")]
    Master(String),
    /// What the file names cannot be used: a certificate, a key, a plugin.
    #[error("cannot use the credentials for {server}")]
    Credentials {
        /// Whose.
        server: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Connection {
    pub(super) fn open(access: Access, exchanges: Exchanges) -> Result<Self, ConnectError> {
        let target = Target::of(&access)?;
        let server = target.config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let host = transport::host(&target.config);
        let (client, silent_for) = (RefCell::new(None), RefCell::default());
        let silence = Cell::new(Silence::Unreachable);
        Ok(Self {
            access,
            target,
            server,
            host,
            exchanges,
            client,
            silent_for,
            silence,
            awake: Notify::new(),
        })
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// The client; made at the first call, since it needs the runtime.
    pub(super) fn client(&self) -> Result<Client, ConnectError> {
        let mut client = self.client.borrow_mut();
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = self.connected(&self.target)?;
        *client = Some(made.clone());
        Ok(made)
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn read(&self, client: &Client, request: Request<Vec<u8>>) -> kube::Result<String> {
        self.exchanges.read(&self.host, client, request).await
    }

    /// The server does not answer a kind's follower. Tells whether that is news.
    pub(super) fn is_silent(&self, kind: Kind, silence: Silence) -> bool {
        let mut silent_for = self.silent_for.borrow_mut();
        let is_news = silent_for.is_empty() || silence > self.silence.get();
        silent_for.insert(kind);
        if is_news {
            self.silence.set(silence);
        }
        is_news
    }

    /// It answers a kind's follower again.
    pub(super) fn answers(&self, kind: Kind) {
        let mut silent_for = self.silent_for.borrow_mut();
        if !silent_for.remove(&kind) {
            return;
        }
        if silent_for.is_empty() {
            tracing::info!(server = %self.server, "the API server answers again");
        }
        self.awake.notify_waiters();
    }

    /// Waits for so long, or until somebody else had an answer again.
    pub(super) async fn rest(&self, delay: Duration) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.awake.notified() => {}
        }
    }

    /// After a refusal: reads the credentials again, which may have been renewed in place.
    pub(super) fn renew(&self) {
        let renewed = Target::of(&self.access).and_then(|target| self.connected(&target));
        match renewed {
            Ok(client) => drop(self.client.borrow_mut().replace(client)),
            Err(error) => tracing::debug!(%error, "the credentials are used as they were"),
        }
    }

    fn connected(&self, target: &Target) -> Result<Client, ConnectError> {
        transport::client(&target.config, &target.way, &self.exchanges).map_err(|source| {
            ConnectError::Credentials { server: self.server.clone(), source: Box::new(source) }
        })
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connection").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Target {
    fn of(access: &Access) -> Result<Self, ConnectError> {
        let master = access.master.as_deref().map(address).transpose()?;
        match (&access.kubeconfig, master) {
            (None, Some(master)) => Ok(Self::direct(kube::Config::new(master))),
            (None, None) => kube::Config::incluster_env()
                .map(Self::direct)
                .map_err(|source| ConnectError::InCluster(Box::new(source))),
            (Some(path), master) => {
                let failed =
                    |source| ConnectError::Kubeconfig { path: path.clone(), source: Box::new(source) };
                let mut config = from_file(path).map_err(failed)?;
                config.cluster_url = master.unwrap_or(config.cluster_url);
                let way = match proxy_url(path) {
                    None => Way::Direct,
                    Some(url) => Way::through(&url)
                        .ok_or_else(|| ConnectError::ProxyUrl { path: path.clone(), url })?,
                };
                Ok(Self { config, way })
            }
        }
    }

    fn direct(config: kube::Config) -> Self {
        Self { config, way: Way::Direct }
    }
}

/// What --master says.
fn address(text: &str) -> Result<http::Uri, ConnectError> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    with_scheme.parse().map_err(|_| ConnectError::Master(text.to_owned()))
}

fn from_file(path: &Path) -> Result<kube::Config, kube::config::KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let options = KubeConfigOptions::default();
    let reading = kube::Config::from_custom_kubeconfig(kubeconfig, &options);
    // Nothing in it waits for anything: it is async by habit.
    futures_util::FutureExt::now_or_never(reading).unwrap_or(Err(kube::config::KubeconfigError::FindPath))
}

/// The proxy that the file wants for its current context. What kube tells may also be one of the environment.
fn proxy_url(path: &Path) -> Option<String> {
    let file = Kubeconfig::read_from(path).ok()?;
    let context =
        file.contexts.iter().find(|context| Some(&context.name) == file.current_context.as_ref())?;
    let name = &context.context.as_ref()?.cluster;
    let cluster = file.clusters.iter().find(|cluster| cluster.name == *name)?;
    cluster.cluster.as_ref()?.proxy_url.clone().filter(|url| !url.is_empty())
}
