//! Connections: each is served for a while, and there are never too many.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::debug;

use super::answer::Answer;

/// What is answered to whom. Bodies of requests say nothing to us.
pub(super) type Pages = Arc<dyn Fn(&Parts) -> Answer + Send + Sync>;

/// At most so many at once; whoever comes later waits.
const CONNECTIONS: usize = 64;
/// Within this time a request must have come.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this time a connection is closed between two requests, and then at once.
const LIFETIME: Duration = Duration::from_mins(5);
/// Descriptors may have run out; some come back.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves whoever comes. Connections end with the future.
pub(super) async fn accept(listener: TcpListener, pages: Pages) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, Arc::clone(&pages)))),
                Err(error) => {
                    debug!(%error, "cannot accept");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, pages: Pages) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = pages(&request.into_parts().0);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).title_case_headers(true);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tokio::time::sleep(LIFETIME) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(PATIENCE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}
