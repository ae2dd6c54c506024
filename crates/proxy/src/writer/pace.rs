//! How long a writer waits between two writes, which may change while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// In whole microseconds.
#[derive(Debug)]
pub(crate) struct Pace(AtomicU64);

impl Pace {
    pub(crate) fn of(pace: Duration) -> Self {
        Self(AtomicU64::new(microseconds(pace)))
    }

    pub(crate) fn set(&self, pace: Duration) {
        self.0.store(microseconds(pace), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

fn microseconds(pace: Duration) -> u64 {
    u64::try_from(pace.as_micros()).unwrap_or(u64::MAX)
}
