//! Reading a log, also while it is written.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{KEPT, Stream, set_aside};

/// A line of a log, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was printed.
    pub time: String,
    /// On what.
    pub stream: Stream,
    /// What was printed, with its line break if it has one.
    pub text: Vec<u8>,
}

/// A log, read from its beginning on.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    /// Those that are to be read, the next one last.
    files: Vec<BufReader<File>>,
    /// The number of the file that was the one being written when it was opened.
    newest: Option<u64>,
    /// A line that was not written to its end.
    begun: Vec<u8>,
}

impl Follow {
    /// The log of this path with all that was set aside.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let mut follow =
            Self { path: path.to_path_buf(), files: Vec::new(), newest: None, begun: Vec::new() };
        for number in 0..=KEPT {
            match File::open(set_aside(path, number)) {
                Ok(file) => {
                    if number == 0 {
                        follow.newest = Some(file.metadata()?.ino());
                    }
                    follow.files.push(BufReader::new(file));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(follow)
    }

    /// The next line; nothing if there is none yet.
    pub fn line(&mut self) -> io::Result<Option<Line>> {
        loop {
            let Some(file) = self.files.last_mut() else {
                if !self.open_newer()? {
                    return Ok(None);
                }
                continue;
            };
            if file.read_until(b'\n', &mut self.begun)? > 0 && self.begun.ends_with(b"\n") {
                let line = std::mem::take(&mut self.begun);
                if let Some(line) = parsed(&line) {
                    return Ok(Some(line));
                }
                continue;
            }
            // At the end of a file; those that are no longer written have nothing more.
            if self.files.len() > 1 {
                self.files.pop();
            } else if !self.open_newer()? {
                return Ok(None);
            }
        }
    }

    /// Goes on with the file that is now being written, if it is another.
    fn open_newer(&mut self) -> io::Result<bool> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let number = file.metadata()?.ino();
        if self.newest == Some(number) {
            return Ok(false);
        }
        self.newest = Some(number);
        // What was written to the old one between the last read and the change of names comes first.
        self.files.insert(0, BufReader::new(file));
        Ok(true)
    }
}

fn parsed(line: &[u8]) -> Option<Line> {
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let time = String::from_utf8(words.next()?.to_vec()).ok()?;
    let stream = match words.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let tag = words.next()?;
    let mut text = words.next()?.to_vec();
    if tag == b"P" {
        text.pop();
    }
    Some(Line { time, stream, text })
}
