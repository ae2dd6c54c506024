//! iptables and ip6tables, through their own tools: `iptables-save` and `iptables-restore`.
//!
//! The tools speak to both kernel backends (nft and legacy); which one a host uses is its administrator's
//! choice, and rules in the other one would be invisible to everybody else there.

use std::cell::Cell;
use std::error::Error;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;

use kernel_state::Change;
use kernel_state::xtables::{self, COMMIT, Key, Layout, Rules, SaveReader, script};
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
        let (mut reader, mut finder) = (SaveReader::default(), self.layout.finder());
        let mut tell = |table, chain, rules| finder.chain((table, chain, rules), found);
        let mut outcome = Ok(());
        run_lines(&self.programs.program("save"), |line| {
            if outcome.is_ok() {
                outcome = reader.line(line, &mut tell);
            }
        })
        .map_err(|source| ReadError { source: source.into() })?;
        outcome.map_err(|source| ReadError { source: source.into() })?;
        reader.end(&mut tell);
        finder.end(found);
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
const PIPE: usize = 64 << 10;

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
    let mut child = start(program, arguments)?;
    let failed = ToolError::start(program);
    if let Some(stdin) = child.stdin.take() {
        let mut stdin = BufWriter::with_capacity(PIPE, stdin);
        match input(&mut stdin).and_then(|()| stdin.flush()) {
            // It ended early; its status says why.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        // What it did not take is of no use to anybody.
        drop(stdin.into_parts());
    }
    let output = child.wait_with_output().map_err(failed)?;
    judge(program, output.status, &output.stderr)?;
    Ok(output)
}

/// Runs a tool that takes no input to its end, and gives each line that it prints to a function.
fn run_lines(program: &str, mut take: impl FnMut(&str)) -> Result<(), ToolError> {
    let mut child = start(program, &[])?;
    let failed = ToolError::start(program);
    drop(child.stdin.take());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let complaints = thread::scope(|scope| {
        // What it complains of is taken at the same time: it would wait for ever for room in a full pipe.
        let complaints = scope.spawn(|| {
            let mut text = Vec::new();
            stderr.map_or(Ok(0), |mut stderr| stderr.read_to_end(&mut text)).map(|_| text)
        });
        let mut line = Vec::new();
        if let Some(stdout) = stdout {
            let mut lines = BufReader::with_capacity(PIPE, stdout);
            while lines.read_until(b'\n', &mut line)? > 0 {
                take(String::from_utf8_lossy(&line).trim_end_matches('\n'));
                line.clear();
            }
        }
        complaints.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let status = child.wait().map_err(failed)?;
    judge(program, status, &complaints.map_err(failed)?)
}

fn start(program: &str, arguments: &[&str]) -> Result<Child, ToolError> {
    let failed = ToolError::start(program);
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A tool that outlived us could write after the next process has read.
    let_die_with_us(&mut command).map_err(failed)?;
    command.spawn().map_err(failed)
}

/// How a tool ended, and what it said of it.
fn judge(program: &str, status: ExitStatus, complaints: &[u8]) -> Result<(), ToolError> {
    if status.success() {
        return Ok(());
    }
    let lines = String::from_utf8_lossy(complaints);
    let lines: Vec<&str> =
        lines.lines().filter(|line| !line.starts_with("Try `") && !line.is_empty()).collect();
    Err(ToolError::Status { tool: program.to_owned(), status, message: lines.join("; ") })
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

impl ToolError {
    /// What became of a tool that could not be started, or not be talked to.
    fn start(program: &str) -> impl Fn(io::Error) -> Self + Copy {
        move |source| Self::Start { tool: program.to_owned(), source }
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
