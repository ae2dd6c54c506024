//! `nf_tables` over netlink: our table of one family, read and written without any tool.
//!
//! A write is one transaction: all of it is there at once, or nothing is. Only what `nft` itself would write is
//! written, with the user data that it keeps for its listings.

use std::error::Error as _;
use std::sync::mpsc;
use std::thread;

use kernel_state::nft::{self, DataType, Family, Key, KeyType, Object, Value, steps};
use kernel_state::{Change, Objects};
use rustix::io::Errno;
use thiserror::Error;

use crate::netlink::{BatchError, NetlinkError, Protocol, Refusal, Socket, flags};
use crate::target::{Applied, Drift, ReadError, Refused, Target, Unwritten, WriteError};

mod batch;
mod chain;
mod expression;
mod probe;
mod read;
mod rule;
mod set;
mod userdata;
mod verdict;
mod watch;
mod wire;

use batch::{Batch, Packing};
pub use probe::{Abilities, Ability};
pub(crate) use read::generation;
use watch::{Watch, Watches, unheard};
use wire::kind;

/// Our table of one family, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Nft {
    family: Family,
    layout: Layout,
    socket: Socket,
    watches: Watches,
    /// Which of them is ours.
    place: usize,
}

/// How our table is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The comment of a table that follows it. One with another comment is replaced whole.
    pub comment: &'static str,
    /// The sets and maps whose elements are ours, and what these are; what other sets hold goes with the set.
    pub sets: &'static [OwnSet],
    /// Whether the kernel keeps the comment; where it does not, a table without one follows the layout.
    pub comments: Ability,
}

/// A set or map of ours: its name, and what its elements are.
pub type OwnSet = (&'static str, KeyType, DataType);

/// The kernel's tables cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The caller may not.
    #[error("nftables: permission denied; writing rules needs root or CAP_NET_ADMIN")]
    Permission,
    /// The kernel was built without them, or without this family.
    #[error("nftables: this kernel has none for the family {}", .0.name())]
    Missing(Family),
    /// The kernel has them, but not all that is needed of them.
    #[error("nftables: this kernel was built without {option}: {source}")]
    Lacking {
        /// How that is called where a kernel is configured.
        option: &'static str,
        /// What it said.
        source: Refusal,
    },
    /// The kernel took what it cannot take.
    #[error("nftables: this kernel removed a table that is not there")]
    Unjudged,
    /// The kernel does not answer.
    #[error("nftables: {0}")]
    Netlink(#[from] NetlinkError),
}

/// Above what a transaction for 50,000 services takes, and what the kernel may say of its messages.
const SEND_BUFFER: usize = 256 << 20;
const RECEIVE_BUFFER: usize = 4 << 20;

/// From here on a transaction is a large one.
const MANY_STEPS: usize = 1000;

/// What this kernel can do for a family, in the calling thread's network namespace; fails if it cannot do what nothing
/// can be done without.
pub fn abilities(family: Family) -> Result<Abilities, OpenError> {
    probe::abilities(&mut Socket::open(Protocol::Netfilter)?, family)
}

impl Nft {
    /// Opens a socket, and sees whether the kernel answers.
    pub fn open(family: Family, layout: Layout) -> Result<Self, OpenError> {
        Self::open_with(family, layout, Watches::default())
    }

    /// The same for another family of the same network namespace. The two know of each other's writes.
    pub fn open_beside(&self, family: Family) -> Result<Self, OpenError> {
        Self::open_with(family, self.layout, self.watches.clone())
    }

    fn open_with(family: Family, layout: Layout, watches: Watches) -> Result<Self, OpenError> {
        let socket = Socket::open(Protocol::Netfilter)?;
        let allowed =
            socket.set_send_buffer(SEND_BUFFER).and_then(|()| socket.set_receive_buffer(RECEIVE_BUFFER));
        if allowed.is_err() {
            return Err(OpenError::Permission);
        }
        let watch = Watch::open(family, socket.port())?;
        let place = {
            let mut all = watches.lock();
            all.push(watch);
            all.len() - 1
        };
        let mut target = Self { family, layout, socket, watches, place };
        match target.generation() {
            Ok(_) => Ok(target),
            Err(error) => match error.errno() {
                Some(Errno::PERM) => Err(OpenError::Permission),
                Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::AFNOSUPPORT) => Err(OpenError::Missing(family)),
                _ => Err(error.into()),
            },
        }
    }

    /// Removes a whole table of this family by its name, if it is there; for tables that other proxies left.
    pub fn remove_table(&mut self, name: &str) -> Result<(), WriteError> {
        let mut message = batch::new(kind::DELETE_TABLE, flags::ACK, self.family);
        message.text(wire::table::NAME, name);
        let refusals = match self.socket.batch(&mut [batch::begin(), message, batch::end()]) {
            Ok(()) => return Ok(()),
            Err(BatchError::Failed(error)) => return Err(failed(error)),
            Err(BatchError::Refused { refusals }) => refusals,
        };
        match refusals.into_iter().find(|(_, refusal)| refusal.errno != Errno::NOENT) {
            None => Ok(()),
            Some((_, refusal)) => {
                let text = format!("delete table {} {name}", self.family.name());
                let refused = Some(Refused { index: 0, text });
                Err(WriteError { applied: Applied::Nothing, refused, source: Box::new(refusal) })
            }
        }
    }

    /// Makes a whole table of another name, in one transaction; [`Nft::remove_table`] removes it.
    pub fn make_table(&mut self, name: &str, objects: &[(Key, Value)]) -> Result<(), WriteError> {
        let put = |(key, value): &(Key, Value)| Change::Put {
            key: key.clone(),
            value: value.clone(),
            replaced: None,
        };
        let changes: Vec<Change<nft::Nft>> = objects.iter().map(put).collect();
        let steps = steps(&changes);
        let refusals = match self.socket.batch(&mut Batch::new(name, &steps, Packing::Dense).messages) {
            Ok(()) => return Ok(()),
            Err(BatchError::Failed(error)) => return Err(failed(error)),
            Err(BatchError::Refused { refusals }) => refusals,
        };
        let text = format!("add table {} {name}", self.family.name());
        let source = refusals.into_iter().next().map_or_else(
            || Box::new(NetlinkError::Unanswered) as Box<dyn std::error::Error + Send + Sync>,
            |(_, refusal)| Box::new(refusal),
        );
        Err(WriteError { applied: Applied::Nothing, refused: Some(Refused { index: 0, text }), source })
    }

    /// Sends one transaction.
    fn send(&mut self, changes: &[Change<nft::Nft>]) -> Result<(), WriteError> {
        let batch = Batch::new(nft::TABLE, &steps(changes), Packing::Dense);
        self.send_batch(changes, batch)
    }

    /// Sends one transaction. Nobody listens while it is a large one: the count of changes serves us then.
    fn send_batch(&mut self, changes: &[Change<nft::Nft>], batch: Batch<'_>) -> Result<(), WriteError> {
        let watches = self.watches.clone();
        let mut watches = watches.lock();
        if batch.steps < MANY_STEPS {
            self.send_packed(changes, batch)?;
            // Soon, so that what waits to be read stays little.
            watches[self.place].hear();
        } else {
            let work = || {
                let before = self.generation().ok();
                let sent = self.send_packed(changes, batch);
                let after = self.generation().ok();
                (sent, before.zip(after))
            };
            let once = |counted: &Option<(u32, u32)>| {
                counted.is_some_and(|(before, after)| after == before.wrapping_add(1))
            };
            unheard(&mut watches, work, |(_, counted)| once(counted)).0?;
        }
        for change in changes {
            if let Change::Put { key: Key { object: Object::Set(name), .. }, .. } = change
                && let Some(set) = self.layout.own_set(name)
            {
                watches[self.place].know(set);
            }
        }
        Ok(())
    }

    /// Where the kernel does not tell which of many elements it refused, it is asked again with each in a message of
    /// its own.
    fn send_packed(&mut self, changes: &[Change<nft::Nft>], batch: Batch<'_>) -> Result<(), WriteError> {
        match self.send_once(changes, batch)? {
            Sent::Done => return Ok(()),
            Sent::Unclear => {}
        }
        let single = Batch::new(nft::TABLE, &steps(changes), Packing::Single);
        match self.send_once(changes, single)? {
            Sent::Done => Ok(()),
            Sent::Unclear => Err(failed(NetlinkError::Unanswered)),
        }
    }

    fn send_once(&mut self, changes: &[Change<nft::Nft>], mut batch: Batch<'_>) -> Result<Sent, WriteError> {
        let refusals = match self.socket.batch(&mut batch.messages) {
            Ok(()) => return Ok(Sent::Done),
            Err(BatchError::Failed(error)) => return Err(failed(error)),
            Err(BatchError::Refused { refusals }) => refusals,
        };
        let Some((message, refusal)) = refusals.into_iter().min_by_key(|(place, _)| *place) else {
            return Ok(Sent::Unclear);
        };
        if refusal.errno == Errno::PERM {
            return Err(locked(self.family));
        }
        let step = batch.refused_step(message, refusal.offset);
        if step.is_none() && batch.packing == Packing::Dense {
            return Ok(Sent::Unclear);
        }
        let steps = steps(changes);
        let refused = step.and_then(|step| steps.get(step));
        Err(WriteError {
            applied: Applied::Nothing,
            refused: refused.map(|(index, step)| Refused { index: *index, text: step.to_string() }),
            source: Box::new(refusal),
        })
    }
}

/// What became of a transaction that did not fail for good.
enum Sent {
    Done,
    /// Something was refused; it is not known what.
    Unclear,
}

impl Layout {
    /// That of whoever wants nothing in our table, or has another one.
    pub const NONE: Self = Self { comment: "", sets: &[], comments: Ability::There };

    /// The set of ours that has this name.
    fn own_set(&self, name: &str) -> Option<OwnSet> {
        self.sets.iter().copied().find(|(own, ..)| *own == name)
    }
}

impl Target<nft::Nft> for Nft {
    /// More in one transaction would take memory, here and in the kernel, for nothing.
    const LARGE: usize = 16_384;

    fn read(&mut self, found: &mut dyn FnMut(Key, Value)) -> Result<(), ReadError> {
        let objects = self.objects().map_err(|source| ReadError { source: source.into() })?;
        for (key, value) in objects {
            found(key, value);
        }
        Ok(())
    }

    /// Chains and sets are removed in a transaction of their own: before 6.2 the kernel holds on to a chain for as
    /// long as the transaction lasts in which the last element that leads to it goes.
    fn write(&mut self, changes: &[Change<nft::Nft>]) -> Result<(), WriteError> {
        let removes = |change: &Change<nft::Nft>| match change {
            Change::Put { .. } => false,
            Change::Drop { key, .. } => matches!(key.object, Object::Chain(_) | Object::Set(_)),
        };
        let drops_table = changes.iter().any(|change| match change {
            Change::Put { .. } => false,
            Change::Drop { key, .. } => key.object == Object::Table,
        });
        let first = if drops_table { None } else { changes.iter().position(removes) };
        // Drops come in falling rank, so what follows are chains and sets alone.
        let (now, later) = changes.split_at(first.unwrap_or(changes.len()));
        debug_assert!(
            drops_table || later.iter().all(|change| <nft::Nft as Objects>::rank(change.key()) < 3)
        );
        let mut written = 0;
        for part in [now, later].into_iter().filter(|part| !part.is_empty()) {
            self.send(part).map_err(|error| error.after(written))?;
            written += part.len();
        }
        Ok(())
    }

    /// The kernel works a part off before a call returns. Meanwhile another thread makes the messages of the next.
    fn write_parts(
        &mut self,
        parts: &mut (dyn ExactSizeIterator<Item = Vec<Change<nft::Nft>>> + Send),
        written: &mut dyn FnMut(&[Change<nft::Nft>]),
    ) -> Result<(), Unwritten<nft::Nft>> {
        let several = parts.len() > 1;
        let pack = move |changes: Vec<Change<nft::Nft>>| {
            // What is removed may need a transaction of its own.
            let is_whole = several && changes.iter().all(|change| matches!(change, Change::Put { .. }));
            let batch = is_whole.then(|| Batch::new(nft::TABLE, &steps(&changes), Packing::Dense));
            (changes, batch)
        };
        let mut write = |(changes, batch): (Vec<Change<nft::Nft>>, Option<Batch<'_>>)| {
            let sent = match batch {
                Some(batch) => self.send_batch(&changes, batch),
                None => self.write(&changes),
            };
            match sent {
                Ok(()) => written(&changes),
                Err(error) => return Err(Unwritten { changes, error }),
            }
            Ok(())
        };
        if several {
            let rest = &mut *parts;
            thread::scope(|scope| {
                let (sender, packed) = mpsc::sync_channel(0);
                let work = move || rest.map(pack).all(|part| sender.send(part).is_ok());
                // If there is no thread to be had, all of it is left for what follows.
                let _ = thread::Builder::new().name("parts".to_owned()).spawn_scoped(scope, work);
                packed.into_iter().try_for_each(&mut write)
            })?;
        }
        parts.map(pack).try_for_each(write)
    }

    fn drift(&mut self) -> Drift<nft::Nft> {
        let seen = self.watches.lock()[self.place].take();
        if seen.anything {
            return Drift::Possible;
        }
        let mut objects = seen.elements;
        for name in seen.chains {
            let Ok(chain) = self.chain(&name) else { return Drift::Possible };
            objects.push((Key { family: self.family, object: Object::Chain(name) }, chain));
        }
        if objects.is_empty() { Drift::None } else { Drift::Objects(objects) }
    }

    fn bytes_sent(&self) -> u64 {
        self.socket.bytes_sent()
    }
}

/// Nothing can be written at all, whoever wants it; that we may was seen when the socket was opened.
fn locked(family: Family) -> WriteError {
    let source =
        format!("another program holds the table {} {} (nft's flag owner)", family.name(), nft::TABLE);
    WriteError { applied: Applied::Nothing, refused: None, source: source.into() }
}

/// A transaction of which nobody knows how it ended, unless it was never sent.
fn failed(error: NetlinkError) -> WriteError {
    let unsent = matches!(error, NetlinkError::Send(_) | NetlinkError::TooLong { .. });
    let applied = if unsent { Applied::Nothing } else { Applied::Unknown };
    let source = match error.source() {
        Some(cause) => format!("{error}: {cause}").into(),
        None => error.into(),
    };
    WriteError { applied, refused: None, source }
}

#[cfg(test)]
mod tests;
