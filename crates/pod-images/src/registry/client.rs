//! One registry over HTTP: who we are, where it sends us, and what is tried again.

use std::cell::RefCell;
use std::error::Error;
use std::fs::File;
use std::io::{Seek, Write};
use std::net::IpAddr;
use std::time::Duration;

use host_names::Resolver;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, LOCATION, RANGE, USER_AGENT, WWW_AUTHENTICATE,
};
use http::uri::{Scheme, Uri};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use super::challenge::{Challenge, challenge};
use crate::error::Problem;

type Body = Empty<&'static [u8]>;

/// A registry, and how it is spoken with.
pub(super) struct Client {
    origin: Uri,
    transport: Transport,
    /// What we can prove with, `Basic` and so on.
    credentials: Option<String>,
    /// What the registry wants to see, once it has told.
    proof: RefCell<Option<String>>,
}

/// Without TLS only to this machine itself.
enum Transport {
    Plain(HttpClient<HttpConnector<Resolver>, Body>),
    Tls(HttpClient<HttpsConnector<HttpConnector<Resolver>>, Body>),
}

/// Something to fetch.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) path: &'a str,
    /// The kinds that we can read.
    pub(super) accept: &'a str,
    /// Fetching ends above as many bytes.
    pub(super) limit: u64,
}

/// How an attempt failed.
enum Failure {
    /// It may succeed if it is tried again.
    Passing(Problem),
    Lasting(Problem),
}

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// An answer, or more of one, comes within this time.
const SILENCE_LIMIT: Duration = Duration::from_mins(1);
const REDIRECT_LIMIT: usize = 5;
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The beginning of an error's explanation.
const EXPLANATION_LIMIT: u64 = 4096;

impl Client {
    pub(super) fn new(host: &str, credentials: Option<String>) -> Result<Self, Problem> {
        let is_plain = is_this_machine(host);
        let scheme = if is_plain { "http" } else { "https" };
        let authority = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let origin = format!("{scheme}://{authority}/").parse();
        let origin = origin.map_err(|error| Problem::malformed("the registry", &error))?;

        let mut connector = HttpConnector::new_with_resolver(Resolver);
        connector.enforce_http(is_plain);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        let builder = HttpClient::builder(TokioExecutor::new());
        let transport = if is_plain {
            Transport::Plain(builder.build(connector))
        } else {
            let tls = HttpsConnectorBuilder::new().with_native_roots();
            let what = || "read the certificates that this machine trusts".to_owned();
            let tls = tls.map_err(|source| Problem::File { what: what(), source })?;
            Transport::Tls(builder.build(tls.https_only().enable_http1().wrap_connector(connector)))
        };
        Ok(Self { origin, transport, credentials, proof: RefCell::new(None) })
    }

    /// Fetches into a file, and goes on where an attempt broke off. The media type of what came.
    pub(super) async fn fetch(&self, wanted: Wanted<'_>, file: &mut File) -> Result<String, Problem> {
        let mut done = 0;
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match self.attempt(wanted, file, &mut done).await {
                Ok(media_type) => return Ok(media_type),
                Err(Failure::Lasting(problem)) => return Err(problem),
                Err(Failure::Passing(problem)) => {
                    tracing::debug!(path = wanted.path, done, ?problem, "a registry is asked again");
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.attempt(wanted, file, &mut done).await.map_err(|failure| match failure {
            Failure::Passing(problem) | Failure::Lasting(problem) => problem,
        })
    }

    async fn attempt(&self, wanted: Wanted<'_>, file: &mut File, done: &mut u64) -> Result<String, Failure> {
        let url = self.at(wanted.path).map_err(Failure::Lasting)?;
        let response = self.answer(url.clone(), wanted.accept, *done).await?;
        let status = response.status();
        if status == StatusCode::OK {
            // Whatever came before: this is all of it.
            *done = 0;
            written(file.set_len(0).and_then(|()| file.rewind()))?;
        } else if status != StatusCode::PARTIAL_CONTENT || *done == 0 {
            return Err(self.refusal(&url, response).await);
        }
        let media_type =
            header(&response, CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_owned();
        let mut body = response.into_body();
        while let Some(chunk) = in_time(&url, body.frame()).await? {
            let chunk = chunk.map_err(|source| unreachable(&url, source))?;
            let Some(bytes) = chunk.data_ref() else { continue };
            *done += bytes.len() as u64;
            written(file.write_all(bytes))?;
            if *done > wanted.limit {
                let what =
                    format!("what {} sends for {}", self.origin.host().unwrap_or_default(), wanted.path);
                return Err(Failure::Lasting(Problem::TooLarge { what, limit: wanted.limit }));
            }
        }
        Ok(media_type)
    }

    /// The answer of whoever the registry sends us to, after we have shown who we are if it wants to know.
    async fn answer(&self, mut url: Uri, accept: &str, from: u64) -> Result<Response<Incoming>, Failure> {
        let mut was_asked = None;
        for _ in 0..REDIRECT_LIMIT {
            let response = self.ask(&url, accept, from).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if was_asked.is_none() && self.is_origin(&url) => {
                    was_asked = Some(());
                    self.prove(&url, response).await?;
                }
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let target = header(&response, LOCATION);
                    url = if target.starts_with('/') && !target.starts_with("//") {
                        joined(&url, &target)
                    } else {
                        target.parse().map_err(|_| ())
                    }
                    .map_err(|()| self.lasting(&format!("it sends us to {target:?}, which is no address")))?;
                }
                _ => return Ok(response),
            }
        }
        Err(self.lasting(&format!("it sends us on more than {REDIRECT_LIMIT} times")))
    }

    async fn ask(&self, url: &Uri, accept: &str, from: u64) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::get(url).header(ACCEPT, accept);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        // Nobody else may see what we prove ourselves with.
        if let Some(proof) = &*self.proof.borrow()
            && self.is_origin(url)
        {
            request = request.header(AUTHORIZATION, proof);
        }
        self.send(url, request).await
    }

    async fn send(&self, url: &Uri, request: http::request::Builder) -> Result<Response<Incoming>, Failure> {
        let expected = match &self.transport {
            Transport::Plain(_) => Scheme::HTTP,
            Transport::Tls(_) => Scheme::HTTPS,
        };
        if url.scheme() != Some(&expected) {
            return Err(self.lasting(&format!("it sends us to {url}, which is not {expected}")));
        }
        let request = request.header(USER_AGENT, concat!("fairlead/", env!("CARGO_PKG_VERSION")));
        let request = request.body(Empty::new());
        let request = request.map_err(|error| Failure::Lasting(Problem::malformed("the request", &error)))?;
        let response = match &self.transport {
            Transport::Plain(client) => in_time(url, client.request(request)).await?,
            Transport::Tls(client) => in_time(url, client.request(request)).await?,
        };
        response.map_err(|source| unreachable(url, source))
    }

    /// Gets what the registry wants to see.
    async fn prove(&self, url: &Uri, response: Response<Incoming>) -> Result<(), Failure> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE).into_iter();
        let challenges: Vec<Challenge> =
            headers.filter_map(|value| value.to_str().ok()).filter_map(challenge).collect();
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer(url) => Some(url),
            Challenge::Basic => None,
        });
        let proof = match (bearer, &self.credentials) {
            (Some(realm), _) => Some(self.token(realm).await?),
            (None, Some(credentials)) if challenges.contains(&Challenge::Basic) => Some(credentials.clone()),
            (None, _) => return Err(self.refusal(url, response).await),
        };
        *self.proof.borrow_mut() = proof;
        Ok(())
    }

    async fn token(&self, realm: &str) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let no_token = |why: &str| self.lasting(&format!("no token from {realm:?}: {why}"));
        let url: Uri = realm.parse().map_err(|_| no_token("no address"))?;
        let mut request = Request::get(&url);
        if let Some(credentials) = &self.credentials {
            request = request.header(AUTHORIZATION, credentials);
        }
        let response = self.send(&url, request).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(&url, response).await);
        }
        let bytes = beginning(response.into_body(), crate::verify::DOCUMENT_LIMIT).await;
        let token: Token = serde_json::from_slice(&bytes).map_err(|error| no_token(&error.to_string()))?;
        let token = token.token.or(token.access_token).filter(|token| !token.is_empty());
        Ok(format!("Bearer {}", token.ok_or_else(|| no_token("the answer holds none"))?))
    }

    /// An answer that is none.
    async fn refusal(&self, url: &Uri, response: Response<Incoming>) -> Failure {
        let status = response.status();
        let body = beginning(response.into_body(), EXPLANATION_LIMIT).await;
        let why = explanation(&body);
        match status {
            StatusCode::NOT_FOUND => Failure::Lasting(Problem::NotFound(format!("{url} is not there{why}"))),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Failure::Passing(self.refused(&format!("{url} answers {status}{why}")))
            }
            _ if status.is_server_error() => {
                Failure::Passing(self.refused(&format!("{url} answers {status}{why}")))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.credentials.is_none() => {
                self.lasting(&format!("{url} answers {status}{why}; there are no credentials for it"))
            }
            _ => self.lasting(&format!("{url} answers {status}{why}")),
        }
    }

    fn lasting(&self, why: &str) -> Failure {
        Failure::Lasting(self.refused(why))
    }

    fn refused(&self, why: &str) -> Problem {
        let registry = self.origin.authority().map_or_else(String::new, ToString::to_string);
        Problem::Registry { registry, why: why.to_owned() }
    }

    fn at(&self, path: &str) -> Result<Uri, Problem> {
        joined(&self.origin, path).map_err(|()| self.refused(&format!("{path} is no address")))
    }

    fn is_origin(&self, url: &Uri) -> bool {
        url.scheme() == self.origin.scheme() && url.authority() == self.origin.authority()
    }
}

/// Whether nobody else can listen.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

fn joined(origin: &Uri, path: &str) -> Result<Uri, ()> {
    let mut parts = origin.clone().into_parts();
    parts.path_and_query = Some(path.parse().map_err(|_| ())?);
    Uri::from_parts(parts).map_err(|_| ())
}

fn header(response: &Response<Incoming>, name: HeaderName) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

async fn in_time<T>(url: &Uri, future: impl Future<Output = T>) -> Result<T, Failure> {
    let limited = tokio::time::timeout(SILENCE_LIMIT, future).await;
    limited.map_err(|elapsed| unreachable(url, elapsed))
}

fn unreachable(url: &Uri, source: impl Error + Send + Sync + 'static) -> Failure {
    Failure::Passing(Problem::Unreachable { url: url.to_string(), source: source.into() })
}

fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    let what = "write what is fetched".to_owned();
    result.map_err(|source| Failure::Lasting(Problem::File { what, source }))
}

/// As much of a body as is wanted.
async fn beginning(mut body: Incoming, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(Ok(chunk))) = tokio::time::timeout(SILENCE_LIMIT, body.frame()).await {
        bytes.extend(chunk.data_ref().into_iter().flatten());
        if bytes.len() as u64 > limit {
            break;
        }
    }
    bytes
}

/// What the registry says itself, in the form of its specification.
fn explanation(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Said>,
    }
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
    let said: Vec<String> =
        errors.iter().map(|Said { code, message }| format!("{code} {message}").trim().to_owned()).collect();
    let printable: String = said.join(", ").chars().filter(|letter| !letter.is_control()).collect();
    if printable.is_empty() { printable } else { format!(" ({printable})") }
}
