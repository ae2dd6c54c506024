//! What users of the cluster should read: events (events.k8s.io/v1), posted one after another.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use http::Request;
use serde_json::{Value, json};
use service_plan::ServiceName;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::connect::Connection;

/// Something that users of the cluster should read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub subject: Subject,
    /// Whether anything is wrong.
    pub importance: Importance,
    /// Why, in one word.
    pub reason: &'static str,
    /// What was done, in one word.
    pub action: &'static str,
    /// The same for a person.
    pub note: String,
}

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A Node.
    Node(Arc<str>),
    /// A Service.
    Service(ServiceName),
}

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// All is well.
    Normal,
    /// Something is not as it should be.
    Warning,
}

/// Where notices go. Nobody waits for them to arrive.
#[derive(Clone, Debug)]
pub struct Notices {
    way: Option<Sender<Notice>>,
    /// How many have not arrived yet.
    under_way: Arc<AtomicUsize>,
}

/// Where they come out.
pub(super) struct Given {
    notices: Receiver<Notice>,
    under_way: Arc<AtomicUsize>,
}

/// Who gives notice, as upstream calls it.
const REPORTER: &str = "kube-proxy";
/// Others of that time are worth more than those that wait longer.
const WAITING: usize = 100;
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const DELAY: Duration = Duration::from_secs(5);
const TRIES: usize = 12;
/// The API takes no longer one.
const LONGEST_NOTE: usize = 1024;

impl Notices {
    /// There is no cluster that could read them.
    pub fn unread() -> Self {
        Self { way: None, under_way: Arc::default() }
    }

    pub(super) fn channel() -> (Self, Given) {
        let (sender, notices) = mpsc::channel(WAITING);
        let under_way = Arc::new(AtomicUsize::new(0));
        (Self { way: Some(sender), under_way: Arc::clone(&under_way) }, Given { notices, under_way })
    }

    /// Sends a notice on its way.
    pub fn send(&self, notice: Notice) {
        debug!(?notice, "notice given");
        let Some(way) = &self.way else { return };
        self.under_way.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = way.try_send(notice) {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            debug!(%error, "a notice is lost");
        }
    }

    /// Waits until all have arrived, or were given up, but no longer than this.
    pub fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        while self.under_way.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Posts what comes, for ever.
pub(super) async fn post(connection: Rc<Connection>, mut given: Given) {
    let mut refused = None;
    loop {
        let Some(notice) = given.notices.recv().await else { return std::future::pending().await };
        if let Err(reason) = post_one(&connection, &notice).await
            && refused.as_ref() != Some(&reason)
        {
            warn!(server = connection.server(), reason, "events are not taken");
            refused = Some(reason);
        }
        given.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tries until it has arrived, or the server does not want it.
async fn post_one(connection: &Connection, notice: &Notice) -> Result<(), String> {
    let event = event(notice, SystemTime::now());
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let mut reason = String::new();
    for _ in 0..TRIES {
        let request = Request::post(&path).header("content-type", "application/json");
        let request = request.body(event.to_string().into_bytes()).map_err(|error| error.to_string())?;
        let client = connection.client().map_err(|error| error.to_string())?;
        match timeout(ANSWER_LIMIT, connection.read(&client, request)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 401 => {
                connection.renew();
                reason = status.message;
            }
            // It has arrived before, though nobody told us.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => return Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code < 500 && status.code != 429 => {
                return Err(status.message);
            }
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => "no answer in time".clone_into(&mut reason),
        }
        sleep(DELAY).await;
    }
    Err(reason)
}

fn event(notice: &Notice, now: SystemTime) -> Value {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (regarding, name, namespace) = match &notice.subject {
        Subject::Node(name) => (json!({"apiVersion": "v1", "kind": "Node", "name": name}), name, "default"),
        Subject::Service(service) => (
            json!({
                "apiVersion": "v1", "kind": "Service", "namespace": service.namespace, "name": service.name,
                "uid": service.to_string(),
            }),
            &service.name,
            &*service.namespace,
        ),
    };
    let time = jiff::Timestamp::try_from(now).unwrap_or_default();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": format!("{name}.{:x}", since_1970.as_nanos()), "namespace": namespace},
        "eventTime": format!("{time:.6}"),
        "type": match notice.importance {
            Importance::Normal => "Normal",
            Importance::Warning => "Warning",
        },
        "reason": notice.reason,
        "action": notice.action,
        "note": cut(&notice.note),
        "regarding": regarding,
        "reportingController": REPORTER,
        "reportingInstance": format!("{REPORTER}-{host}"),
    })
}

/// As much of a note as the API takes.
fn cut(note: &str) -> &str {
    &note[..note.floor_char_boundary(LONGEST_NOTE)]
}

#[cfg(test)]
mod tests;
