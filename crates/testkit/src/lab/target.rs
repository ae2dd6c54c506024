//! The real target, in the node's namespace.

use kernel_io::netns::Netns;
use kernel_io::{Drift, ReadError, Target, WriteError};
use kernel_state::{Change, Objects, State};

use super::LabError;

/// It enters the namespace for each call.
pub(super) struct TargetInside<T> {
    netns: Netns,
    target: T,
}

impl<T> TargetInside<T> {
    pub(super) fn new(netns: &Netns, target: T) -> Self {
        Self { netns: netns.clone(), target }
    }

    /// All that is ours there.
    pub(super) fn found<O: Objects>(&mut self) -> Result<State<O>, LabError>
    where
        Self: Target<O>,
    {
        let mut state = State::new();
        self.read(&mut |key, value| state.put(key, value))?;
        Ok(state)
    }
}

impl<O, T> Target<O> for TargetInside<T>
where
    O: Objects,
    T: Target<O> + Send,
{
    fn read(&mut self, found: &mut dyn FnMut(O::Key, O::Value)) -> Result<(), ReadError> {
        let mut objects = Vec::new();
        let target = &mut self.target;
        let read = || target.read(&mut |key, value| objects.push((key, value)));
        self.netns.run(read).map_err(|source| ReadError { source: source.into() })??;
        for (key, value) in objects {
            found(key, value);
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change<O>]) -> Result<(), WriteError> {
        let target = &mut self.target;
        let write = || target.write(changes);
        self.netns.run(write).map_err(|source| WriteError {
            applied: kernel_io::Applied::Nothing,
            refused: None,
            source: source.into(),
        })?
    }

    fn drift(&mut self) -> Drift<O> {
        self.target.drift()
    }
}
