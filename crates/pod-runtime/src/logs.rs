//! What containers print, kept in the format of the container runtime interface: a time, a stream, whether the line
//! is whole, and the line.

mod follow;
mod pump;

pub use follow::{Follow, Line};
pub(crate) use pump::{Pipes, pump};

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::clock;

/// A file above this size is set aside.
const LARGEST: u64 = 10 << 20;
/// So many are kept beside the one that is written.
const KEPT: u32 = 4;
/// A line above this length is written in parts.
pub(crate) const LONGEST_LINE: usize = 16 << 10;

/// Of which stream a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The log of a container.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    largest: u64,
}

impl Log {
    /// Opens it, to write on at its end.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::with_largest(path, LARGEST)
    }

    fn with_largest(path: &Path, largest: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_path_buf(), file, size, largest })
    }

    /// Writes lines, whole or not, in one go.
    pub(crate) fn write(&mut self, stream: Stream, lines: &[(&[u8], Ending)]) -> io::Result<()> {
        let (time, stream) = (clock::now(), stream.word());
        let mut text = Vec::new();
        for (line, ending) in lines {
            let tag = match ending {
                Ending::Line => "F",
                Ending::None => "P",
            };
            text.extend_from_slice(format!("{time} {stream} {tag} ").as_bytes());
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        if self.size > 0 && self.size + text.len() as u64 > self.largest {
            self.rotate()?;
        }
        self.size += text.len() as u64;
        self.file.write_all(&text)
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (0..KEPT).rev() {
            let (from, to) = (set_aside(&self.path, number), set_aside(&self.path, number + 1));
            match fs::rename(&from, &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        *self = Self::with_largest(&self.path, self.largest)?;
        Ok(())
    }
}

/// Whether a line break followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// One did.
    Line,
    /// None did, yet.
    None,
}

impl Stream {
    fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The name of a log that was set aside so often; 0 is the one that is written.
fn set_aside(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_path_buf(),
        number => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            name.into()
        }
    }
}

#[cfg(test)]
mod tests;
