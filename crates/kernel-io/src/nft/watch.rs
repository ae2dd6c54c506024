//! What others do to our table, as the kernel tells it (`NFNLGRP_NFTABLES`).
//!
//! What we did ourselves is told too, and known by our port; other tables and families are passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernel_state::nft::{DataType, Family, Key, KeyType, Name, Object, TABLE, Value};

use super::wire::{self, kind};
use super::{OwnSet, batch, set};
use crate::netlink::{Attribute, Attributes, Malformed, NetlinkError, Protocol, Reply, Socket};

/// The sets whose elements are ours, and what these are.
pub(super) type KnownSets = BTreeMap<&'static str, (KeyType, DataType)>;

/// The watches of the families that one process writes. Whoever writes holds them all, so that of each
/// transaction of ours it is known who was listening.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches(Arc<Mutex<Vec<Watch>>>);

/// A socket that listens for one family.
#[derive(Debug)]
pub(super) struct Watch {
    family: Family,
    /// The port of the socket that we write with.
    our_port: u32,
    sets: KnownSets,
    socket: Socket,
    listening: bool,
    seen: Seen,
}

/// What was heard, and not yet asked for.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether anything may have changed: messages were lost, or the table or a set was touched.
    pub(super) anything: bool,
    /// Elements that came or went, in that order.
    pub(super) elements: Vec<(Key, Option<Value>)>,
    /// Chains that came or went, or whose rules did.
    pub(super) chains: BTreeSet<Name>,
}

const GROUP: u16 = 7; // NFNLGRP_NFTABLES
const RECEIVE_BUFFER: usize = 4 << 20;

impl Watches {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Watch>> {
        // Whoever panicked while it wrote has left at most something unheard.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Opens a socket that does not listen yet; `our_port` is that of the socket that we write with.
    pub(super) fn open(family: Family, our_port: u32) -> Result<Self, NetlinkError> {
        let socket = Socket::open(Protocol::Netfilter)?;
        socket.set_receive_buffer(RECEIVE_BUFFER)?;
        let (sets, seen) = (KnownSets::new(), Seen::default());
        Ok(Self { family, our_port, sets, socket, listening: false, seen })
    }

    /// Listens from now on, and forgets what was heard.
    pub(super) fn begin(&mut self) -> Result<(), NetlinkError> {
        if !self.listening {
            self.socket.join(GROUP)?;
            self.listening = true;
        }
        self.hear();
        self.seen = Seen::default();
        Ok(())
    }

    /// Keeps in mind what the elements of a set are.
    pub(super) fn know(&mut self, (set, key, data): OwnSet) {
        self.sets.insert(set, (key, data));
    }

    /// Takes in what was said since.
    pub(super) fn hear(&mut self) {
        let (seen, sets, family, our_port) = (&mut self.seen, &self.sets, self.family, self.our_port);
        let note = |reply: Reply<'_>| {
            if reply.port == our_port { Ok(()) } else { seen.note(&reply, family, sets) }
        };
        if self.socket.drain(note).is_err() {
            self.seen.anything = true;
        }
    }

    /// What was heard since this was last asked.
    pub(super) fn take(&mut self) -> Seen {
        self.hear();
        std::mem::take(&mut self.seen)
    }
}

/// Does something large while nobody listens: the kernel would make a message of some kilobytes for every object
/// of a transaction, if anybody at all hears it. `undisturbed` says of its result whether nobody else changed
/// anything meanwhile.
pub(super) fn unheard<T>(
    watches: &mut [Watch],
    work: impl FnOnce() -> T,
    undisturbed: impl FnOnce(&T) -> bool,
) -> T {
    let mut paused: Vec<&mut Watch> = watches.iter_mut().filter(|watch| watch.listening).collect();
    let mut left = true;
    for watch in &mut paused {
        watch.hear();
        left &= watch.socket.leave(GROUP).is_ok();
    }
    let done = work();
    let back = paused.iter().all(|watch| watch.socket.join(GROUP).is_ok());
    if !(left && back && undisturbed(&done)) {
        for watch in &mut paused {
            watch.seen.anything = true;
        }
    }
    done
}

impl Seen {
    pub(super) fn note(
        &mut self,
        reply: &Reply<'_>,
        family: Family,
        sets: &KnownSets,
    ) -> Result<(), Malformed> {
        const TABLE_NAME: u16 = 1; // the same in all of their lists
        if reply.kind >> 8 != kind::GET_GENERATION >> 8 {
            return Ok(());
        }
        let (fixed, attributes) = reply.split::<4>()?;
        let table = attributes.find(TABLE_NAME)?;
        if fixed[0] != batch::family_number(family) || table.is_none_or(|table| table.text() != Ok(TABLE)) {
            return Ok(());
        }
        match reply.kind {
            kind::NEW_CHAIN | kind::DELETE_CHAIN => self.note_chain(attributes.find(wire::chain::NAME)?),
            kind::NEW_RULE | kind::DELETE_RULE => self.note_chain(attributes.find(wire::rule::CHAIN)?),
            kind::NEW_ELEMENT | kind::DELETE_ELEMENT => {
                self.note_elements(reply.kind, &attributes, family, sets)
            }
            kind::NEW_TABLE | kind::DELETE_TABLE | kind::NEW_SET | kind::DELETE_SET => {
                self.anything = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note_chain(&mut self, name: Option<Attribute<'_>>) -> Result<(), Malformed> {
        if let Some(name) = name {
            self.chains.insert(name.text()?.into());
        }
        Ok(())
    }

    fn note_elements(
        &mut self,
        kind: u16,
        attributes: &Attributes<'_>,
        family: Family,
        sets: &KnownSets,
    ) -> Result<(), Malformed> {
        let Some(name) = attributes.find(wire::element::SET)? else { return Ok(()) };
        let name = name.text()?;
        // Other sets hold what packets put there, or are a stranger's, which was told when they came.
        let Some((name, of)) = sets.get_key_value(name) else { return Ok(()) };
        for item in attributes.find(wire::element::LIST)?.iter().flat_map(Attribute::nested) {
            match set::read_element(family, *of, &item?.nested())? {
                Some((tuple, data)) => {
                    let key = Key { family, object: Object::Element(name, tuple) };
                    self.elements.push((key, (kind == kind::NEW_ELEMENT).then_some(Value::Element(data))));
                }
                None => self.anything = true,
            }
        }
        Ok(())
    }
}
