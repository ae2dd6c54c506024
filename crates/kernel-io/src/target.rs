//! A place that holds kernel objects of one vocabulary.

use std::error::Error;

use kernel_state::{Change, Objects};
use thiserror::Error;

/// The kernel, or what stands for it in a test: all objects of one vocabulary and family that are ours.
pub trait Target<O: Objects> {
    /// So many changes are enough for one write, where more than one does no harm.
    const LARGE: usize = usize::MAX;

    /// Reads all that is ours, also what an earlier process left.
    fn read(&mut self, found: &mut dyn FnMut(O::Key, O::Value)) -> Result<(), ReadError>;

    /// Writes changes, in as few transactions as the kernel allows.
    fn write(&mut self, changes: &[Change<O>]) -> Result<(), WriteError>;

    /// Writes parts one after another, each as [`Target::write`] does it, until one fails, and tells of each that was
    /// written. The next part may be made while one is written.
    fn write_parts(
        &mut self,
        parts: &mut (dyn ExactSizeIterator<Item = Vec<Change<O>>> + Send),
        written: &mut dyn FnMut(&[Change<O>]),
    ) -> Result<(), Unwritten<O>> {
        for changes in parts {
            if let Err(error) = self.write(&changes) {
                return Err(Unwritten { changes, error });
            }
            written(&changes);
        }
        Ok(())
    }

    /// What a stranger may have done to what is ours since we last read or wrote it. It costs next to nothing.
    fn drift(&mut self) -> Drift<O>;

    /// How many bytes it was given so far, where that is counted.
    fn bytes_sent(&self) -> u64 {
        0
    }
}

/// What a stranger may have done.
pub enum Drift<O: Objects> {
    /// Nothing.
    None,
    /// Something; a reading will show whether it was ours.
    Possible,
    /// These objects of ours are now so, or gone.
    Objects(Vec<(O::Key, Option<O::Value>)>),
}

/// A part that was not written, or not all of it.
pub struct Unwritten<O: Objects> {
    /// The part.
    pub changes: Vec<Change<O>>,
    /// Why not.
    pub error: WriteError,
}

/// What is there could not be read.
#[derive(Debug, Error)]
#[error("cannot read what the kernel has: {source}")]
pub struct ReadError {
    /// Why not.
    pub source: Box<dyn Error + Send + Sync>,
}

/// Changes could not be written, or not all of them.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}", subject(self.refused.as_ref()))]
pub struct WriteError {
    /// How far the write came.
    pub applied: Applied,
    /// Which change was refused, where that is known.
    pub refused: Option<Refused>,
    /// Why.
    pub source: Box<dyn Error + Send + Sync>,
}

/// A change that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its place among the changes that were to be written.
    pub index: usize,
    /// Its text, in the tool's syntax.
    pub text: String,
}

/// How many changes of a failed write took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// None.
    Nothing,
    /// So many, from the first on.
    First(usize),
    /// Nobody knows; it must be read again.
    Unknown,
}

impl WriteError {
    /// The same error, of changes that stand behind so many that were written.
    #[must_use]
    pub fn after(mut self, written: usize) -> Self {
        self.applied = match self.applied {
            Applied::Nothing if written == 0 => Applied::Nothing,
            Applied::Nothing => Applied::First(written),
            Applied::First(count) => Applied::First(written + count),
            Applied::Unknown => Applied::Unknown,
        };
        if let Some(refused) = &mut self.refused {
            refused.index += written;
        }
        self
    }
}

fn subject(refused: Option<&Refused>) -> &str {
    refused.map_or("the changes", |refused| refused.text.as_str())
}
