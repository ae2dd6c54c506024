//! What is known of a sandbox, kept in a file, one line more before each thing that is made and after each that was
//! learnt. Whoever dies leaves behind what the next start needs to remove everything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use kernel_io::namespaces::{IdRange, Identity, Namespace};
use kernel_io::process::Birth;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::node::Node;
use crate::spec::SandboxSpec;
use crate::steps::Trace;

/// What is known of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it shall be.
    pub spec: SandboxSpec,
    /// What was begun, and is to be undone.
    pub traces: Vec<Trace>,
    /// What came of it.
    pub known: Known,
    /// How far it is.
    pub stage: Stage,
    /// In which life of the machine it was made.
    pub boot: String,
}

/// What came of the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The pod's addresses, the first of each family first.
    pub addresses: Vec<IpAddr>,
    /// The pod's user numbers, if it has its own.
    pub ids: Option<IdRange>,
    /// Which namespaces its files stand for.
    pub namespaces: Vec<(Namespace, Identity)>,
    /// The process that holds its PID namespace.
    pub pause: Option<(u32, Birth)>,
    /// What the plugins of a CNI network said when the pod was added.
    pub attachment: Option<Value>,
}

/// How far a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its steps are being done.
    Making,
    /// It stands.
    Ready,
    /// Its steps are being undone.
    Removing,
}

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// The first.
    Wanted { version: u32, boot: String, spec: Box<SandboxSpec> },
    /// Something is about to be made.
    Begun(Trace),
    /// The pod's addresses.
    Addresses(Vec<IpAddr>),
    /// The pod's user numbers.
    Ids(IdRange),
    /// Which namespaces the files stand for.
    Namespaces(Vec<(Namespace, Identity)>),
    /// The process that holds the PID namespace.
    Pause(u32, Birth),
    /// What a CNI network said.
    Attached(Value),
    /// Everything is made.
    Ready,
    /// Everything is about to be undone.
    Removing,
}

/// A sandbox's directory, whose file we hold alone.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    file: File,
    pub(crate) record: Record,
}

/// A sandbox's state that could not be read or written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// There is a sandbox of that name.
    #[error("there is a sandbox {name} already")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is none.
    #[error("there is no sandbox {name}")]
    Absent {
        /// The name.
        name: String,
    },
    /// Another process is making, changing or removing it.
    #[error("sandbox {name} is being changed by another process")]
    Busy {
        /// The name.
        name: String,
    },
    /// Its first line says nothing that we know; nothing can have been made by then.
    #[error("the state of sandbox {name} cannot be read")]
    Unreadable {
        /// The name.
        name: String,
    },
    /// A file or directory refused.
    #[error("{verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

const VERSION: u32 = 1;
const FILE: &str = "journal";
/// How long whoever holds a journal may take to let go of it.
const PATIENCE: Duration = Duration::from_secs(1);

impl Journal {
    /// Makes the directory of a new sandbox.
    pub(crate) fn create(node: &Node, spec: &SandboxSpec) -> Result<Self, JournalError> {
        let directory = node.sandboxes().join(&spec.name);
        let path = directory.join(FILE);
        // Whoever looks for what was left behind must not find it before it is ours.
        let _guard = node.lock().map_err(|source| failed("lock", &node.settings().root, source))?;
        match fs::create_dir(&directory) {
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                return Err(JournalError::Exists { name: spec.name.clone() });
            }
            made => made.map_err(|source| failed("make", &directory, source))?,
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|source| failed("make", &path, source))?;
        hold(&file, &spec.name, &path)?;
        let boot = boot();
        let record = Record {
            spec: spec.clone(),
            traces: Vec::new(),
            known: Known::default(),
            stage: Stage::Making,
            boot: boot.clone(),
        };
        let mut journal = Self { directory, file, record };
        journal.write(&Entry::Wanted { version: VERSION, boot, spec: Box::new(spec.clone()) })?;
        Ok(journal)
    }

    /// Takes hold of the directory of a sandbox that is there.
    pub(crate) fn open(node: &Node, name: &str) -> Result<Self, JournalError> {
        let directory = node.sandboxes().join(name);
        let path = directory.join(FILE);
        let _guard = node.lock().map_err(|source| failed("lock", &node.settings().root, source))?;
        let file = match OpenOptions::new().append(true).open(&path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(missing(&directory, name)),
            opened => opened.map_err(|source| failed("open", &path, source))?,
        };
        hold(&file, name, &path)?;
        let record = read(&directory, name)?;
        Ok(Self { directory, file, record })
    }

    /// Lets others take hold of it.
    pub(crate) fn release(&self) -> Result<(), JournalError> {
        flock(&self.file, FlockOperation::Unlock)
            .map_err(|errno| failed("unlock", &self.path(), errno.into()))
    }

    /// Takes hold of it again. What others did meanwhile is in the record.
    pub(crate) fn hold(&mut self) -> Result<(), JournalError> {
        hold(&self.file, &self.record.spec.name, &self.path())?;
        self.record = read(&self.directory, &self.record.spec.name)?;
        Ok(())
    }

    /// Where its files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Says something more.
    pub(crate) fn say(&mut self, entry: Entry) -> Result<(), JournalError> {
        self.write(&entry)?;
        self.record.take(entry);
        Ok(())
    }

    /// Removes the directory of a sandbox of which nothing else is left.
    pub(crate) fn forget(&mut self) -> Result<(), JournalError> {
        remove(&self.directory)
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    fn write(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let path = self.path();
        let failed = |source| failed("write", &path, source);
        let mut line = serde_json::to_vec(entry).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        // One call, so that a line is there or is not.
        self.file.write_all(&line).map_err(failed)
    }
}

/// Removes a directory and what is in it; one that is gone is no error.
pub(crate) fn remove(directory: &Path) -> Result<(), JournalError> {
    match fs::remove_dir_all(directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", directory, source)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What tells this life of the machine from its others.
pub(crate) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

impl Record {
    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let Entry::Wanted { version: VERSION, boot, spec } = serde_json::from_str(lines.next()?).ok()? else {
            return None;
        };
        let mut record =
            Self { spec: *spec, traces: Vec::new(), known: Known::default(), stage: Stage::Making, boot };
        // A last line that was cut off tells of nothing that was begun.
        lines.map_while(|line| serde_json::from_str(line).ok()).for_each(|entry| record.take(entry));
        Some(record)
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Wanted { .. } => {}
            Entry::Begun(trace) => self.traces.push(trace),
            Entry::Addresses(addresses) => self.known.addresses = addresses,
            Entry::Ids(ids) => self.known.ids = Some(ids),
            Entry::Namespaces(namespaces) => self.known.namespaces = namespaces,
            Entry::Pause(pid, birth) => self.known.pause = Some((pid, birth)),
            Entry::Attached(attachment) => self.known.attachment = Some(attachment),
            Entry::Ready => self.stage = Stage::Ready,
            Entry::Removing => self.stage = Stage::Removing,
        }
    }
}

/// What a sandbox's directory says, whoever holds it.
pub(crate) fn read(directory: &Path, name: &str) -> Result<Record, JournalError> {
    let path = directory.join(FILE);
    match fs::read_to_string(&path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Err(missing(directory, name)),
        Err(source) => Err(failed("read", &path, source)),
        Ok(text) => Record::read(&text).ok_or_else(|| JournalError::Unreadable { name: name.to_owned() }),
    }
}

/// Why there is no journal.
fn missing(directory: &Path, name: &str) -> JournalError {
    let name = name.to_owned();
    if directory.exists() { JournalError::Unreadable { name } } else { JournalError::Absent { name } }
}

/// A holder that was killed may have a child on the way to its program, which lets go when it gets there; what it makes
/// until then is to be found by whoever holds next.
fn hold(file: &File, name: &str, path: &Path) -> Result<(), JournalError> {
    let start = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(1)),
            Err(Errno::WOULDBLOCK) => return Err(JournalError::Busy { name: name.to_owned() }),
            Err(errno) => return Err(failed("lock", path, errno.into())),
        }
    }
}

fn failed(verb: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::File { verb, path: path.to_path_buf(), source }
}
