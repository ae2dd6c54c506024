//! Sets of addresses and ports, over the kernel's ipset protocol.
//!
//! Sets belong to a network namespace and have no owner; ours are known by their names.

mod wire;

use std::thread;
use std::time::{Duration, Instant};

use kernel_state::Change;
use kernel_state::ipset::{self, Key, Member, SetName, SetType, Value};
use rustix::io::Errno;
use thiserror::Error;

use crate::netlink::{NetlinkError, Protocol, Refusal, Socket};
use crate::pipeline::{Pipeline, refused, widened};
use crate::target::{Applied, Drift, ReadError, Target, WriteError};

/// The sets of these names in the network namespace in which this was opened.
#[derive(Debug)]
pub struct Ipsets {
    socket: Socket,
    names: Vec<SetName>,
}

/// Sets cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The kernel has no ipset, or none of this kind.
    #[error("the kernel has no {what}; load the module {module}")]
    Missing {
        /// What is missing.
        what: String,
        /// What would bring it.
        module: String,
    },
    /// The caller may not use them.
    #[error("ipset: permission denied; sets of addresses need root or CAP_NET_ADMIN")]
    Permission,
    /// Anything else.
    #[error("ipset: {0}")]
    Failed(#[from] NetlinkError),
}

/// A set that was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it holds.
    pub kind: SetType,
    /// All of them that our vocabulary has a word for.
    pub members: Vec<Member>,
}

impl Ipsets {
    /// Opens the sets of these names in the calling thread's namespace.
    pub fn open(names: Vec<SetName>) -> Result<Self, OpenError> {
        let mut ipsets = Self { socket: widened(Socket::open(Protocol::Netfilter)?)?, names };
        match ipsets.socket.request(&mut wire::version()) {
            Ok(()) => Ok(ipsets),
            Err(error) if error.errno() == Some(Errno::PERM) => Err(OpenError::Permission),
            // Nobody answers for a part of netfilter that is not there.
            Err(error) if error.errno() == Some(Errno::INVAL) => {
                Err(OpenError::Missing { what: "ipset".to_owned(), module: "ip_set".to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the kernel can make sets of these types.
    pub fn require(&mut self, kinds: &[SetType]) -> Result<(), OpenError> {
        for kind in kinds {
            match self.revision(kind) {
                Ok(_) => {}
                Err(error) if error.errno() == Some(Errno::NOENT) || is_private(&error) => {
                    let module = format!("ip_set_{}", kind.name().replace(':', "_").replace(',', ""));
                    return Err(OpenError::Missing { what: format!("ipset type {}", kind.name()), module });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A set with its members; nothing if there is none of this name.
    pub fn list(&mut self, name: &SetName) -> Result<Option<Listed>, NetlinkError> {
        let mut listed: Option<Listed> = None;
        let answer = self.socket.dump(&mut wire::list(name), |reply| {
            if let Some(kind) = wire::kind(&reply)? {
                listed = Some(Listed { kind, members: Vec::new() });
            }
            if let Some(listed) = &mut listed {
                wire::members(&reply, &listed.kind, &mut listed.members)?;
            }
            Ok(())
        });
        match answer {
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
            other => other.map(|()| listed),
        }
    }

    /// The newest revision of a type that the kernel knows.
    fn revision(&mut self, kind: &SetType) -> Result<u8, NetlinkError> {
        let mut revision = 0;
        self.socket.query(&mut wire::ask_revision(kind), |reply| {
            if let Some(found) = wire::revision(&reply)? {
                revision = found;
            }
            Ok(())
        })?;
        Ok(revision)
    }

    fn create(&mut self, index: usize, changes: &[Change<ipset::Ipset>]) -> Result<(), WriteError> {
        let Change::Put { key: Key::Set(name), value: Value::Set(kind), replaced } = &changes[index] else {
            return Ok(());
        };
        if replaced.is_some() {
            self.destroy(index, changes, name)?;
        }
        let made = self
            .revision(kind)
            .and_then(|revision| self.socket.request(&mut wire::create(name, kind, revision)));
        made.map_err(|source| at(index, changes, source))
    }

    /// Removes a set. Rules that matched against it may hold it a moment longer than they are there.
    fn destroy(
        &mut self,
        index: usize,
        changes: &[Change<ipset::Ipset>],
        name: &SetName,
    ) -> Result<(), WriteError> {
        let start = Instant::now();
        loop {
            match self.socket.request(&mut wire::destroy(name)) {
                Err(NetlinkError::Refused(refusal))
                    if refusal.private == Some(wire::BUSY) && start.elapsed() < PATIENCE =>
                {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(()),
                other => return other.map_err(|source| at(index, changes, source)),
            }
        }
    }
}

/// How long rules may take to let go of a set.
const PATIENCE: Duration = Duration::from_secs(1);

impl Target<ipset::Ipset> for Ipsets {
    fn read(&mut self, found: &mut dyn FnMut(Key, Value)) -> Result<(), ReadError> {
        for name in self.names.clone() {
            let listed = self.list(&name).map_err(|source| ReadError { source: source.into() })?;
            let Some(Listed { kind, members }) = listed else { continue };
            found(Key::Set(name.clone()), Value::Set(kind));
            for member in members {
                found(Key::Member(name.clone(), member), Value::Member);
            }
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change<ipset::Ipset>]) -> Result<(), WriteError> {
        let mut index = 0;
        while index < changes.len() {
            match &changes[index] {
                Change::Put { key: Key::Set(_), .. } => self.create(index, changes)?,
                Change::Drop { key: Key::Set(name), .. } => self.destroy(index, changes, name)?,
                Change::Put { .. } | Change::Drop { .. } => {
                    let end = self.members(index, changes)?;
                    index = end;
                    continue;
                }
            }
            index += 1;
        }
        Ok(())
    }

    /// The kernel tells nobody of a set that changed.
    fn drift(&mut self) -> Drift<ipset::Ipset> {
        Drift::None
    }

    fn bytes_sent(&self) -> u64 {
        self.socket.bytes_sent()
    }
}

impl Ipsets {
    /// Writes the members that stand together from here on. Answers where they end.
    fn members(&mut self, start: usize, changes: &[Change<ipset::Ipset>]) -> Result<usize, WriteError> {
        let mut pipeline = Pipeline::default();
        let mut end = start;
        while let Some(change) = changes.get(end) {
            let message = match change {
                Change::Put { key: Key::Member(name, member), .. } => wire::add(name, member),
                Change::Drop { key: Key::Member(name, member), .. } => wire::delete(name, member),
                Change::Put { .. } | Change::Drop { .. } => break,
            };
            pipeline.push(end, message);
            end += 1;
            if pipeline.is_full() {
                pipeline.send(&mut self.socket, changes, |_, _| false, |_, refusal| words(refusal))?;
            }
        }
        pipeline.send(&mut self.socket, changes, |_, _| false, |_, refusal| words(refusal))?;
        Ok(end)
    }
}

fn at(index: usize, changes: &[Change<ipset::Ipset>], source: NetlinkError) -> WriteError {
    let source =
        if let NetlinkError::Refused(refusal) = &source { words(refusal).into() } else { source.into() };
    WriteError { applied: Applied::First(index), refused: Some(refused(changes, index)), source }
}

fn is_private(error: &NetlinkError) -> bool {
    matches!(error, NetlinkError::Refused(refusal) if refusal.private.is_some())
}

/// The kernel's words, or ours for ipset's own numbers.
fn words(refusal: &Refusal) -> String {
    match refusal.private.and_then(wire::meaning) {
        Some(meaning) => meaning.to_owned(),
        None => refusal.to_string(),
    }
}

#[cfg(test)]
mod tests;
