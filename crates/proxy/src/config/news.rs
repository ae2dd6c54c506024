//! A configuration file that changes while the proxy runs: rewritten, replaced by another, or, as that of a `ConfigMap` is,
//! reached by a link that leads elsewhere from now on. What counts is what it says.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// It is read once nothing has happened to its directory for this long.
const QUIET: Duration = Duration::from_millis(50);

/// However busy its directory, it is read after this long.
const LONGEST: Duration = Duration::from_millis(500);

/// However little the kernel tells: links may lead through directories that are not watched.
const LOOK_PERIOD: Duration = Duration::from_secs(10);

/// A file, and what it said when it was last read.
#[derive(Debug)]
pub struct FileNews {
    path: PathBuf,
    last: String,
    directory: OwnedFd,
}

impl FileNews {
    /// Follows a file that says this.
    pub fn of(path: &Path, text: String) -> io::Result<Self> {
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        };
        let directory = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let events = WatchFlags::CLOSE_WRITE | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&directory, parent, events)?;
        Ok(Self { path: path.to_owned(), last: text, directory })
    }

    /// What it says, once that is something else. A file that is gone says nothing new.
    pub fn wait(&mut self) -> io::Result<String> {
        loop {
            if self.something_happened(LOOK_PERIOD)? {
                let start = Instant::now();
                while start.elapsed() < LONGEST && self.something_happened(QUIET)? {}
            }
            match fs::read_to_string(&self.path) {
                Ok(text) if text != self.last => {
                    self.last.clone_from(&text);
                    return Ok(text);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn something_happened(&self, limit: Duration) -> io::Result<bool> {
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&self.directory, PollFlags::IN)];
        let ready = match poll(&mut fds, Some(&limit)) {
            Ok(ready) => ready > 0,
            Err(Errno::INTR) => true,
            Err(error) => return Err(error.into()),
        };
        if ready {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = Reader::new(&self.directory, &mut buffer);
            loop {
                match events.next() {
                    Ok(_) => {}
                    Err(Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(ready)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_way_to_change_a_file_is_news() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.conf");
        let at = |name: &str| directory.path().join(name);
        fs::write(&path, "one").expect("written");
        let mut news = FileNews::of(&path, "one".to_owned()).expect("watched");
        fs::write(at("other"), "of no interest").expect("written");
        fs::write(&path, "two").expect("written");
        assert_eq!(news.wait().expect("read"), "two");
        fs::write(at("draft"), "three").expect("written");
        fs::rename(at("draft"), &path).expect("renamed");
        assert_eq!(news.wait().expect("read"), "three");
    }

    /// Others write to its directory all the time.
    #[test]
    fn a_busy_directory_delays_nothing_for_long() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.conf");
        fs::write(&path, "one").expect("written");
        let mut news = FileNews::of(&path, "one".to_owned()).expect("watched");
        let (sender, ended) = std::sync::mpsc::channel::<()>();
        let other = directory.path().join("other");
        let busy = std::thread::spawn(move || {
            while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                fs::write(&other, "of no interest").expect("written");
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        fs::write(&path, "two").expect("written");
        assert_eq!(news.wait().expect("read"), "two");
        drop(sender);
        busy.join().expect("it ends");
    }

    /// As the kubelet changes a `ConfigMap`: all files are links through one link, which is replaced.
    #[test]
    fn a_link_that_leads_elsewhere_is_news() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(at(version)).expect("made");
            fs::write(at(version).join("config.conf"), text).expect("written");
        }
        symlink("..1", at("..data")).expect("linked");
        symlink("..data/config.conf", at("config.conf")).expect("linked");
        let mut news = FileNews::of(&at("config.conf"), "one".to_owned()).expect("watched");
        symlink("..2", at("..data_tmp")).expect("linked");
        fs::rename(at("..data_tmp"), at("..data")).expect("renamed");
        assert_eq!(news.wait().expect("read"), "two");
    }
}
