//! Listeners as rules see them: names in the state, addresses and ports in the kernel.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernel_state::listeners::{Key, Transport};
use kernel_state::xtables::{self, Part, Rules, rule_set, with_names, with_numbers};
use kernel_state::{Change, Objects};

use crate::target::{Applied, Drift, ReadError, Refused, Target, WriteError};

/// Which listener listens where. Clones are the same book: who opens listeners writes in it, who writes rules reads.
#[derive(Clone, Debug, Default)]
pub struct AddressBook(Arc<Mutex<BTreeMap<Key, SocketAddr>>>);

/// A target of rules that may name listeners.
#[derive(Debug)]
pub struct WithListeners<T> {
    rules: T,
    book: AddressBook,
}

/// A rule names a listener that is not open.
#[derive(Debug, thiserror::Error)]
#[error("no listener {0} is open")]
pub struct NotOpen(Key);

impl AddressBook {
    /// Writes down where a listener listens.
    pub fn open(&self, key: Key, at: SocketAddr) {
        self.lock().insert(key, at);
    }

    /// Strikes a listener out.
    pub fn close(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// Where a listener listens.
    pub fn address(&self, key: &Key) -> Option<SocketAddr> {
        self.lock().get(key).copied()
    }

    /// All listeners by what they take and where.
    fn by_address(&self) -> BTreeMap<(Transport, SocketAddr), Key> {
        self.lock().iter().map(|(key, at)| ((key.transport, *at), key.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> WithListeners<T> {
    /// Rules, and the book of those that they may name.
    pub fn new(rules: T, book: AddressBook) -> Self {
        Self { rules, book }
    }
}

impl<T: Target<xtables::Xtables>> Target<xtables::Xtables> for WithListeners<T> {
    fn read(&mut self, found: &mut dyn FnMut(xtables::Key, Rules)) -> Result<(), ReadError> {
        let listeners = self.book.by_address();
        let of = |transport, at| listeners.get(&(transport, at)).cloned();
        self.rules.read(&mut |key, rules| {
            let named = with_names(&rules, &of);
            // Names are sorted otherwise than numbers are.
            let is_set = matches!(key.part, Part::Of(..));
            found(key, if is_set { rule_set(named.to_vec()) } else { named });
        })
    }

    fn write(&mut self, changes: &[Change<xtables::Xtables>]) -> Result<(), WriteError> {
        let numbered: Vec<_> = changes
            .iter()
            .enumerate()
            .map(|(index, change)| {
                numbered(change, &self.book).map_err(|source| not_open(index, change, source))
            })
            .collect::<Result<_, _>>()?;
        self.rules.write(&numbered)
    }

    fn drift(&mut self) -> Drift<xtables::Xtables> {
        match self.rules.drift() {
            Drift::None => Drift::None,
            // What is seen has numbers; a reading gives them names.
            Drift::Possible | Drift::Objects(_) => Drift::Possible,
        }
    }

    fn bytes_sent(&self) -> u64 {
        self.rules.bytes_sent()
    }
}

fn numbered(
    change: &Change<xtables::Xtables>,
    book: &AddressBook,
) -> Result<Change<xtables::Xtables>, NotOpen> {
    let numbers = |rules: &Rules| with_numbers(rules, &|key| book.address(key)).map_err(NotOpen);
    Ok(match change {
        Change::Put { key, value, replaced } => Change::Put {
            key: key.clone(),
            value: numbers(value)?,
            replaced: replaced.as_ref().map(numbers).transpose()?,
        },
        Change::Drop { key, value } => Change::Drop { key: key.clone(), value: numbers(value)? },
    })
}

fn not_open(index: usize, change: &Change<xtables::Xtables>, source: NotOpen) -> WriteError {
    let mut text = String::new();
    xtables::Xtables::print_changes(std::slice::from_ref(change), &mut text)
        .expect("writing to a String cannot fail");
    let refused = Some(Refused { index, text });
    WriteError { applied: Applied::Nothing, refused, source: source.into() }
}
