//! The directory that a layer is unpacked into, walked without the kernel's help.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, XattrFlags, fchmod, fchown, fgetxattr, fsetxattr, fstat,
    mkdirat, openat, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::{UnpackError, path_of, refused};
use crate::entries::Entry;

/// How deep directories lie, and how many links a path passes; both far above what is used.
const DEPTH_LIMIT: usize = 200;
const LINK_LIMIT: usize = 40;

/// By this overlayfs knows that a directory hides those below it.
const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";

pub(super) struct Tree {
    root: Rc<Place>,
    /// The same directory in the layers below, the topmost first.
    below: Vec<OwnedFd>,
    /// The directory of the last entry, since the next one is most often in it too.
    last: Option<(Vec<Vec<u8>>, Rc<Place>)>,
}

/// A directory of the layer.
pub(super) struct Place {
    pub(super) fd: OwnedFd,
    /// Without a symbolic link in it.
    pub(super) path: Vec<Vec<u8>>,
}

/// What the layer itself has under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Directory,
    Symlink,
    Whiteout,
    Other,
}

/// What the layers below have under a name.
enum Below {
    Nothing,
    Directory(Vec<OwnedFd>),
    Symlink(Vec<u8>),
    Other,
}

/// What is done about a directory that is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Answer,
}

impl Tree {
    pub(super) fn new(root: OwnedFd, below: Vec<OwnedFd>) -> Self {
        Self { root: Rc::new(Place { fd: root, path: Vec::new() }), below, last: None }
    }

    /// The directory at a path, made if it is missing, with the attributes that it has below.
    pub(super) fn directory(&mut self, entry: &Entry, path: &[Vec<u8>]) -> Result<Rc<Place>, UnpackError> {
        if let Some((last, place)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(place));
        }
        let place = self.walk(entry, path, Missing::Make)?.unwrap_or_else(|| Rc::clone(&self.root));
        self.last = Some((path.to_vec(), Rc::clone(&place)));
        Ok(place)
    }

    /// The directory at a path, if the layer itself has it.
    pub(super) fn existing(&self, entry: &Entry, path: &[Vec<u8>]) -> Result<Option<Rc<Place>>, UnpackError> {
        self.walk(entry, path, Missing::Answer)
    }

    /// The directory at a path without links.
    pub(super) fn opened(&self, path: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
        let mut directory = open_directory(&self.root.fd, b".")?;
        for name in path {
            directory = open_directory(&directory, name)?;
        }
        Ok(directory)
    }

    /// Whether the layers below have something under a name.
    pub(super) fn is_below(&self, path: &[Vec<u8>], name: &[u8]) -> Result<bool, Errno> {
        Ok(!matches!(self.below(path, name)?, Below::Nothing))
    }

    /// Takes away what the layer has under a name, with all that is in it.
    pub(super) fn remove(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        match found(parent, name)? {
            Found::Nothing => return Ok(()),
            Found::Directory => remove_directory(parent, name)?,
            Found::Symlink | Found::Whiteout | Found::Other => unlinkat(parent, name, AtFlags::empty())?,
        }
        self.last = None;
        Ok(())
    }

    fn walk(
        &self,
        entry: &Entry,
        path: &[Vec<u8>],
        missing: Missing,
    ) -> Result<Option<Rc<Place>>, UnpackError> {
        let mut open: VecDeque<Vec<u8>> = path.iter().cloned().collect();
        let mut passed: Vec<Rc<Place>> = Vec::new();
        let mut links = 0;
        let too_deep = || UnpackError::TooDeep { path: path_of(&entry.path) };
        let cannot = |errno| refused("reach", entry, errno);
        while let Some(name) = open.pop_front() {
            if name == b".." {
                passed.pop();
                continue;
            }
            let here = passed.last().unwrap_or(&self.root);
            if here.path.len() >= DEPTH_LIMIT {
                return Err(too_deep());
            }
            let link = match found(&here.fd, &name).map_err(cannot)? {
                Found::Directory => {
                    let fd = open_directory(&here.fd, &name).map_err(cannot)?;
                    passed.push(here.child(fd, name));
                    continue;
                }
                Found::Symlink => readlinkat(&here.fd, &*name, Vec::new()).map_err(cannot)?.into_bytes(),
                Found::Other => return Err(UnpackError::NotADirectory { path: path_of(&entry.path) }),
                Found::Nothing | Found::Whiteout if missing == Missing::Answer => return Ok(None),
                kind @ (Found::Nothing | Found::Whiteout) => {
                    let below = if kind == Found::Nothing {
                        self.below(&here.path, &name)
                    } else {
                        Ok(Below::Nothing)
                    };
                    match below.map_err(cannot)? {
                        Below::Symlink(target) => target,
                        below @ (Below::Nothing | Below::Directory(_) | Below::Other) => {
                            let fd = make_directory(&here.fd, &name, kind, &below).map_err(cannot)?;
                            passed.push(here.child(fd, name));
                            continue;
                        }
                    }
                }
            };
            links += 1;
            if links > LINK_LIMIT || open.len() > DEPTH_LIMIT {
                return Err(too_deep());
            }
            if link.starts_with(b"/") {
                passed.clear();
            }
            for component in link.split(|byte| *byte == b'/').rev() {
                if !matches!(component, b"" | b".") {
                    open.push_front(component.to_vec());
                }
            }
        }
        Ok(Some(passed.pop().unwrap_or_else(|| Rc::clone(&self.root))))
    }

    /// Looks a name up in the layers below as overlayfs will.
    fn below(&self, path: &[Vec<u8>], name: &[u8]) -> Result<Below, Errno> {
        let mut own = open_directory(&self.root.fd, b".")?;
        let mut below =
            self.below.iter().map(|fd| open_directory(fd, b".")).collect::<Result<Vec<_>, _>>()?;
        for step in path {
            own = open_directory(&own, step)?;
            if is_opaque(&own)? {
                return Ok(Below::Nothing);
            }
            below = match lower(&below, step)? {
                Below::Directory(below) => below,
                Below::Nothing | Below::Symlink(_) | Below::Other => return Ok(Below::Nothing),
            };
        }
        lower(&below, name)
    }
}

impl Place {
    fn child(&self, fd: OwnedFd, name: Vec<u8>) -> Rc<Self> {
        let mut path = self.path.clone();
        path.push(name);
        Rc::new(Self { fd, path })
    }
}

/// A directory in a directory, never through a link.
pub(super) fn open_directory(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// A directory that no entry describes.
fn make_directory(parent: &OwnedFd, name: &[u8], kind: Found, below: &Below) -> Result<OwnedFd, Errno> {
    if kind == Found::Whiteout {
        unlinkat(parent, name, AtFlags::empty())?;
    }
    mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    let directory = open_directory(parent, name)?;
    if kind == Found::Whiteout {
        make_opaque(&directory)?;
    }
    let mode = match below {
        Below::Directory(below) if !below.is_empty() => {
            let same = fstat(&below[0])?;
            fchown(&directory, Some(Uid::from_raw(same.st_uid)), Some(Gid::from_raw(same.st_gid)))?;
            Mode::from_raw_mode(same.st_mode & 0o7777)
        }
        Below::Directory(_) | Below::Nothing | Below::Symlink(_) | Below::Other => Mode::from_raw_mode(0o755),
    };
    fchmod(&directory, mode)?;
    Ok(directory)
}

/// Hides what the layers below have in a directory.
pub(super) fn make_opaque(directory: &OwnedFd) -> Result<(), Errno> {
    fsetxattr(directory, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
}

/// What a directory has under a name.
pub(super) fn found(parent: &OwnedFd, name: &[u8]) -> Result<Found, Errno> {
    Ok(match status(parent, name)? {
        None => Found::Nothing,
        Some(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Found::Directory,
            FileType::Symlink => Found::Symlink,
            FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout,
            FileType::RegularFile
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Found::Other,
        },
    })
}

fn status(parent: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        stat => stat.map(Some),
    }
}

/// What overlayfs shows under a name where these directories lie over each other.
fn lower(directories: &[OwnedFd], name: &[u8]) -> Result<Below, Errno> {
    let mut merged = Vec::new();
    for directory in directories {
        match found(directory, name)? {
            Found::Nothing => {}
            Found::Directory => {
                let inside = open_directory(directory, name)?;
                let is_last = is_opaque(&inside)?;
                merged.push(inside);
                if is_last {
                    break;
                }
            }
            Found::Symlink if merged.is_empty() => {
                return Ok(Below::Symlink(readlinkat(directory, name, Vec::new())?.into_bytes()));
            }
            Found::Other if merged.is_empty() => return Ok(Below::Other),
            Found::Symlink | Found::Other | Found::Whiteout => break,
        }
    }
    Ok(if merged.is_empty() { Below::Nothing } else { Below::Directory(merged) })
}

fn is_opaque(directory: &OwnedFd) -> Result<bool, Errno> {
    let mut value = [0; 1];
    match fgetxattr(directory, OPAQUE_ATTRIBUTE, &mut value) {
        Ok(_) => Ok(value == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// A directory and what is in it, never through a link. It is as deep as the tree was let grow.
fn remove_directory(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let directory = open_directory(parent, name)?;
    let mut names = Vec::new();
    for child in Dir::read_from(&directory)? {
        let child = child?;
        if !matches!(child.file_name().to_bytes(), b"." | b"..") {
            names.push(child.file_name().to_bytes().to_vec());
        }
    }
    for child in names {
        match found(&directory, &child)? {
            Found::Directory => remove_directory(&directory, &child)?,
            Found::Nothing | Found::Symlink | Found::Whiteout | Found::Other => {
                unlinkat(&directory, &*child, AtFlags::empty())?;
            }
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}
