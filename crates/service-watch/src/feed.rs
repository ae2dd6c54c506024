//! Whoever is a source himself: what he sends is what is known.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Batch;

/// The end of a channel from which batches are taken. Clones take from the same.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Mutex<Receiver<Batch>>>);

impl Feed {
    /// Both ends.
    pub fn new() -> (Sender<Batch>, Self) {
        let (sender, batches) = mpsc::channel();
        (sender, Self(Arc::new(Mutex::new(batches))))
    }

    /// The next batch; none when nobody sends any more.
    pub fn next(&self) -> Option<Batch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}
