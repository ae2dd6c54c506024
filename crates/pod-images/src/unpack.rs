//! A layer's tar file becomes a directory that overlayfs can lay over others.
//!
//! Nothing in the tar file can reach out of the directory: paths are walked here, component by component from one
//! open directory to the next, and the kernel never follows a symbolic link of theirs. Links are followed inside
//! of the layer, as in a container, and through the layers below.

#[cfg(test)]
mod tests;
mod tree;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;
use thiserror::Error;

use crate::entries::{Entries, Entry, Kind, TarError};
use tree::{Found, Tree};

/// What a layer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all its layers' tar files together, decompressed.
    pub bytes: u64,
    /// Entries of a layer.
    pub entries: u64,
}

/// Far above any image that was ever useful.
impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 32 << 30, entries: 2_000_000 }
    }
}

/// Why a layer was not unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// The tar file itself is broken.
    #[error("cannot be read")]
    Tar(#[from] TarError),
    /// A path that leads out of the layer, by its own words.
    #[error("the entry {} leads out of the layer", path.display())]
    Escapes {
        /// As it is written.
        path: PathBuf,
    },
    /// A hard link to something that is not there.
    #[error("the entry {} is a hard link to {}, which the layer does not hold", path.display(), target.display())]
    LinkTarget {
        /// As it is written.
        path: PathBuf,
        /// As it is written.
        target: PathBuf,
    },
    /// A path that goes on below a file.
    #[error("the entry {} lies below something that is no directory", path.display())]
    NotADirectory {
        /// As it is written.
        path: PathBuf,
    },
    /// A path through too many symbolic links or directories.
    #[error("the entry {} lies too deep or behind too many symbolic links", path.display())]
    TooDeep {
        /// As it is written.
        path: PathBuf,
    },
    /// Of a kind that layers do not have, such as a sparse file.
    #[error("the entry {} is of kind {kind:?}, which no layer has", path.display())]
    Kind {
        /// As it is written.
        path: PathBuf,
        /// In the words of tar.
        kind: char,
    },
    /// More entries than a layer may have.
    #[error("has more than {limit} entries")]
    TooManyEntries {
        /// How many are allowed.
        limit: u64,
    },
    /// More bytes than an image may have.
    #[error("takes the image above {limit} bytes when decompressed")]
    TooLarge {
        /// How many are allowed.
        limit: u64,
    },
    /// The file system refused something.
    #[error("cannot {verb} {}", path.display())]
    Write {
        /// What was tried.
        verb: &'static str,
        /// Where in the layer.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The longest path, as the kernel has it.
const PATH_LIMIT: usize = 4096;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks a tar file into an empty directory; `below` are the layers that it will lie over, the topmost first, and
/// `taken` the bytes that they took.
pub(crate) fn unpack(
    tar: impl Read,
    directory: OwnedFd,
    below: Vec<OwnedFd>,
    limits: Limits,
    taken: u64,
) -> Result<(), UnpackError> {
    let mut entries = Entries::new(Limited { source: tar, left: limits.bytes.saturating_sub(taken) });
    let mut unpacking = Unpacking { tree: Tree::new(directory, below), times: Vec::new() };
    let mut count = 0;
    let told = |error| limits.told(error);
    while let Some(entry) = entries.next().map_err(|error| told(error.into()))? {
        count += 1;
        if count > limits.entries {
            return Err(UnpackError::TooManyEntries { limit: limits.entries });
        }
        unpacking.add(&entry, &mut entries).map_err(told)?;
    }
    entries.drain().map_err(|error| told(TarError::Read(error).into()))?;
    unpacking.set_times()
}

struct Unpacking {
    tree: Tree,
    /// Of directories, set when nothing is put into them any more.
    times: Vec<(Vec<Vec<u8>>, i64)>,
}

impl Unpacking {
    fn add(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), UnpackError> {
        let mut components = components(&entry.path).ok_or_else(|| escapes(&entry.path))?;
        let Some(name) = components.pop() else { return self.add_root(entry) };
        if name == OPAQUE {
            let parent = self.tree.directory(entry, &components)?;
            return tree::make_opaque(&parent.fd).map_err(|errno| refused("make opaque", entry, errno));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            // What else begins so is the bookkeeping of aufs.
            return if hidden.starts_with(WHITEOUT) { Ok(()) } else { self.hide(entry, &components, hidden) };
        }
        match entry.kind {
            Kind::Directory => self.add_directory(entry, components, name),
            Kind::File => self.add_file(entry, &components, &name, content),
            Kind::Symlink => self.add_symlink(entry, &components, &name),
            Kind::HardLink => self.add_hard_link(entry, &components, &name),
            Kind::Fifo => self.add_fifo(entry, &components, &name),
            // A container gets its devices from its runtime; and 0/0 would be a whiteout.
            Kind::Device => {
                tracing::debug!(path = %path_of(&entry.path).display(), "a device of a layer is left out");
                Ok(())
            }
            Kind::Other(kind) => Err(UnpackError::Kind { path: path_of(&entry.path), kind }),
        }
    }

    /// The directory of the layer itself.
    fn add_root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Directory {
            return Err(escapes(&entry.path));
        }
        let root = self.tree.directory(entry, &[])?;
        self.times.push((Vec::new(), entry.modified));
        attributes(&root.fd, entry)
    }

    fn add_directory(
        &mut self,
        entry: &Entry,
        components: Vec<Vec<u8>>,
        name: Vec<u8>,
    ) -> Result<(), UnpackError> {
        let parent = self.tree.directory(entry, &components)?;
        let cannot = |errno| refused("make the directory", entry, errno);
        let found = tree::found(&parent.fd, &name).map_err(cannot)?;
        if !matches!(found, Found::Directory) {
            self.tree.remove(&parent.fd, &name).map_err(cannot)?;
            mkdirat(&parent.fd, &*name, Mode::RWXU).map_err(cannot)?;
        }
        let directory = tree::open_directory(&parent.fd, &name).map_err(cannot)?;
        if !matches!(found, Found::Directory | Found::Nothing) {
            // What was here hid what is below, and so must this.
            tree::make_opaque(&directory).map_err(cannot)?;
        }
        let mut path = components;
        path.clone_from(&parent.path);
        path.push(name);
        self.times.push((path, entry.modified));
        attributes(&directory, entry)
    }

    fn add_file(
        &mut self,
        entry: &Entry,
        components: &[Vec<u8>],
        name: &[u8],
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let parent = self.tree.directory(entry, components)?;
        let cannot = |errno| refused("make the file", entry, errno);
        self.tree.remove(&parent.fd, name).map_err(cannot)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&parent.fd, name, flags, Mode::RUSR | Mode::WUSR).map_err(cannot)?;
        let mut file = File::from(file);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = content.read(&mut buffer).map_err(TarError::Read)?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(|source| UnpackError::Write {
                verb: "write",
                path: path_of(&entry.path),
                source,
            })?;
        }
        let file = OwnedFd::from(file);
        attributes(&file, entry)?;
        futimens(&file, &times(entry.modified)).map_err(|errno| refused("set the time of", entry, errno))
    }

    fn add_symlink(&mut self, entry: &Entry, components: &[Vec<u8>], name: &[u8]) -> Result<(), UnpackError> {
        let parent = self.tree.directory(entry, components)?;
        let cannot = |errno| refused("make the symbolic link", entry, errno);
        self.tree.remove(&parent.fd, name).map_err(cannot)?;
        symlinkat(&*entry.link, &parent.fd, name).map_err(cannot)?;
        own(entry, &parent.fd, name)
    }

    fn add_hard_link(
        &mut self,
        entry: &Entry,
        components: &[Vec<u8>],
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let cannot = |errno| refused("make the hard link", entry, errno);
        let missing = || UnpackError::LinkTarget { path: path_of(&entry.path), target: path_of(&entry.link) };
        let mut target = self::components(&entry.link).ok_or_else(|| escapes(&entry.link))?;
        let target_name = target.pop().ok_or_else(missing)?;
        let target = self.tree.existing(entry, &target)?.ok_or_else(missing)?;
        let found = tree::found(&target.fd, &target_name).map_err(cannot)?;
        if !matches!(found, Found::Symlink | Found::Other) {
            return Err(missing());
        }
        let parent = self.tree.directory(entry, components)?;
        self.tree.remove(&parent.fd, name).map_err(cannot)?;
        match linkat(&target.fd, &*target_name, &parent.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Err(missing()),
            linked => linked.map_err(cannot),
        }
    }

    fn add_fifo(&mut self, entry: &Entry, components: &[Vec<u8>], name: &[u8]) -> Result<(), UnpackError> {
        let parent = self.tree.directory(entry, components)?;
        let cannot = |errno| refused("make the pipe", entry, errno);
        self.tree.remove(&parent.fd, name).map_err(cannot)?;
        mknodat(&parent.fd, name, FileType::Fifo, Mode::RUSR, 0).map_err(cannot)?;
        own(entry, &parent.fd, name)?;
        chmodat(&parent.fd, name, mode(entry), AtFlags::empty()).map_err(cannot)
    }

    /// Hides what the layers below have under a name, if they have it: overlayfs shows a whiteout that hides nothing.
    fn hide(&mut self, entry: &Entry, components: &[Vec<u8>], name: &[u8]) -> Result<(), UnpackError> {
        if matches!(name, b"" | b"." | b"..") {
            return Err(escapes(&entry.path));
        }
        let parent = self.tree.directory(entry, components)?;
        let cannot = |errno| refused("hide", entry, errno);
        match tree::found(&parent.fd, name).map_err(cannot)? {
            Found::Directory => {
                let directory = tree::open_directory(&parent.fd, name).map_err(cannot)?;
                tree::make_opaque(&directory).map_err(cannot)
            }
            Found::Nothing if self.tree.is_below(&parent.path, name).map_err(cannot)? => {
                mknodat(&parent.fd, name, FileType::CharacterDevice, Mode::empty(), 0).map_err(cannot)
            }
            Found::Nothing | Found::Whiteout | Found::Symlink | Found::Other => Ok(()),
        }
    }

    fn set_times(self) -> Result<(), UnpackError> {
        for (path, modified) in self.times.into_iter().rev() {
            // It may have been replaced by something else since.
            let Ok(directory) = self.tree.opened(&path) else { continue };
            futimens(&directory, &times(modified)).map_err(|errno| UnpackError::Write {
                verb: "set the time of",
                path: path_of(&path.join(&b'/')),
                source: errno.into(),
            })?;
        }
        Ok(())
    }
}

/// Owner and time of what cannot be opened.
fn own(entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), UnpackError> {
    let (user, group) = owner(entry)?;
    chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .and_then(|()| utimensat(parent, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW))
        .map_err(|errno| refused("set owner and time of", entry, errno))
}

/// Owner, permissions and extended attributes; in this order, since a new owner takes permissions away.
fn attributes(fd: &OwnedFd, entry: &Entry) -> Result<(), UnpackError> {
    let (user, group) = owner(entry)?;
    fchown(fd, Some(user), Some(group)).map_err(|errno| refused("set the owner of", entry, errno))?;
    fchmod(fd, mode(entry)).map_err(|errno| refused("set the mode of", entry, errno))?;
    for (name, value) in &entry.attributes {
        let is_users = name.starts_with("user.") && !name.starts_with("user.overlay.");
        // The others are the host's business, and those of overlayfs would lead anywhere.
        if !is_users && name != "security.capability" {
            continue;
        }
        match fsetxattr(fd, name.as_str(), value, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) if is_users => {}
            set => set.map_err(|errno| refused("set an extended attribute of", entry, errno))?,
        }
    }
    Ok(())
}

fn owner(entry: &Entry) -> Result<(Uid, Gid), UnpackError> {
    let number = |number: u64| {
        // The highest number means "leave it" to the kernel.
        u32::try_from(number).ok().filter(|number| *number != u32::MAX)
    };
    match (number(entry.owner.0), number(entry.owner.1)) {
        (Some(user), Some(group)) => Ok((Uid::from_raw(user), Gid::from_raw(group))),
        _ => Err(refused("set the owner of", entry, Errno::INVAL)),
    }
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o7777)
}

fn times(modified: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified, tv_nsec: 0 },
    }
}

/// A path from the layer's root; none if it goes up, or could not be a path at all.
fn components(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    if path.len() > PATH_LIMIT || path.contains(&0) {
        return None;
    }
    let components = path.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b"."));
    components.map(|component| (component != b"..").then(|| component.to_vec())).collect()
}

fn escapes(path: &[u8]) -> UnpackError {
    UnpackError::Escapes { path: path_of(path) }
}

fn refused(verb: &'static str, entry: &Entry, errno: Errno) -> UnpackError {
    UnpackError::Write { verb, path: path_of(&entry.path), source: errno.into() }
}

/// A path for a person: no longer than one wants to read.
fn path_of(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&path[..path.len().min(PATH_LIMIT)]))
}

/// A stream that must not go on for ever.
struct Limited<R> {
    source: R,
    left: u64,
}

/// The stream went on beyond its limit.
#[derive(Debug, Error)]
#[error("more bytes than allowed")]
struct BeyondLimit;

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(BeyondLimit)),
        }
        Ok(count)
    }
}

impl Limits {
    /// An error in words of the limit that it comes from.
    fn told(self, error: UnpackError) -> UnpackError {
        let is_beyond = |source: &io::Error| {
            source.get_ref().and_then(|inner| inner.downcast_ref::<BeyondLimit>()).is_some()
        };
        if let UnpackError::Tar(TarError::Read(source)) = &error
            && is_beyond(source)
        {
            return UnpackError::TooLarge { limit: self.bytes };
        }
        error
    }
}
