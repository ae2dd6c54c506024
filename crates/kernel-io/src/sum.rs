//! Two targets as one, for a mode that needs two vocabularies.

use kernel_state::{Change, Either, Objects, Parts, Sum};

use crate::target::{Drift, ReadError, Target, WriteError};

/// Where the objects of the first vocabulary are, and where those of the second.
#[derive(Debug)]
pub struct SumTarget<First, Then> {
    /// Written first, and removed from last.
    pub first: First,
    /// Written in between.
    pub then: Then,
}

impl<A, B, First, Then> Target<Sum<A, B>> for SumTarget<First, Then>
where
    A: Objects,
    B: Objects,
    First: Target<A>,
    Then: Target<B>,
{
    /// What is enough for either is enough for both.
    const LARGE: usize = if First::LARGE < Then::LARGE { First::LARGE } else { Then::LARGE };

    fn read(
        &mut self,
        found: &mut dyn FnMut(Either<A::Key, B::Key>, Either<A::Value, B::Value>),
    ) -> Result<(), ReadError> {
        self.first.read(&mut |key, value| found(Either::First(key), Either::First(value)))?;
        self.then.read(&mut |key, value| found(Either::Then(key), Either::Then(value)))
    }

    fn write(&mut self, changes: &[Change<Sum<A, B>>]) -> Result<(), WriteError> {
        let parts = Parts::of(changes);
        let (puts, then) = (parts.first_puts.len(), parts.then.len());
        self.first.write(&parts.first_puts)?;
        self.then.write(&parts.then).map_err(|error| error.after(puts))?;
        self.first.write(&parts.first_drops).map_err(|error| error.after(puts + then))
    }

    fn drift(&mut self) -> Drift<Sum<A, B>> {
        let mut objects = Vec::new();
        match self.first.drift() {
            Drift::None => {}
            Drift::Possible => return Drift::Possible,
            Drift::Objects(seen) => objects
                .extend(seen.into_iter().map(|(key, value)| (Either::First(key), value.map(Either::First)))),
        }
        match self.then.drift() {
            Drift::None => {}
            Drift::Possible => return Drift::Possible,
            Drift::Objects(seen) => objects
                .extend(seen.into_iter().map(|(key, value)| (Either::Then(key), value.map(Either::Then)))),
        }
        if objects.is_empty() { Drift::None } else { Drift::Objects(objects) }
    }

    fn bytes_sent(&self) -> u64 {
        self.first.bytes_sent() + self.then.bytes_sent()
    }
}
