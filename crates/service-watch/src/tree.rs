//! The manifest files below a directory, and how to tell that one is another than before.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tracing::debug;

use crate::store::FileName;
use manifest_documents::Syntax;

/// The version of a file. An equal stamp means the same content, if the file was not written while it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What is below a directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The manifest files.
    pub(crate) files: BTreeMap<FileName, Stamp>,
    /// The directories that could not be read, and why; what is in them is not known.
    pub(crate) unreadable: Vec<(PathBuf, io::Error)>,
}

impl Stamp {
    /// The version that a file's metadata speak of.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the last change is so long ago; not if it lies in the future.
    pub(crate) fn is_older_than(&self, age: Duration) -> bool {
        let seconds = u64::try_from(self.changed.0).unwrap_or_default();
        let nanoseconds = u32::try_from(self.changed.1).unwrap_or_default();
        let changed = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        changed.elapsed().is_ok_and(|elapsed| elapsed > age)
    }
}

/// Whether a name is that of an editor's or a mount's own file, which is never read.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".") || name.as_bytes().ends_with(b"~")
}

/// Lists the manifest files below a directory, links followed. What changes are to be noticed in is shown to
/// `notice` before it is looked at: directories, and files that are reached by a link.
pub(crate) fn list(root: &Path, notice: &mut dyn FnMut(&Path)) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut seen = BTreeSet::new();
    list_directory(root, &mut seen, notice, &mut listing)?;
    Ok(listing)
}

/// A directory that is reached twice, by links, is listed once, so that links in a circle end.
fn list_directory(
    directory: &Path,
    seen: &mut BTreeSet<(u64, u64)>,
    notice: &mut dyn FnMut(&Path),
    listing: &mut Listing,
) -> io::Result<()> {
    let metadata = fs::metadata(directory)?;
    if !seen.insert((metadata.dev(), metadata.ino())) {
        return Ok(());
    }
    notice(directory);
    let mut names = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    for name in names.iter().filter(|name| !is_hidden(name)) {
        let path = directory.join(name);
        match list_entry(&path, seen, notice, listing) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => debug!(?path, "gone before it was read"),
            Err(error) => listing.unreadable.push((path, error)),
        }
    }
    Ok(())
}

fn list_entry(
    path: &Path,
    seen: &mut BTreeSet<(u64, u64)>,
    notice: &mut dyn FnMut(&Path),
    listing: &mut Listing,
) -> io::Result<()> {
    let mut metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        metadata = fs::metadata(path)?;
        if metadata.is_file() && Syntax::of(path.as_os_str().as_bytes()).is_some() {
            notice(path);
            metadata = fs::metadata(path)?;
        }
    }
    if metadata.is_dir() {
        list_directory(path, seen, notice, listing)?;
    } else if metadata.is_file() && Syntax::of(path.as_os_str().as_bytes()).is_some() {
        listing.files.insert(Arc::from(path.as_os_str()), Stamp::of(&metadata));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
