//! One kind of object, followed for as long as anybody listens: list, watch, and after any failure again.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_util::{AsyncBufRead, AsyncBufReadExt, FutureExt};
use http::Request;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tracing::{debug, info};

use super::Patience;
use super::connect::{Connection, Silence};
use super::gate::Gate;
use super::known::Known;
use super::watched::{Kind, Necessity, NodeSelector, Watched, encoded};
use crate::wire::{self, Line, List, Status};
use crate::{Batch, Event, Report};

/// Where batches go, and what is still missing before the first of them counts.
#[derive(Clone)]
pub(super) struct Outlet {
    pub(super) gate: Rc<RefCell<Gate>>,
    pub(super) out: mpsc::Sender<Batch>,
}

/// Nobody listens any more.
#[derive(Debug)]
pub(super) struct Unheard;

/// Follows one kind.
pub(super) struct Follower {
    kind: Kind,
    path: String,
    connection: Rc<Connection>,
    outlet: Outlet,
    patience: Patience,
    known: Known,
    position: Position,
    listing: Listing,
    /// How often it was tried since it last went well.
    tries: u32,
    /// How often it had forgotten our place since then.
    expiries: u32,
    /// What was last reported, while it lasts.
    refused: Option<String>,
}

/// Up to where the server's changes are known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Position {
    /// Everything must be listed.
    Nowhere,
    /// Up to this version of the whole.
    At(String),
    /// The same, before the connection broke: the server may have lost its memory since.
    Doubted(String),
}

/// Whether more can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Open,
    Ended,
}

/// How the first list is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// As the beginning of a watch, object by object (Kubernetes 1.34 and newer).
    Streamed,
    /// In pages.
    Paged,
}

/// Why following ended.
#[derive(Debug)]
enum Failure {
    Unheard,
    /// The server has forgotten the position.
    Expired,
    /// It does not stream lists.
    NotStreamed,
    /// It does not let us, or does not know what we ask for.
    Refused(Status),
    /// It cannot be reached, or does not speak as it should.
    Unreachable(String),
}

const PAGE: usize = 500;
/// How many events go out together at most.
const BURST: usize = 512;
/// Within this time the server must begin to answer, and go on with a list.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LAST_DELAY: Duration = Duration::from_secs(30);
/// What went well for so long has nothing to do with an earlier failure.
const SETTLED: Duration = Duration::from_secs(10);

impl Outlet {
    pub(super) fn send(&self, batch: Batch) -> Result<(), Unheard> {
        if batch.is_empty() { Ok(()) } else { self.out.send(batch).map_err(|_| Unheard) }
    }
}

impl Follower {
    pub(super) fn new(
        kind: Kind,
        node: &NodeSelector,
        connection: Rc<Connection>,
        outlet: Outlet,
        patience: Patience,
    ) -> Self {
        Self {
            kind,
            path: kind.path(node),
            known: Known::new(connection.server().to_owned()),
            connection,
            outlet,
            patience,
            position: Position::Nowhere,
            listing: Listing::Streamed,
            tries: 0,
            expiries: 0,
            refused: None,
        }
    }

    /// Follows until nobody listens, or patience ends.
    pub(super) async fn run(mut self) {
        loop {
            let (start, was_watching) = (Instant::now(), matches!(self.position, Position::At(_)));
            let ended = match self.kind {
                Kind::Node => self.follow::<wire::Node>().await,
                Kind::Services => self.follow::<wire::Service>().await,
                Kind::EndpointSlices => self.follow::<wire::EndpointSlice>().await,
                Kind::ServiceCidrs => self.follow::<wire::ServiceCidr>().await,
            };
            if start.elapsed() > SETTLED {
                (self.tries, self.expiries) = (0, 0);
            }
            match ended.map_or_else(|failure| self.delay_after(failure), |()| Ok(Duration::ZERO)) {
                // A watch that ends at once, and well, would be asked for again and again.
                Ok(delay) if was_watching => {
                    self.connection.rest(delay.max(FIRST_DELAY.saturating_sub(start.elapsed()))).await;
                }
                Ok(delay) => self.connection.rest(delay).await,
                Err(Unheard) => return,
            }
        }
    }

    /// One step: from wherever we are to the end of a watch.
    async fn follow<W: Watched>(&mut self) -> Result<(), Failure> {
        match (&self.position, self.listing) {
            (Position::At(version), _) => {
                let query = format!("&resourceVersion={}", encoded(version));
                self.watch::<W>(&query).await
            }
            (Position::Doubted(version), _) => {
                let version = version.clone();
                self.position = self.confirmed::<W>(version).await?;
                Ok(())
            }
            (Position::Nowhere, Listing::Streamed) => {
                self.known.begin_list();
                self.watch::<W>("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan").await
            }
            (Position::Nowhere, Listing::Paged) => self.list::<W>().await,
        }
    }

    /// Reads a watch to its end, which the server sets.
    async fn watch<W: Watched>(&mut self, query: &str) -> Result<(), Failure> {
        let seconds = 300 + jitter() % 300;
        let path = &self.path;
        let path = format!("{path}{query}&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}");
        let client = self.connection.client().map_err(|error| Failure::Unreachable(told(&error)))?;
        let answer = timeout(ANSWER_LIMIT, client.request_stream(get(&path))).await;
        let stream = answer.map_err(|_| silence())?.map_err(|error| self.failure(error))?;
        self.answered();
        let mut stream = Box::pin(stream);
        let mut line = Vec::new();
        loop {
            let mut batch = Batch::default();
            let state = self.read_burst::<W>(&mut stream, &mut line, &mut batch).await;
            self.outlet.send(batch)?;
            if state? == Stream::Ended {
                return Ok(());
            }
        }
    }

    /// Reads what can be read without waiting, and waits for the first line of it.
    async fn read_burst<W: Watched>(
        &mut self,
        stream: &mut (impl AsyncBufRead + Unpin),
        line: &mut Vec<u8>,
        batch: &mut Batch,
    ) -> Result<Stream, Failure> {
        loop {
            line.clear();
            let reading = stream.read_until(b'\n', line);
            let read = match self.position {
                Position::Nowhere => timeout(ANSWER_LIMIT, reading).await.map_err(|_| silence())?,
                Position::At(_) | Position::Doubted(_) => reading.await,
            };
            read.map_err(|error| Failure::Unreachable(told(&error)))?;
            batch.received.get_or_insert_with(Instant::now);
            if line.last() != Some(&b'\n') {
                // The server ends a watch in its time; a list that ends before it is whole was broken off.
                return if self.position == Position::Nowhere { Err(silence()) } else { Ok(Stream::Ended) };
            }
            self.take_line::<W>(line, batch)?;
            if batch.events.len() >= BURST || !has_line(stream) {
                return Ok(Stream::Open);
            }
        }
    }

    fn take_line<W: Watched>(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Failure> {
        match serde_json::from_slice::<Line<W>>(line) {
            Ok(Line::Added(object) | Line::Modified(object)) => {
                self.take_object(&object, batch);
                self.advance(object.metadata());
            }
            Ok(Line::Deleted(object)) => {
                let gone = object.key().map(|key| self.known.gone(&key)).unwrap_or_default();
                extend(batch, gone);
                self.advance(object.metadata());
            }
            Ok(Line::Bookmark(bookmark)) => {
                let ends_list = bookmark.metadata.annotations.initial_events_end.is_some();
                if let (Position::Nowhere, true, Some(version)) =
                    (&self.position, ends_list, &bookmark.metadata.resource_version)
                {
                    self.position = Position::At(version.clone());
                    self.listed(batch);
                }
                self.advance(&bookmark.metadata);
            }
            Ok(Line::Error(status)) => return Err(self.refusal(status)),
            Err(error) => batch.reports.push(Report {
                place: self.connection.server().to_owned(),
                message: format!(
                    "one of the {} cannot be read, and is passed over: {error}",
                    self.kind.name()
                ),
            }),
        }
        Ok(())
    }

    /// All pages of a list.
    async fn list<W: Watched>(&mut self) -> Result<(), Failure> {
        self.known.begin_list();
        let mut next = String::new();
        loop {
            let page: List<W> = self.get(&format!("&limit={PAGE}{next}")).await?;
            self.answered();
            let mut batch = Batch::default();
            for object in &page.items {
                self.take_object(object, &mut batch);
            }
            let Some(token) = page.metadata.next.filter(|next| !next.is_empty()) else {
                self.position = Position::At(page.metadata.resource_version.unwrap_or_default());
                self.listed(&mut batch);
                return Ok(self.outlet.send(batch)?);
            };
            next = format!("&continue={}", encoded(&token));
            self.outlet.send(batch)?;
        }
    }

    /// Whether a server that was away still counts on from where we were: one that was set up anew begins at 1,
    /// and would be silent until it comes past our number.
    async fn confirmed<W: Watched>(&mut self, version: String) -> Result<Position, Failure> {
        let newest: List<W> = self.get("&limit=1").await?;
        let number = |text: &str| text.parse::<u64>().ok();
        let newest = newest.metadata.resource_version.as_deref().and_then(number);
        Ok(match (newest, number(&version)) {
            (Some(newest), Some(ours)) if newest < ours => {
                info!(kind = self.kind.name(), "the API server has begun anew; everything is listed again");
                Position::Nowhere
            }
            _ => Position::At(version),
        })
    }

    async fn get<T: DeserializeOwned>(&self, query: &str) -> Result<T, Failure> {
        let client = self.connection.client().map_err(|error| Failure::Unreachable(told(&error)))?;
        let path = format!("{}{query}", self.path);
        let answer = timeout(ANSWER_LIMIT, self.connection.read(&client, get(&path))).await;
        let text = answer.map_err(|_| silence())?.map_err(|error| self.failure(error))?;
        serde_json::from_str(&text).map_err(|error| Failure::Unreachable(format!("no list: {error}")))
    }

    fn take_object<W: Watched>(&mut self, object: &W, batch: &mut Batch) {
        let news = self.known.take(object.statement());
        if !news.events.is_empty() {
            batch.events.extend(object.trigger().map(Event::Triggered));
        }
        for event in &news.events {
            if let Event::Node(Some(node)) = event
                && self.outlet.gate.borrow_mut().node(node)
            {
                batch.events.push(Event::Listed);
            }
        }
        extend(batch, news);
    }

    /// Everything there is was told.
    fn listed(&mut self, batch: &mut Batch) {
        extend(batch, self.known.end_list());
        if self.outlet.gate.borrow_mut().listed(self.kind) {
            batch.events.push(Event::Listed);
        }
    }

    /// The server does what it was asked to.
    fn answered(&mut self) {
        self.refused = None;
        self.connection.answers(self.kind);
    }

    /// We are this far.
    fn advance(&mut self, metadata: &wire::Metadata) {
        if let (Position::At(at), Some(version)) = (&mut self.position, &metadata.resource_version) {
            at.clone_from(version);
        }
    }

    fn failure(&self, error: kube::Error) -> Failure {
        if let kube::Error::Api(status) = error {
            let message = if status.message.is_empty() { status.reason } else { status.message };
            return self.refusal(Status { code: status.code, message });
        }
        Failure::Unreachable(told(&error))
    }

    fn refusal(&self, status: Status) -> Failure {
        let streams = self.position == Position::Nowhere && self.listing == Listing::Streamed;
        match status.code {
            410 => Failure::Expired,
            // Whatever else it says of a stream, a plain list may work: some words come from its storage.
            code if streams && !matches!(code, 401 | 403 | 404 | 429) => Failure::NotStreamed,
            _ => Failure::Refused(status),
        }
    }

    /// What to do about a failure, and how long to wait before the next try.
    fn delay_after(&mut self, failure: Failure) -> Result<Duration, Unheard> {
        if let Position::At(version) = &self.position {
            self.position = Position::Doubted(version.clone());
        }
        let kind = self.kind.name();
        let needed = match failure {
            Failure::Unheard => return Err(Unheard),
            Failure::NotStreamed => {
                debug!(kind, "the API server does not stream lists; they are read in pages");
                self.listing = Listing::Paged;
                return Ok(Duration::ZERO);
            }
            Failure::Expired => {
                debug!(kind, "the API server has forgotten our place; everything is listed");
                self.position = Position::Nowhere;
                // It answers, so that it was away before is no reason to wait.
                return Ok(next_delay(&mut self.expiries));
            }
            Failure::Refused(status) => self.refused(&status)?,
            Failure::Unreachable(reason) => {
                debug!(kind, reason, "cannot be watched");
                if self.connection.is_silent(self.kind, Silence::Unreachable) {
                    self.report(format!("the API server cannot be reached, what is known stays: {reason}"))?;
                }
                Necessity::Needed
            }
        };
        if needed == Necessity::Needed && self.patience == Patience::None {
            return Err(Unheard);
        }
        Ok(next_delay(&mut self.tries))
    }

    /// Whether this kind is needed all the same.
    fn refused(&mut self, status: &Status) -> Result<Necessity, Unheard> {
        if status.code == 401 {
            self.connection.renew();
            if self.connection.is_silent(self.kind, Silence::Refusing) {
                self.report(format!("the credentials are refused: {}", status.message))?;
            }
            return Ok(Necessity::Needed);
        }
        let message = format!("{} are refused: {}", self.kind.name(), status.message);
        if self.refused.as_ref() != Some(&message) {
            self.refused = Some(message.clone());
            self.report(message)?;
        }
        if self.kind.necessity() == Necessity::Spared && matches!(status.code, 403 | 404) {
            self.spare()?;
            return Ok(Necessity::Spared);
        }
        Ok(Necessity::Needed)
    }

    fn report(&self, message: String) -> Result<(), Unheard> {
        let report = Report { place: self.connection.server().to_owned(), message };
        self.outlet.send(Batch { reports: vec![report], ..Batch::default() })
    }

    /// Goes on without a kind that cannot be had.
    fn spare(&mut self) -> Result<(), Unheard> {
        let mut batch = Batch::default();
        if self.outlet.gate.borrow_mut().listed(self.kind) {
            batch.events.push(Event::Listed);
        }
        self.outlet.send(batch)
    }
}

/// Doubles with each try; everybody in the cluster waits, so nobody waits equally long.
fn next_delay(tries: &mut u32) -> Duration {
    let delay = FIRST_DELAY.saturating_mul(1 << (*tries).min(8)).min(LAST_DELAY);
    *tries = tries.saturating_add(1);
    let share = u32::try_from(jitter() % 1000).unwrap_or_default();
    delay / 2 + delay * share / 1000
}

impl From<Unheard> for Failure {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}

fn extend(batch: &mut Batch, more: Batch) {
    batch.events.extend(more.events);
    batch.reports.extend(more.reports);
}

/// Whether a whole line can be read without waiting.
fn has_line(stream: &mut (impl AsyncBufRead + Unpin)) -> bool {
    let buffered = stream.fill_buf().now_or_never();
    matches!(buffered, Some(Ok(bytes)) if bytes.contains(&b'\n'))
}

fn get(path: &str) -> Request<Vec<u8>> {
    let agent = concat!("fairlead/", env!("CARGO_PKG_VERSION"));
    let request = Request::get(path).header("accept", "application/json").header("user-agent", agent);
    request.body(Vec::new()).expect("paths and selectors are encoded")
}

fn silence() -> Failure {
    Failure::Unreachable("no answer in time".to_owned())
}

/// An error and its causes in one line, each said once.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let chain: Vec<_> = std::iter::successors(Some(error), |error| error.source()).collect();
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
    if chain.iter().any(|error| error.downcast_ref().is_some_and(closed)) {
        return "the connection was closed".to_owned();
    }
    let mut parts: Vec<String> = Vec::new();
    for text in chain.iter().map(ToString::to_string) {
        // Many an error tells its cause too.
        parts.retain(|part| !part.ends_with(&text));
        parts.push(text);
    }
    parts.join(": ")
}

/// Any number; nothing secret hangs on it.
fn jitter() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests;
