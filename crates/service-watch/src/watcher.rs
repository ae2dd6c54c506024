//! What the kernel tells of a directory tree: inotify, made into names of files to read again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::store::FileName;
use crate::tree::is_hidden;
use manifest_documents::Syntax;

/// A change is looked at once nothing has happened for this long: an editor that writes a new file and renames it
/// over the old one is seen once, with nothing missing in between.
const QUIET: Duration = Duration::from_millis(15);

/// However busy the directory, no change waits longer than this.
const LONGEST: Duration = Duration::from_millis(50);

/// What happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Noticed {
    /// These files may be others than before.
    pub(crate) files: BTreeSet<FileName>,
    /// These files may now be readable, if they were not.
    pub(crate) permissions: BTreeSet<FileName>,
    /// Anything may be other than before.
    pub(crate) anything: Anything,
}

/// Whether all files have to be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Anything {
    /// Those that are named suffice.
    #[default]
    Named,
    /// All of them.
    All,
}

/// Why there is nothing more to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// An inotify instance, and what it watches.
#[derive(Debug)]
pub(crate) struct Watcher {
    inotify: OwnedFd,
    stop: Arc<OwnedFd>,
    watches: BTreeMap<i32, Vec<Place>>,
}

/// What a watch descriptor stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A directory of the tree.
    Directory(PathBuf),
    /// A file that is reached by this link.
    Link(PathBuf),
    /// The directory that has the root of the tree under this name.
    Parent(OsString),
}

/// Events that may make a manifest file another. Opening and writing are not among them, so that a file is read
/// once it is complete.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// Of the directory above the tree only the name of the tree's root matters.
const PARENT_EVENTS: WatchFlags =
    WatchFlags::CREATE.union(WatchFlags::MOVE).union(WatchFlags::DELETE).union(WatchFlags::MASK_ADD);

/// A name that came or went.
const NAMES: ReadFlags = ARRIVALS.union(ReadFlags::MOVED_FROM).union(ReadFlags::DELETE);

/// A name that came.
const ARRIVALS: ReadFlags = ReadFlags::CREATE.union(ReadFlags::MOVED_TO);

/// A file that is complete, or gone.
const SETTLED: ReadFlags =
    ReadFlags::CLOSE_WRITE.union(ReadFlags::MOVED_FROM).union(ReadFlags::MOVED_TO).union(ReadFlags::DELETE);

impl Noticed {
    /// Everything has to be looked at.
    pub(crate) fn anything() -> Self {
        Self { anything: Anything::All, ..Self::default() }
    }
}

impl Watcher {
    /// Watches nothing yet.
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            stop: Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?),
            watches: BTreeMap::new(),
        })
    }

    /// What ends [`Watcher::wait`] when 8 bytes are written to it.
    pub(crate) fn stop(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.stop)
    }

    /// Watches what `look` shows, and the name of the root; and no longer what it does not show. Answers what
    /// could not be watched.
    pub(crate) fn renew<T>(
        &mut self,
        root: &Path,
        look: impl FnOnce(&mut dyn FnMut(&Path)) -> T,
    ) -> (T, Option<(PathBuf, Errno)>) {
        let before = std::mem::take(&mut self.watches);
        let mut blind = None;
        if let (Some(parent), Some(name)) = (root.parent(), root.file_name()) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            self.add(parent, PARENT_EVENTS, Place::Parent(name.to_owned()), &mut blind);
        }
        let seen = look(&mut |path| {
            let place = if path.is_dir() { Place::Directory } else { Place::Link };
            self.add(path, EVENTS, place(path.to_owned()), &mut blind);
        });
        for stale in before.into_keys().filter(|watch| !self.watches.contains_key(watch)) {
            // The kernel dropped it already if its directory is gone.
            let _ = inotify::remove_watch(&self.inotify, stale);
        }
        (seen, blind)
    }

    /// Waits until something happened, or until `patience` is over, which is as if anything had.
    pub(crate) fn wait(&mut self, patience: Option<Duration>) -> Result<Noticed, Stopped> {
        let mut noticed = Noticed::default();
        let mut deadline = patience.map(|patience| Instant::now() + patience);
        while noticed == Noticed::default() {
            if self.nothing_until(deadline)? {
                return Ok(Noticed::anything());
            }
            self.take_in(&mut noticed);
        }
        deadline = Some(Instant::now() + LONGEST);
        while !self.nothing_until(deadline.min(Some(Instant::now() + QUIET)))? {
            self.take_in(&mut noticed);
        }
        Ok(noticed)
    }

    /// Whether the deadline came before an event.
    fn nothing_until(&self, deadline: Option<Instant>) -> Result<bool, Stopped> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(true);
            }
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds = [self.inotify.as_fd(), self.stop.as_fd()]
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match poll(&mut fds, left.as_ref()) {
                Ok(_) if !fds[1].revents().is_empty() => return Err(Stopped),
                Ok(ready) => return Ok(ready == 0),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Stopped),
            }
        }
    }

    fn take_in(&mut self, noticed: &mut Noticed) {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = events.next() {
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                noticed.anything = Anything::All;
            }
            for place in self.watches.get(&event.wd()).into_iter().flatten() {
                self.take_in_one(place, name, event.events(), noticed);
            }
        }
    }

    fn take_in_one(&self, place: &Place, name: Option<&OsStr>, what: ReadFlags, noticed: &mut Noticed) {
        match (place, name) {
            (Place::Parent(root), Some(name)) if name != root => {}
            (Place::Parent(_), Some(_)) if !what.intersects(NAMES) => {}
            (Place::Directory(directory), Some(name)) => self.take_in_name(directory, name, what, noticed),
            (Place::Link(path), _) if what.contains(ReadFlags::CLOSE_WRITE) => {
                noticed.files.insert(Arc::from(path.as_os_str()));
            }
            // The directory itself moved, went, or may now be read; or the target of a link was replaced.
            (Place::Parent(_) | Place::Directory(_) | Place::Link(_), _) => noticed.anything = Anything::All,
        }
    }

    fn take_in_name(&self, directory: &Path, name: &OsStr, what: ReadFlags, noticed: &mut Noticed) {
        let path = directory.join(name);
        if what.intersects(NAMES)
            && (what.intersects(ARRIVALS) && is_live_link(&path) || self.watches_at(&path))
        {
            // Whatever hangs on a link may be other than before: a mounted ConfigMap changes by one, ..data.
            noticed.anything = Anything::All;
        } else if is_hidden(name) {
            // An editor's own file.
        } else if what.contains(ReadFlags::ISDIR) {
            noticed.anything = Anything::All;
        } else if Syntax::of(name.as_bytes()).is_none() {
            // No manifest.
        } else if what.intersects(SETTLED) || what.contains(ReadFlags::CREATE) && is_hard_link(&path) {
            noticed.files.insert(Arc::from(path.as_os_str()));
        } else if what.contains(ReadFlags::ATTRIB) {
            noticed.permissions.insert(Arc::from(path.as_os_str()));
        }
    }

    fn watches_at(&self, path: &Path) -> bool {
        self.watches.values().flatten().any(|place| match place {
            Place::Directory(known) | Place::Link(known) => known == path,
            Place::Parent(_) => false,
        })
    }

    fn add(&mut self, path: &Path, events: WatchFlags, place: Place, blind: &mut Option<(PathBuf, Errno)>) {
        match inotify::add_watch(&self.inotify, path, events) {
            Ok(watch) => self.watches.entry(watch).or_default().push(place),
            // What is gone needs no watch, and what may not be read is reported when it is read.
            Err(Errno::NOENT | Errno::ACCESS) => {}
            Err(error) => *blind = Some((path.to_owned(), error)),
        }
    }
}

/// Whether a path is a link that leads somewhere; the locks of some editors are links that do not.
fn is_live_link(path: &Path) -> bool {
    path.is_symlink() && path.exists()
}

/// Whether a file has another name as well. Such a one is complete when it appears, and is never closed.
fn is_hard_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() > 1)
}

#[cfg(test)]
mod tests;
