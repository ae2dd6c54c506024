//! Namespaces that live by files alone: no process is needed to hold them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde::{Deserialize, Serialize};

use super::user::{self, IdRange};
use super::{Namespace, NamespaceError, Namespaces, in_own_thread, unshare};
use crate::netns::{Netns, NetnsError};

/// A directory in which a file stands for each namespace, named as in /proc/PID/ns. A namespace lives as long as
/// its file stands for it, and is joined through that path by whoever may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFiles(PathBuf);

/// Which namespace a file stands for, until the machine starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The device of all namespaces.
    pub device: u64,
    /// Its number.
    pub inode: u64,
}

impl NamespaceFiles {
    /// Those in a directory.
    pub fn at(directory: &Path) -> Self {
        Self(directory.to_path_buf())
    }

    /// The file that stands, or would stand, for a namespace.
    pub fn path(&self, kind: Namespace) -> PathBuf {
        self.0.join(kind.file())
    }

    /// Makes new namespaces. With `ids` they belong to a new user namespace, whose numbers these are.
    pub fn make(&self, kinds: &[Namespace], ids: Option<IdRange>) -> Result<(), NamespaceError> {
        match ids {
            Some(ids) => user::with_new(ids, kinds, |pid| {
                let all = [Namespace::User].iter().chain(kinds);
                all.copied().try_for_each(|kind| self.pin_of_process(kind, pid))
            }),
            None => in_own_thread(|| {
                unshare(kinds)?;
                let own = |kind: Namespace| format!("/proc/thread-self/ns/{}", kind.file());
                kinds.iter().try_for_each(|kind| self.pin(*kind, &own(*kind)))
            })
            .map_err(NamespaceError::Thread)?,
        }
    }

    /// Lets a file stand for a namespace of a process.
    pub fn pin_of_process(&self, kind: Namespace, pid: u32) -> Result<(), NamespaceError> {
        self.pin(kind, &format!("/proc/{pid}/ns/{}", kind.file()))
    }

    /// Which namespace the file of a kind stands for; nothing if it stands for none.
    pub fn identity(&self, kind: Namespace) -> Option<Identity> {
        let file = fs::metadata(self.path(kind)).ok()?;
        let ours = fs::metadata(format!("/proc/self/ns/{}", kind.file())).ok()?;
        (file.dev() == ours.dev()).then_some(Identity { device: file.dev(), inode: file.ino() })
    }

    /// Holds those of these kinds open.
    pub fn open(&self, kinds: &[Namespace]) -> Result<Namespaces, NamespaceError> {
        let open = |kind: &Namespace| {
            let path = self.path(*kind);
            let file = File::open(&path).map_err(|source| NamespaceError::Pin {
                verb: "open",
                kind: *kind,
                path,
                source,
            })?;
            Ok(Namespaces(vec![(*kind, file.into())]))
        };
        kinds.iter().map(open).try_fold(Namespaces::default(), |all, one| Ok(all.and(one?)))
    }

    /// Holds the network namespace open.
    pub fn network(&self) -> Result<Netns, NetnsError> {
        Netns::at(&self.path(Namespace::Net))
    }

    /// Lets a namespace go, and removes its file; what is gone already is no error.
    pub fn release(&self, kind: Namespace) -> Result<(), NamespaceError> {
        let path = self.path(kind);
        let failed = |verb, source: io::Error| NamespaceError::Pin { verb, kind, path: path.clone(), source };
        loop {
            match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOENT) => break,
                Err(errno) => return Err(failed("release", errno.into())),
            }
        }
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", source)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn pin(&self, kind: Namespace, namespace: &str) -> Result<(), NamespaceError> {
        let path = self.path(kind);
        let pinned = File::create(&path).and_then(|_| Ok(mount_bind(namespace, &path)?));
        pinned.map_err(|source| NamespaceError::Pin { verb: "pin", kind, path, source })
    }
}
