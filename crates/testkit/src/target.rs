//! Targets that hold their objects in memory, and one of them that fails.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};

use kernel_io::{Applied, Drift, ReadError, Refused, Target, WriteError};
use kernel_state::{Change, Objects, State};

/// A kernel in memory. Clones are the same kernel, so that a test can look into what a reconciler owns.
pub struct FakeTarget<O: Objects>(Arc<Mutex<Memory<O>>>);

struct Memory<O: Objects> {
    state: State<O>,
    writes: Vec<Vec<Change<O>>>,
    meddled: bool,
}

/// A kernel in memory that fails as a function says.
pub struct FaultyTarget<O: Objects, F> {
    kernel: FakeTarget<O>,
    faults: F,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This change is refused by name, and nothing of the same write takes effect.
    Refused,
    /// The write ends before this change; what came before it took effect, and the error says so.
    Halfway,
    /// The write ends before this change, and the error does not say how far it came.
    Lost,
}

/// Chance that can be repeated: the same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl<O: Objects> FakeTarget<O> {
    /// Holds nothing.
    pub fn new() -> Self {
        Self::holding(State::new())
    }

    /// Holds what somebody left there.
    pub fn holding(state: State<O>) -> Self {
        Self(Arc::new(Mutex::new(Memory { state, writes: Vec::new(), meddled: false })))
    }

    /// What it holds.
    pub fn state(&self) -> State<O> {
        self.memory().state.clone()
    }

    /// The writes since this was last asked, each with its changes in order.
    pub fn take_writes(&self) -> Vec<Vec<Change<O>>> {
        std::mem::take(&mut self.memory().writes)
    }

    /// Puts an object there behind everybody's back.
    pub fn meddle(&self, change: &Change<O>) {
        let mut memory = self.memory();
        memory.state.apply(change);
        memory.meddled = true;
    }

    fn memory(&self) -> MutexGuard<'_, Memory<O>> {
        // A test that panicked while it looked has failed already.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn apply(&self, changes: &[Change<O>]) {
        let mut memory = self.memory();
        for change in changes {
            memory.state.apply(change);
        }
        memory.writes.push(changes.to_vec());
    }
}

impl<O: Objects> Target<O> for FakeTarget<O> {
    fn read(&mut self, found: &mut dyn FnMut(O::Key, O::Value)) -> Result<(), ReadError> {
        for (key, value) in self.state() {
            found(key, value);
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change<O>]) -> Result<(), WriteError> {
        self.apply(changes);
        Ok(())
    }

    fn drift(&mut self) -> Drift<O> {
        if std::mem::take(&mut self.memory().meddled) { Drift::Possible } else { Drift::None }
    }
}

impl<O: Objects, F: FnMut(&Change<O>) -> Option<Fault>> FaultyTarget<O, F> {
    /// Asks `faults` about each change before it is made.
    pub fn new(kernel: FakeTarget<O>, faults: F) -> Self {
        Self { kernel, faults }
    }
}

impl<O: Objects, F: FnMut(&Change<O>) -> Option<Fault>> Target<O> for FaultyTarget<O, F> {
    fn read(&mut self, found: &mut dyn FnMut(O::Key, O::Value)) -> Result<(), ReadError> {
        self.kernel.read(found)
    }

    fn write(&mut self, changes: &[Change<O>]) -> Result<(), WriteError> {
        let fault = changes
            .iter()
            .enumerate()
            .find_map(|(index, change)| (self.faults)(change).map(|fault| (index, fault)));
        let Some((index, fault)) = fault else { return self.kernel.write(changes) };
        let (applied, refused) = match fault {
            Fault::Refused => {
                let text = format!("{:?}", changes[index]);
                (Applied::Nothing, Some(Refused { index, text }))
            }
            Fault::Halfway => (Applied::First(index), None),
            Fault::Lost => (Applied::Unknown, None),
        };
        if fault != Fault::Refused {
            self.kernel.apply(&changes[..index]);
        }
        let source = Box::<dyn Error + Send + Sync>::from("a fault that the test asked for");
        Err(WriteError { applied, refused, source })
    }

    fn drift(&mut self) -> Drift<O> {
        self.kernel.drift()
    }
}

impl Dice {
    /// A die for a seed.
    pub fn new(seed: u64) -> Self {
        // The generator stands still at 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below a limit that is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        // xorshift64 (Marsaglia, 2003)
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }

    /// One fault in so many changes, of any kind.
    pub fn fault_in(&mut self, number: u64) -> Option<Fault> {
        let hit = self.below(number) == 0;
        let kinds = [Fault::Refused, Fault::Halfway, Fault::Lost];
        let kind = usize::try_from(self.below(3)).unwrap_or_default();
        hit.then(|| kinds[kind])
    }
}

impl<O: Objects> Clone for FakeTarget<O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<O: Objects> Default for FakeTarget<O> {
    fn default() -> Self {
        Self::new()
    }
}
