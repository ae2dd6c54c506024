//! The way to the API server: credentials, TLS and names, as kubeconfig or the pod's service account tell them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use host_names::Resolver;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, Client, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use thiserror::Error;
use tower::{BoxError, ServiceBuilder};

use super::Access;
use super::watched::Kind;

/// Where the server is, and the client that speaks with it.
pub(super) struct Connection {
    access: Access,
    config: kube::Config,
    server: String,
    client: RefCell<Option<Client>>,
    /// Those for whom it does not answer.
    silent_for: RefCell<BTreeSet<Kind>>,
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
    #[error("cannot use the kubeconfig {}: it has the proxy-url {url}, and the API server is reached directly or not at all", path.display())]
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

/// A dead connection is known within this time, also when nothing is sent.
const SILENCE: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

impl Connection {
    pub(super) fn open(access: Access) -> Result<Self, ConnectError> {
        let config = config(&access)?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        Ok(Self { access, config, server, client: RefCell::new(None), silent_for: RefCell::default() })
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
        let made = self.connected(&self.config)?;
        *client = Some(made.clone());
        Ok(made)
    }

    /// The server does not answer a kind's follower. Tells whether that is news.
    pub(super) fn is_silent(&self, kind: Kind) -> bool {
        let mut silent_for = self.silent_for.borrow_mut();
        let is_news = silent_for.is_empty();
        silent_for.insert(kind);
        is_news
    }

    /// It answers a kind's follower again.
    pub(super) fn answers(&self, kind: Kind) {
        let mut silent_for = self.silent_for.borrow_mut();
        if silent_for.remove(&kind) && silent_for.is_empty() {
            tracing::info!(server = %self.server, "the API server answers again");
        }
    }

    /// After a refusal: reads the credentials again, which may have been renewed in place.
    pub(super) fn renew(&self) {
        let renewed = config(&self.access).and_then(|config| self.connected(&config));
        match renewed {
            Ok(client) => drop(self.client.borrow_mut().replace(client)),
            Err(error) => tracing::debug!(%error, "the credentials are used as they were"),
        }
    }

    fn connected(&self, config: &kube::Config) -> Result<Client, ConnectError> {
        client(config).map_err(|source| ConnectError::Credentials {
            server: self.server.clone(),
            source: Box::new(source),
        })
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connection").field("server", &self.server).finish_non_exhaustive()
    }
}

fn config(access: &Access) -> Result<kube::Config, ConnectError> {
    let master = access
        .master
        .as_deref()
        .map(|text| {
            let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
            with_scheme.parse::<http::Uri>().map_err(|_| ConnectError::Master(text.to_owned()))
        })
        .transpose()?;
    match (&access.kubeconfig, master) {
        (None, Some(master)) => Ok(kube::Config::new(master)),
        (None, None) => {
            kube::Config::incluster_env().map_err(|source| ConnectError::InCluster(Box::new(source)))
        }
        (Some(path), master) => {
            let mut config = from_file(path).map_err(|source| ConnectError::Kubeconfig {
                path: path.clone(),
                source: Box::new(source),
            })?;
            if let Some(url) = proxy_url(path) {
                return Err(ConnectError::ProxyUrl { path: path.clone(), url });
            }
            config.cluster_url = master.unwrap_or(config.cluster_url);
            Ok(config)
        }
    }
}

fn from_file(path: &PathBuf) -> Result<kube::Config, kube::config::KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let options = KubeConfigOptions::default();
    let reading = kube::Config::from_custom_kubeconfig(kubeconfig, &options);
    // Nothing in it waits for anything: it is async by habit.
    futures_util::FutureExt::now_or_never(reading).unwrap_or(Err(kube::config::KubeconfigError::FindPath))
}

/// The proxy that the file wants for its current context. What kube tells may also be one of the environment.
fn proxy_url(path: &PathBuf) -> Option<String> {
    let file = Kubeconfig::read_from(path).ok()?;
    let context =
        file.contexts.iter().find(|context| Some(&context.name) == file.current_context.as_ref())?;
    let name = &context.context.as_ref()?.cluster;
    let cluster = file.clusters.iter().find(|cluster| cluster.name == *name)?;
    cluster.cluster.as_ref()?.proxy_url.clone().filter(|url| !url.is_empty())
}

fn client(config: &kube::Config) -> Result<Client, kube::Error> {
    let mut connector = HttpConnector::new_with_resolver(Resolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    connector.set_keepalive(Some(SILENCE / 2));
    connector.set_keepalive_interval(Some(SILENCE / 4));
    connector.set_tcp_user_timeout(Some(SILENCE));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(HttpClient::builder(TokioExecutor::new()).build::<_, Body>(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}
