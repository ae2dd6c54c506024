//! A directory of manifest files as a source of facts, in whatever words.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use thiserror::Error;

use crate::Report;
use crate::objects::Services;
use crate::store::{FileName, FileNews, Part, Said, Store};
use crate::tree::{self, Listing, Stamp};
use crate::vocabulary::{Changes, Lists, Understood, Vocabulary};
use crate::watcher::{Anything, Noticed, Watcher};
use manifest_documents::{Syntax, SyntaxError};

/// A file above this size is not read: no manifest is that large, and a mistake could be.
const LARGEST_FILE: u64 = 64 << 20;

/// How often the directory is looked at when the kernel cannot tell of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Within this time a file can change twice and look the same: clocks of file systems have ticks.
const TICK: Duration = Duration::from_millis(50);

/// A directory of manifests: all files that end in `.yaml`, `.yml` or `.json`, at any depth.
#[derive(Debug)]
pub struct Directory<V: Vocabulary> {
    root: PathBuf,
    words: V,
    store: Store<V::Key, V::Fact>,
    /// Without a stamp a file is read again at the next look, whatever its version.
    stamps: BTreeMap<FileName, Option<Stamp>>,
    /// What is wrong with directories, as it was last reported.
    troubles: BTreeSet<Report>,
    /// What the next full lists are.
    lists: Lists,
}

/// A directory of manifests as a proxy reads it.
pub type Manifests = Directory<Services>;

/// Why a directory cannot serve as a source.
#[derive(Debug, Error)]
#[error("cannot read manifests from {}", directory.display())]
pub struct OpenError {
    directory: PathBuf,
    source: io::Error,
}

/// Why a directory cannot be watched.
#[derive(Debug, Error)]
#[error("cannot watch the manifests in {}", directory.display())]
pub struct WatchError {
    directory: PathBuf,
    source: io::Error,
}

/// A directory that is being watched, until this is dropped.
#[derive(Debug)]
pub struct Watching {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Manifests {
    /// A directory that exists and can be read. Of all Node objects in it that of this name counts.
    pub fn open(directory: impl Into<PathBuf>, node_name: &str) -> Result<Self, OpenError> {
        Self::of(directory, Services::of(node_name))
    }
}

impl<V: Vocabulary> Directory<V> {
    /// A directory that exists and can be read, in these words.
    pub fn of(directory: impl Into<PathBuf>, words: V) -> Result<Self, OpenError> {
        let directory = directory.into();
        if let Err(source) = fs::read_dir(&directory) {
            return Err(OpenError { directory, source });
        }
        Ok(Self {
            root: directory,
            words,
            store: Store::new(),
            stamps: BTreeMap::new(),
            troubles: BTreeSet::new(),
            lists: Lists::First,
        })
    }

    /// Reads what is new since the last time; everything, the first time.
    pub fn read(&mut self) -> V::News {
        let listing = tree::list(&self.root, &mut |_| ());
        let changes = self.look_at_all(listing, None);
        self.words.news(changes)
    }

    /// Reads, and sends what changes from then on, until the answer is dropped or nobody listens any more. The
    /// first batch is the whole directory, unless it was read before.
    pub fn watch(mut self, out: mpsc::Sender<V::News>) -> Result<Watching, WatchError> {
        let failed = |directory: &Path| {
            let directory = directory.to_owned();
            move |source| WatchError { directory, source }
        };
        let mut watcher = Watcher::new().map_err(io::Error::from).map_err(failed(&self.root))?;
        let stop = watcher.stop();
        let named = failed(&self.root);
        let thread = std::thread::Builder::new().name("manifests".to_owned());
        let thread = thread.spawn(move || self.send_changes(&mut watcher, &out)).map_err(named)?;
        Ok(Watching { stop, thread: Some(thread) })
    }

    fn send_changes(&mut self, watcher: &mut Watcher, out: &mpsc::Sender<V::News>) {
        let mut noticed = Noticed::anything();
        loop {
            let received = Some(Instant::now());
            let changes = Changes { received, ..self.look(watcher, noticed) };
            if !changes.is_empty() && out.send(self.words.news(changes)).is_err() {
                return;
            }
            let patience = if self.troubles.is_empty() { None } else { Some(PATIENCE) };
            noticed = match watcher.wait(patience) {
                Ok(noticed) => noticed,
                Err(_stopped) => return,
            };
        }
    }

    fn look(&mut self, watcher: &mut Watcher, noticed: Noticed) -> Changes<V::Key, V::Fact> {
        let Noticed { mut files, permissions, anything } = noticed;
        let unsure = |path: &FileName| matches!(self.stamps.get(path), Some(None));
        files.extend(permissions.into_iter().filter(unsure));
        if anything == Anything::Named {
            let news = self.read_files(files.iter().cloned());
            // The files of a directory that is going go first, one by one; but once it is gone they are kept.
            if self.root.is_dir() {
                return self.store.apply(news, &self.words);
            }
        }
        self.stamps.extend(files.into_iter().map(|path| (path, None)));
        let (listing, blind) = watcher.renew(&self.root, |notice| tree::list(&self.root, notice));
        self.look_at_all(listing, blind)
    }

    fn look_at_all(
        &mut self,
        listing: io::Result<Listing>,
        blind: Option<(PathBuf, Errno)>,
    ) -> Changes<V::Key, V::Fact> {
        let mut troubles: BTreeSet<_> =
            blind.into_iter().map(|(path, error)| blind_report(&path, error)).collect();
        let mut changes = Changes::default();
        match listing {
            Err(error) => drop(troubles.insert(unreadable_report(&self.root, &error))),
            Ok(Listing { files, unreadable }) => {
                troubles.extend(unreadable.iter().map(|(path, error)| unreadable_report(path, error)));
                let hidden =
                    |path: &FileName| unreadable.iter().any(|(up, _)| Path::new(path).starts_with(up));
                let gone = self.stamps.keys().filter(|path| !files.contains_key(*path) && !hidden(path));
                let news =
                    files.iter().filter(|(path, stamp)| self.stamps.get(*path) != Some(&Some(**stamp)));
                let changed: Vec<_> = gone.chain(news.map(|(path, _)| path)).cloned().collect();
                let news = self.read_files(changed.into_iter());
                changes = self.store.apply(news, &self.words);
                changes.lists = std::mem::take(&mut self.lists);
            }
        }
        changes.reports.extend(troubles.difference(&self.troubles).cloned());
        self.troubles = troubles;
        changes
    }

    fn read_files(
        &mut self,
        paths: impl Iterator<Item = FileName>,
    ) -> BTreeMap<FileName, FileNews<V::Key, V::Fact>> {
        let mut all = BTreeMap::new();
        for path in paths {
            let (news, stamp) = match read_file(&path) {
                Ok((bytes, stamp)) => {
                    let syntax = Syntax::of(path.as_bytes()).unwrap_or(Syntax::Yaml);
                    (news_of::<V>(&path, syntax, &bytes, self.store.parts(&path)), stamp)
                }
                Err(error) if is_gone(&error) => (FileNews::Gone, None),
                Err(error) => (FileNews::Broken(unreadable_report(Path::new(&path), &error)), None),
            };
            match news {
                FileNews::Gone => self.stamps.remove(&path),
                FileNews::Says(_) | FileNews::Broken(_) => self.stamps.insert(path.clone(), stamp),
            };
            all.insert(path, news);
        }
        all
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Writing to an eventfd fails only when it counted beyond all bounds, and then it wakes as well.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

/// A file's bytes, and which version of it they are, if that is sure.
fn read_file(path: &FileName) -> io::Result<(Vec<u8>, Option<Stamp>)> {
    // Opening a pipe or a device could block or do something.
    if !fs::metadata(&**path)?.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    let mut file = File::open(&**path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.by_ref().take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST_FILE) {
        let message = format!("it is larger than {} MiB", LARGEST_FILE >> 20);
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok((bytes, Some(stamp).filter(|stamp| stamp.is_older_than(TICK))))
}

/// What a text says. A part that is among the known ones is not understood again, but what is written twice is
/// news the second time.
fn news_of<V: Vocabulary>(
    path: &FileName,
    syntax: Syntax,
    bytes: &[u8],
    mut known: BTreeMap<u64, Vec<V::Key>>,
) -> FileNews<V::Key, V::Fact> {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return FileNews::Broken(encoding_report(path, bytes, error.valid_up_to())),
    };
    let mut parts = Vec::new();
    for chunk in manifest_documents::chunks(syntax, text) {
        let mut hasher = DefaultHasher::new();
        chunk.text.hash(&mut hasher);
        let hash = hasher.finish();
        let said = match known.remove(&hash) {
            Some(keys) => Said::Same(keys),
            None => match manifest_documents::read::<Understood<V>>(syntax, chunk) {
                Ok(statements) => Said::New(statements.into_iter().map(|one| one.0).collect()),
                Err(error) => return FileNews::Broken(syntax_report(path, &error)),
            },
        };
        parts.push(Part { hash, position: chunk.position, said });
    }
    FileNews::Says(parts)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn syntax_report(path: &FileName, error: &SyntaxError) -> Report {
    let path = Path::new(path).display();
    let place = match error.at {
        Some((line, column)) => format!("{path}:{line}:{column}"),
        None => path.to_string(),
    };
    Report { place, message: format!("does not parse: {}", error.message) }
}

fn encoding_report(path: &FileName, bytes: &[u8], valid: usize) -> Report {
    let line = 1 + bytes.iter().take(valid).filter(|byte| **byte == b'\n').count();
    Report { place: format!("{}:{line}", Path::new(path).display()), message: "is not UTF-8".to_owned() }
}

fn unreadable_report(path: &Path, error: &io::Error) -> Report {
    let message = format!("cannot be read, and what it gave is kept: {error}");
    Report { place: path.display().to_string(), message }
}

fn blind_report(path: &Path, error: Errno) -> Report {
    let message = format!("cannot be watched, and is looked at every second instead: {error}");
    Report { place: path.display().to_string(), message }
}

#[cfg(test)]
mod tests;
