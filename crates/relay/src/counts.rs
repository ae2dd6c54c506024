//! What went wrong since the relay started.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only grow. All threads count in them.
#[derive(Debug, Default)]
pub struct Counts {
    pub(crate) refused: Counter,
    pub(crate) silent: Counter,
    pub(crate) passed_over: Counter,
    pub(crate) unserved: Counter,
    pub(crate) shortages: Counter,
}

/// One of them.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counts {
    /// Endpoints that refused a connection, or could not be reached.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Endpoints that did not answer in time.
    pub fn silent(&self) -> u64 {
        self.silent.get()
    }

    /// Endpoints that were not asked, since they had failed shortly before.
    pub fn passed_over(&self) -> u64 {
        self.passed_over.get()
    }

    /// Clients for whom no endpoint was left.
    pub fn unserved(&self) -> u64 {
        self.unserved.get()
    }

    /// Times that accepting had to pause, for descriptors had run out.
    pub fn shortages(&self) -> u64 {
        self.shortages.get()
    }
}
