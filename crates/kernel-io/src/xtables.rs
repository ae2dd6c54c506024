//! iptables and ip6tables, through their own tools: `iptables-save` and `iptables-restore`.
//!
//! The tools speak to both kernel backends (nft and legacy); which one a host uses is its administrator's
//! choice, and rules in the other one would be invisible to everybody else there.

use std::cell::Cell;
use std::error::Error;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::{Command, ExitStatus, Output, Stdio};

use kernel_state::Change;
use kernel_state::xtables::{self, COMMIT, Key, Layout, Rules, parse_save, script};
use thiserror::Error;

use crate::process::let_die_with_us;
use crate::target::{Applied, Drift, ReadError, Refused, Target, WriteError};

mod probe;
mod programs;

use probe::{Backend, Probe, Shown};
use programs::Programs;

/// An address family, by the tools that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// iptables
    Iptables,
    /// ip6tables
    Ip6tables,
}

/// The tables of one family in the calling thread's network namespace.
#[derive(Debug)]
pub struct Xtables {
    programs: Programs,
    layout: Layout,
    /// How the tables show that they were changed, and what they showed when we last read or wrote them.
    probe: Option<Probe>,
    shown: Option<Shown>,
    /// Bytes that the tools were given.
    sent: u64,
}

/// What `iptables --version` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    numbers: [u32; 3],
}

/// The tools cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Not installed.
    #[error("cannot find {tool} on PATH; install the package iptables")]
    Missing {
        /// The program.
        tool: String,
    },
    /// Older than what we rely on.
    #[error("{tool} is version {found}; {} or newer is needed", Version::OLDEST)]
    TooOld {
        /// The program.
        tool: String,
        /// What it says it is.
        found: Version,
    },
    /// The caller may not use it.
    #[error(
        "{tool}: permission denied; writing rules needs root or CAP_NET_ADMIN (and CAP_NET_RAW with legacy iptables)"
    )]
    Permission {
        /// The program.
        tool: String,
    },
    /// It fails.
    #[error("{0}")]
    Failed(#[from] ToolError),
}

/// A tool failed.
#[derive(Debug, Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("cannot run {tool}: {source}")]
    Start {
        /// The program.
        tool: String,
        /// Why not.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{tool} failed ({status}): {message}")]
    Status {
        /// The program.
        tool: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, in one line.
        message: String,
    },
}

impl Xtables {
    /// Finds the tools and tries them. What is ours there is known by the layout.
    pub fn open(tool: Tool, layout: Layout) -> Result<Self, OpenError> {
        let programs = Programs::find(tool);
        let name = programs.name();
        let output = run(&name, &["--version"], NO_INPUT).map_err(OpenError::from_tool)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = Version::parse(&text).unwrap_or(Version { numbers: [0; 3] });
        if version < Version::OLDEST {
            return Err(OpenError::TooOld { tool: name, found: version });
        }
        run(&name, &["-w", LOCK_SECONDS, "-t", "nat", "-S", "POSTROUTING"], NO_INPUT)
            .map_err(OpenError::from_tool)?;
        let probe = Probe::open(tool, Backend::of(&text)).ok();
        Ok(Self { programs, layout, probe, shown: None, sent: 0 })
    }

    fn show(&mut self) -> Option<Shown> {
        self.probe.as_mut().and_then(Probe::show)
    }
}

impl Target<xtables::Xtables> for Xtables {
    fn read(&mut self, found: &mut dyn FnMut(Key, Rules)) -> Result<(), ReadError> {
        // Before the reading, so that a change in between shows later.
        self.shown = self.show();
        let output = run(&self.programs.program("save"), &[], NO_INPUT)
            .map_err(|source| ReadError { source: source.into() })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let chains = parse_save(&text).map_err(|source| ReadError { source: source.into() })?;
        for (key, rules) in self.layout.objects(chains) {
            found(key, rules);
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change<xtables::Xtables>]) -> Result<(), WriteError> {
        if changes.is_empty() {
            return Ok(());
        }
        let untouched = self.show() == self.shown;
        let options = ["-w", LOCK_SECONDS, "--noflush", "--counters"];
        let sent = Cell::new(0);
        let input: Input<'_> = &|input| print(changes, &mut Counted { input, sent: &sent });
        let written = run(&self.programs.program("restore"), &options, input).map(drop);
        self.sent += sent.get();
        if untouched {
            self.shown = self.show();
        }
        written.map_err(|source| {
            let failed_line = failed_line(&source);
            let (applied, refused) = outcome(changes, failed_line);
            WriteError { applied, refused, source: Box::<dyn Error + Send + Sync>::from(source) }
        })
    }

    /// Without a probe a stranger's change shows only when a write fails.
    fn drift(&mut self) -> Drift<xtables::Xtables> {
        if self.show() == self.shown { Drift::None } else { Drift::Possible }
    }

    fn bytes_sent(&self) -> u64 {
        self.sent
    }
}

/// Counts what is written to it.
struct Counted<'a> {
    input: &'a mut dyn Write,
    sent: &'a Cell<u64>,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.input.write(bytes)?;
        self.sent.set(self.sent.get() + u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}

/// What a tool is given to read.
type Input<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;

const NO_INPUT: Input<'static> = &|_| Ok(());

/// A pipe takes so much at once.
const INPUT_BUFFER: usize = 64 << 10;

/// How long the tools wait for one another.
const LOCK_SECONDS: &str = "5";

/// Writes the input for `iptables-restore`.
fn print(changes: &[Change<xtables::Xtables>], input: &mut dyn Write) -> io::Result<()> {
    let mut result = Ok(());
    script(changes, &mut |line| {
        if result.is_ok() {
            result = writeln!(input, "{}", line.text);
        }
    });
    result
}

/// How far a failed write came, and what was refused. Each transaction comes whole or not at all, and they come in
/// their order: what failed in the first one left nothing behind.
fn outcome(changes: &[Change<xtables::Xtables>], failed_line: Option<usize>) -> (Applied, Option<Refused>) {
    let (mut number, mut commits, mut commits_before) = (0, 0, 0);
    let mut refused = None;
    script(changes, &mut |line| {
        number += 1;
        if Some(number) == failed_line {
            commits_before = commits;
            refused = line.change.map(|index| Refused { index, text: line.text.to_string() });
        }
        commits += usize::from(line.text.as_str() == Some(COMMIT) || line.text.to_string() == COMMIT);
    });
    let is_whole = match failed_line {
        Some(_) => commits_before == 0,
        None => commits == 1,
    };
    (if is_whole { Applied::Nothing } else { Applied::Unknown }, refused)
}

/// The line of its input that a tool complains of: "line 12 failed", "line 12: …", "at line: 12".
fn failed_line(error: &ToolError) -> Option<usize> {
    let ToolError::Status { message, .. } = error else { return None };
    message.match_indices("line").find_map(|(place, word)| {
        let rest = message[place + word.len()..].trim_start_matches([':', ' ']);
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|line| *line > 0)
    })
}

/// Runs a tool to its end, with what a function writes as its input.
fn run(program: &str, arguments: &[&str], input: Input<'_>) -> Result<Output, ToolError> {
    let start = |source| ToolError::Start { tool: program.to_owned(), source };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A tool that outlived us could write after the next process has read.
    let_die_with_us(&mut command).map_err(start)?;
    let mut child = command.spawn().map_err(start)?;
    if let Some(stdin) = child.stdin.take() {
        let mut stdin = BufWriter::with_capacity(INPUT_BUFFER, stdin);
        match input(&mut stdin).and_then(|()| stdin.flush()) {
            // It ended early; its status says why.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(start(error)),
            Ok(()) | Err(_) => {}
        }
        // What it did not take is of no use to anybody.
        drop(stdin.into_parts());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(output);
    }
    let lines = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> =
        lines.lines().filter(|line| !line.starts_with("Try `") && !line.is_empty()).collect();
    Err(ToolError::Status { tool: program.to_owned(), status: output.status, message: lines.join("; ") })
}

impl Tool {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Ip6tables => "ip6tables",
        }
    }
}

impl OpenError {
    fn from_tool(error: ToolError) -> Self {
        match error {
            ToolError::Start { tool, source } if source.kind() == ErrorKind::NotFound => {
                Self::Missing { tool }
            }
            ToolError::Status { tool, message, .. }
                if ["Permission denied", "Operation not permitted"]
                    .iter()
                    .any(|text| message.contains(text)) =>
            {
                Self::Permission { tool }
            }
            ToolError::Start { .. } | ToolError::Status { .. } => Self::Failed(error),
        }
    }
}

impl Version {
    /// `-w` in iptables-restore and `--random-fully`, both of which we rely on, came with it (February 2018).
    const OLDEST: Self = Self { numbers: [1, 6, 2] };

    /// `iptables v1.8.9 (nf_tables)`
    fn parse(text: &str) -> Option<Self> {
        let word = text.split_whitespace().nth(1)?.strip_prefix('v')?;
        let mut numbers = word.split('.').map(|number| number.parse().ok());
        let mut next = || numbers.next().unwrap_or(Some(0));
        Some(Self { numbers: [next()?, next()?, next()?] })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(out, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests;
