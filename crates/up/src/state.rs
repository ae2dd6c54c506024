//! What is kept under the root between one `up` and the next, and who may change it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::UpError;
use crate::allocation::Held;

/// What is kept between one `up` and the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The directory that is up.
    pub(crate) directory: PathBuf,
    /// What its Services were given.
    pub(crate) held: Held,
    /// Settings of the kernel as they were before.
    pub(crate) sysctls: BTreeMap<String, String>,
}

/// The place of all that under a root.
#[derive(Clone, Debug)]
pub(crate) struct Place(PathBuf);

/// Held while a process keeps a root in step with a directory.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "its life is the lock")] File);

impl Place {
    pub(crate) fn of(root: &Path) -> Self {
        Self(root.join("up"))
    }

    fn kept(&self) -> PathBuf {
        self.0.join("kept.json")
    }

    /// What a running `up` shows of itself.
    pub(crate) fn shown(&self) -> PathBuf {
        self.0.join("shown.json")
    }

    /// What `up` in the background has to say.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Takes the lock; or tells the process that has it.
    pub(crate) fn lock(&self) -> Result<Result<Lock, u32>, UpError> {
        fs::create_dir_all(&self.0).map_err(failed("make", &self.0))?;
        let path = self.lock_file();
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(failed("open", &path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Err(self.holder().unwrap_or(0)));
        }
        let told = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        told.map_err(failed("write", &path))?;
        Ok(Ok(Lock(file)))
    }

    /// The process that holds the lock, if one does.
    pub(crate) fn holder(&self) -> Option<u32> {
        let file = File::open(self.lock_file()).ok()?;
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return None;
        }
        fs::read_to_string(self.lock_file()).ok()?.trim().parse().ok()
    }

    /// What was kept, if anything was.
    pub(crate) fn read(&self) -> Result<Option<Kept>, UpError> {
        read(&self.kept())
    }

    pub(crate) fn write(&self, kept: &Kept) -> Result<(), UpError> {
        write(&self.kept(), kept)
    }

    /// Removes all of it.
    pub(crate) fn remove(&self) -> Result<(), UpError> {
        match fs::remove_dir_all(&self.0) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", &self.0)(source)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Reads what [`write`] wrote; nothing if it never did.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, UpError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| failed("read", path)(error.into()))
}

/// Writes so that a reader sees the old or the new, never a part.
pub(crate) fn write(path: &Path, content: &impl Serialize) -> Result<(), UpError> {
    let beside = path.with_extension("new");
    let text = serde_json::to_vec_pretty(content).map_err(|error| failed("write", path)(error.into()))?;
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    written.map_err(failed("write", path))
}

pub(crate) fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UpError {
    let path = path.to_path_buf();
    move |source| UpError::File { verb, path, source }
}
