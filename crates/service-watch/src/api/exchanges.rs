//! What is asked of the API server and what becomes of it, as metrics count it: upstream's `rest_client_*`.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use tower::Service;

/// Something that happened between us and the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// A request was answered with this status, or not at all.
    Answered {
        /// GET or POST.
        method: Method,
        /// The status, if there was an answer.
        status: Option<u16>,
    },
    /// A request was answered well, and the answer read to its end, which that of a watch never is.
    Read {
        /// GET or POST.
        method: Method,
        /// From the request to the end of the answer.
        took: Duration,
        /// Bytes of the request's body.
        sent: usize,
        /// Bytes of the answer's.
        received: usize,
    },
}

/// Who counts them.
#[derive(Clone)]
pub struct Exchanges(Arc<Listener>);

/// Told of the server's host, and of what happened.
type Listener = dyn Fn(&str, Exchange) + Send + Sync;

/// A client whose exchanges with one host are told.
#[derive(Clone)]
pub(super) struct Told<S> {
    inner: S,
    host: Arc<str>,
    exchanges: Exchanges,
}

impl Exchanges {
    /// They are told to this.
    pub fn told_to(listener: impl Fn(&str, Exchange) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    /// Nobody counts them.
    pub fn uncounted() -> Self {
        Self::told_to(|_, _| ())
    }

    pub(super) fn watch<S>(&self, host: Arc<str>, inner: S) -> Told<S> {
        Told { inner, host, exchanges: self.clone() }
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn read(
        &self,
        host: &str,
        client: &Client,
        request: Request<Vec<u8>>,
    ) -> kube::Result<String> {
        let (start, method, sent) = (Instant::now(), request.method().clone(), request.body().len());
        let answer = client.request_text(request).await?;
        self.0(host, Exchange::Read { method, took: start.elapsed(), sent, received: answer.len() });
        Ok(answer)
    }
}

impl fmt::Debug for Exchanges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Exchanges")
    }
}

impl<S, B> Service<Request<Body>> for Told<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (method, host, exchanges) =
            (request.method().clone(), Arc::clone(&self.host), self.exchanges.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            exchanges.0(&host, Exchange::Answered { method, status });
            answer
        })
    }
}
