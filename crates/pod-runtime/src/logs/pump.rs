//! From the pipes of a container to its log.
//!
//! The pipes have names, and a container holds both ends of its own: it can neither be ended by a pipe that nobody
//! reads nor lose what it wrote when its holder dies. Another holder opens them by name and reads on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::Errno;

use super::{Ending, LONGEST_LINE, Log, Stream};

/// The pipes of a container, by name.
#[derive(Debug)]
pub(crate) struct Pipes {
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Pipes {
    /// Those in a directory.
    pub(crate) fn at(directory: &Path) -> Self {
        Self { stdout: directory.join("stdout"), stderr: directory.join("stderr") }
    }

    /// Makes them anew.
    pub(crate) fn make(&self) -> io::Result<()> {
        for path in [&self.stdout, &self.stderr] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        }
        Ok(())
    }

    /// The ends to read from; must be opened before the others are closed.
    pub(crate) fn readers(&self) -> io::Result<[File; 2]> {
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let open = |path| OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
        Ok([open(&self.stdout)?, open(&self.stderr)?])
    }

    /// The ends that the container gets: to write to, and to read from, which it never does.
    pub(crate) fn writers(&self) -> io::Result<[File; 2]> {
        let open = |path| OpenOptions::new().read(true).write(true).open(path);
        Ok([open(&self.stdout)?, open(&self.stderr)?])
    }
}

/// Writes to the log what comes until all who could write have gone.
pub(crate) fn pump(readers: [File; 2], log: &mut Log) -> io::Result<()> {
    let [stdout, stderr] = readers;
    let mut open = vec![Source::new(stdout, Stream::Stdout), Source::new(stderr, Stream::Stderr)];
    let mut buffer = vec![0; LONGEST_LINE];
    while !open.is_empty() {
        let mut waiting: Vec<_> =
            open.iter().map(|source| PollFd::new(&source.pipe, PollFlags::IN)).collect();
        match poll(&mut waiting, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<_> = waiting.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(waiting);
        let mut still = Vec::with_capacity(open.len());
        for (mut source, ready) in open.into_iter().zip(ready) {
            if !ready || source.read(&mut buffer, log)? == Left::More {
                still.push(source);
            }
        }
        open = still;
    }
    Ok(())
}

#[derive(PartialEq)]
enum Left {
    More,
    Nothing,
}

struct Source {
    pipe: File,
    stream: Stream,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

impl Source {
    fn new(pipe: File, stream: Stream) -> Self {
        Self { pipe, stream, begun: Vec::new() }
    }

    fn read(&mut self, buffer: &mut [u8], log: &mut Log) -> io::Result<Left> {
        let count = match self.pipe.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Left::More),
            Err(error) => return Err(error),
        };
        if count == 0 {
            if !self.begun.is_empty() {
                log.write(self.stream, &[(&self.begun, Ending::Line)])?;
            }
            return Ok(Left::Nothing);
        }
        self.begun.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let (mut lines, mut rest) = (Vec::new(), self.begun.as_slice());
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            lines.extend(parts(line));
            rest = after.get(1..).unwrap_or_default();
        }
        while let Some((part, after)) = rest.split_at_checked(LONGEST_LINE) {
            lines.push((part, Ending::None));
            rest = after;
        }
        if !lines.is_empty() {
            log.write(self.stream, &lines)?;
        }
        self.begun = rest.to_vec();
        Ok(Left::More)
    }
}

/// A whole line, in parts none of which is too long.
fn parts(line: &[u8]) -> Vec<(&[u8], Ending)> {
    let mut parts: Vec<_> = line.chunks(LONGEST_LINE).map(|part| (part, Ending::None)).collect();
    match parts.last_mut() {
        Some((_, ending)) => *ending = Ending::Line,
        None => parts.push((line, Ending::Line)),
    }
    parts
}
