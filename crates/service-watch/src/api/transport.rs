//! The client that speaks with the API server: connections that are known to be dead soon, TLS, credentials, and a proxy
//! on the way if the kubeconfig has one.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use host_names::Resolver;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, Client, ConfigExt};
use percent_encoding::percent_decode_str;
use tower::{BoxError, Service, ServiceBuilder};

use super::exchanges::Exchanges;

/// What stands between us and the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing.
    Direct,
    /// A proxy that opens a tunnel when it is asked to (CONNECT).
    Http(Uri),
    /// A proxy that speaks SOCKS, version 5.
    Socks(Uri),
}

/// A dead connection is known within this time, also when nothing is sent.
const SILENCE: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

impl Way {
    /// By the URL of a proxy, as client-go reads it; nothing if it is of no kind that is spoken here.
    pub(super) fn through(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        url.host()?;
        match url.scheme_str() {
            Some("http") => Some(Self::Http(url)),
            Some("socks5" | "socks5h") => Some(Self::Socks(url)),
            _ => None,
        }
    }
}

/// A client for a server.
pub(super) fn client(config: &kube::Config, way: &Way, exchanges: &Exchanges) -> Result<Client, kube::Error> {
    let mut connector = HttpConnector::new_with_resolver(Resolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    connector.set_keepalive(Some(SILENCE / 2));
    connector.set_keepalive_interval(Some(SILENCE / 4));
    connector.set_tcp_user_timeout(Some(SILENCE));
    match way {
        Way::Direct => client_by(config, connector, exchanges),
        Way::Http(proxy) => {
            let tunnel = Tunnel::new(proxy.clone(), connector);
            let tunnel = match credentials(proxy).and_then(|(name, word)| basic(&name, &word)) {
                Some(credentials) => tunnel.with_auth(credentials),
                None => tunnel,
            };
            client_by(config, tunnel, exchanges)
        }
        Way::Socks(proxy) => {
            let socks = SocksV5::new(proxy.clone(), connector);
            let socks = match credentials(proxy) {
                Some((name, word)) => socks.with_auth(name, word),
                None => socks,
            };
            client_by(config, socks, exchanges)
        }
    }
}

/// The host as metrics name it.
pub(super) fn host(config: &kube::Config) -> Arc<str> {
    config.cluster_url.authority().map_or("", |authority| authority.as_str()).into()
}

fn client_by<C>(config: &kube::Config, connector: C, exchanges: &Exchanges) -> Result<Client, kube::Error>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: StdError + Send + Sync + 'static,
{
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http = HttpClient::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(exchanges.watch(host(config), http));
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// Name and password of a URL.
fn credentials(proxy: &Uri) -> Option<(String, String)> {
    let (user, _host) = proxy.authority()?.as_str().rsplit_once('@')?;
    let (name, word) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((decoded(name), decoded(word)))
}

/// As RFC 7617 writes them.
fn basic(name: &str, word: &str) -> Option<HeaderValue> {
    let encoded = BASE64.encode(format!("{name}:{word}").as_bytes());
    HeaderValue::from_str(&format!("Basic {encoded}")).ok()
}

#[cfg(test)]
mod tests {
    use super::{Way, basic, credentials};

    #[test]
    fn a_proxy_is_known_by_its_url() {
        let is = |url: &str, expected: &str| {
            let way = Way::through(url);
            let kind = match &way {
                Some(Way::Http(_)) => "http",
                Some(Way::Socks(_)) => "socks",
                Some(Way::Direct) | None => "none",
            };
            assert_eq!(kind, expected, "{url}: {way:?}");
        };
        is("http://proxy:3128", "http");
        is("http://name:word@[fd00::1]:3128/", "http");
        is("socks5://10.0.0.1:1080", "socks");
        is("https://proxy", "none");
        is("proxy:3128", "none");
        is("/proxy", "none");
    }

    #[test]
    fn who_we_are_to_a_proxy_is_in_its_url() {
        let of = |url: &str| credentials(&url.parse().expect("a URL"));
        assert_eq!(of("http://proxy:3128"), None);
        assert_eq!(of("http://me@proxy"), Some(("me".to_owned(), String::new())));
        let (name, word) = of("http://me:open%20sesame@proxy:3128").expect("a name");
        assert_eq!(basic(&name, &word).expect("a header"), "Basic bWU6b3BlbiBzZXNhbWU=");
    }
}
