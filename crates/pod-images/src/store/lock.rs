//! Locks on files, which end with the process that holds them.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::error::Problem;

/// Held until it is dropped.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn alone(path: &Path) -> Result<Self, Problem> {
        Self::take(path, FlockOperation::LockExclusive).map(|(file, _)| Self { _file: file })
    }

    pub(super) fn shared(path: &Path) -> Result<Self, Problem> {
        Self::take(path, FlockOperation::LockShared).map(|(file, _)| Self { _file: file })
    }

    /// None if somebody else holds it.
    pub(super) fn alone_if_free(path: &Path) -> Result<Option<Self>, Problem> {
        let (file, taken) = Self::take(path, FlockOperation::NonBlockingLockExclusive)?;
        Ok((taken == Taken::Yes).then_some(Self { _file: file }))
    }

    fn take(path: &Path, operation: FlockOperation) -> Result<(File, Taken), Problem> {
        let file = File::create(path).map_err(Problem::file("open the lock", path))?;
        match retry_on_intr(|| flock(&file, operation)) {
            Ok(()) => Ok((file, Taken::Yes)),
            Err(Errno::WOULDBLOCK) => Ok((file, Taken::No)),
            Err(errno) => Err(Problem::file("take the lock", path)(errno.into())),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}
