//! What is wanted of us, in the words of tini, dumb-init or catatonit.

use crate::kernel::{Arguments, ERROR, OUTPUT, Stream, write};
use crate::options::{Options, Wrong};
use crate::system::Signal;
use crate::text::{Line, SIGNALS, bytes, number};

const TINI: &str = concat!("tini version 0.19.0 - fairlead ", env!("CARGO_PKG_VERSION"));
const DUMB_INIT: &str = concat!("dumb-init v1.2.5-fairlead-", env!("CARGO_PKG_VERSION"));
const CATATONIT: &str = concat!("tini version 0.1.7_catatonit - fairlead ", env!("CARGO_PKG_VERSION"));
const LICENSE: &str =
    "Fairlead is licensed under the Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0";

const TINI_HELP: &str = " [options] [--] command [argument...]
  Starts a command, passes signals on to it, reaps what is orphaned, and ends as the command does.

  --version    the version, if it is the only argument
  -h           this help
  -l           the licence
  -s           adopt orphans without being process 1 (or TINI_SUBREAPER in the environment)
  -p SIGNAL    have SIGNAL (SIGTERM, SIGKILL...) sent to us when our parent ends
  -g           pass signals on to the command's process group (or TINI_KILL_PROCESS_GROUP in the environment)
  -e CODE      end with 0 where the command ends with CODE; may be repeated
  -w           warn of each orphan that is reaped
  -v           say what happens; -vv and -vvv say more (TINI_VERBOSITY=1 is the default)
";
const DUMB_INIT_HELP: &str = " [options] command [argument...]
  Starts a command in a session of its own, passes signals on to all of it, and ends as the command does.

  -c, --single-child   no session; pass signals on to the command alone (or DUMB_INIT_SETSID=0)
  -r, --rewrite S:R    pass on signal number R for S, nothing if R is 0; may be repeated
  -v, --verbose        say what happens (or DUMB_INIT_DEBUG=1)
  -h, --help           this help
  -V, --version        the version
";
const CATATONIT_HELP: &str = " [-ghLPV] [--] command [argument...]
  Starts a command, passes signals on to it, reaps what is orphaned, and ends as the command does.

  -g               pass signals on to the command's process group
  -P               start no command: reap until SIGINT or SIGTERM
  -h               this help
  -L               the licence
  -V, --version    the version
";

/// Whose manners we have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    Tini,
    DumbInit,
    Catatonit,
}

/// Who gets the signals that we get.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// The command's first process.
    Child,
    /// Its process group, which in dumb-init's manner is a session as well.
    Group,
}

/// What there is to do.
#[derive(Clone, Copy)]
pub(crate) enum Task {
    Run(Command),
    /// Nothing but to reap, until somebody ends us.
    Hold,
}

/// A program with its arguments, as the kernel left them to us and takes them again.
#[derive(Clone, Copy)]
pub(crate) struct Command {
    pub(crate) words: *const *const u8,
    pub(crate) environment: *const *const u8,
}

/// What is wanted of us.
pub(crate) struct Wanted {
    pub(crate) face: Face,
    pub(crate) task: Task,
    pub(crate) receiver: Receiver,
    /// How much to say: from 1, warnings, in tini's manner to 4; from 2 on everything, in dumb-init's.
    pub(crate) verbosity: isize,
    pub(crate) adopts_orphans: bool,
    pub(crate) warns_of_orphans: bool,
    /// The signal that tells us of our parent's end.
    pub(crate) parent_signal: Option<Signal>,
    /// The exit codes that count as none, a bit each.
    pub(crate) forgiven: [u64; 4],
    /// The signal that is passed on instead of one, 0 for none.
    pub(crate) rewritten: [Option<Signal>; 32],
}

/// That everything is said, and which exit code remains.
pub(crate) struct Said(pub(crate) usize);

impl From<Wrong> for Said {
    fn from(Wrong: Wrong) -> Self {
        Self(1)
    }
}

/// What the command line and the environment want of us.
pub(crate) fn wanted(mut arguments: Arguments) -> Result<Wanted, Said> {
    let environment = arguments.next.wrapping_add(arguments.left + 1);
    let program = arguments.next().map_or(&b"init"[..], bytes);
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let wanted = Wanted {
        face: Face::Tini,
        task: Task::Hold,
        receiver: Receiver::Child,
        verbosity: 1,
        adopts_orphans: false,
        warns_of_orphans: false,
        parent_signal: None,
        forgiven: [0; 4],
        rewritten: [None; 32],
    };
    match name {
        b"dumb-init" => dumb_init(wanted, program, arguments, environment),
        b"catatonit" => catatonit(wanted, program, arguments, environment),
        _ => tini(wanted, program, arguments, environment),
    }
}

fn tini(
    mut wanted: Wanted,
    program: &'static [u8],
    arguments: Arguments,
    environment: *const *const u8,
) -> Result<Wanted, Said> {
    let only = arguments.clone().next().map_or(&b""[..], bytes);
    if arguments.left == 1 && only == b"--version" {
        return Err(told(TINI, OUTPUT));
    }
    let mut options = Options::of(program, arguments, b"hlsp:ge:wv", &[]);
    for option in &mut options {
        let Ok((letter, value)) = option else { return Err(usage(program, TINI_HELP, ERROR, 1)) };
        match letter {
            b'h' => return Err(usage(program, TINI_HELP, OUTPUT, 0)),
            b'l' => return Err(told(LICENSE, OUTPUT)),
            b's' => wanted.adopts_orphans = true,
            b'p' => wanted.parent_signal = Some(signal(value).ok_or_else(|| no_value("-p", value))?),
            b'g' => wanted.receiver = Receiver::Group,
            b'e' => forgive(&mut wanted.forgiven, value).ok_or_else(|| no_value("-e", value))?,
            b'w' => wanted.warns_of_orphans = true,
            _ => wanted.verbosity += 1,
        }
    }
    wanted.adopts_orphans |= variable(environment, b"TINI_SUBREAPER").is_some();
    if variable(environment, b"TINI_KILL_PROCESS_GROUP").is_some() {
        wanted.receiver = Receiver::Group;
    }
    if let Some(verbosity) = variable(environment, b"TINI_VERBOSITY") {
        wanted.verbosity = number(verbosity).0;
    }
    wanted.task = command(&options.rest(), environment).ok_or_else(|| usage(program, TINI_HELP, ERROR, 1))?;
    Ok(wanted)
}

fn dumb_init(
    mut wanted: Wanted,
    program: &'static [u8],
    arguments: Arguments,
    environment: *const *const u8,
) -> Result<Wanted, Said> {
    const LONG: &[(&[u8], u8)] = &[
        (b"help", b'h'),
        (b"rewrite", b'r'),
        (b"single-child", b'c'),
        (b"verbose", b'v'),
        (b"version", b'V'),
    ];
    let mut options = Options::of(program, arguments, b"hcr:vV", LONG);
    wanted.face = Face::DumbInit;
    wanted.receiver = Receiver::Group;
    for option in &mut options {
        let (letter, value) = option?;
        match letter {
            b'h' => return Err(usage(program, DUMB_INIT_HELP, ERROR, 0)),
            b'V' => return Err(told(DUMB_INIT, ERROR)),
            b'c' => wanted.receiver = Receiver::Child,
            b'r' => rewrite(&mut wanted.rewritten, value).ok_or_else(|| no_value("-r", value))?,
            _ => wanted.verbosity = 2,
        }
    }
    wanted.task =
        command(&options.rest(), environment).ok_or_else(|| usage(program, DUMB_INIT_HELP, ERROR, 1))?;
    if variable(environment, b"DUMB_INIT_DEBUG") == Some(b"1") {
        wanted.verbosity = 2;
        write(ERROR, b"[dumb-init] Running in debug mode.\n");
    }
    if variable(environment, b"DUMB_INIT_SETSID") == Some(b"0") {
        wanted.receiver = Receiver::Child;
        if wanted.verbosity == 2 {
            write(ERROR, b"[dumb-init] Not running in setsid mode.\n");
        }
    }
    Ok(wanted)
}

fn catatonit(
    mut wanted: Wanted,
    program: &'static [u8],
    arguments: Arguments,
    environment: *const *const u8,
) -> Result<Wanted, Said> {
    let mut options = Options::of(program, arguments, b"ghLPV", &[(b"version", b'V')]);
    wanted.face = Face::Catatonit;
    let mut holds = false;
    for option in &mut options {
        let Ok((letter, _)) = option else { return Err(usage(program, CATATONIT_HELP, ERROR, 1)) };
        match letter {
            b'g' => wanted.receiver = Receiver::Group,
            b'h' => return Err(usage(program, CATATONIT_HELP, ERROR, 0)),
            b'L' => return Err(told(LICENSE, OUTPUT)),
            b'P' => holds = true,
            _ => return Err(told(CATATONIT, OUTPUT)),
        }
    }
    if !holds {
        let command = command(&options.rest(), environment);
        wanted.task = command.ok_or_else(|| usage(program, CATATONIT_HELP, ERROR, 1))?;
    }
    Ok(wanted)
}

fn command(words: &Arguments, environment: *const *const u8) -> Option<Task> {
    (words.left > 0).then_some(Task::Run(Command { words: words.next, environment }))
}

fn told(what: &str, stream: Stream) -> Said {
    Line::new().text(what).end(stream);
    Said(0)
}

fn usage(program: &[u8], help: &str, stream: Stream, code: usize) -> Said {
    write(stream, b"usage: ");
    write(stream, program);
    write(stream, help.as_bytes());
    Said(code)
}

fn no_value(option: &str, value: &[u8]) -> Said {
    Line::new().text("not a value for ").text(option).text(": ").bytes(value).end(ERROR);
    Said(1)
}

/// A signal by its whole name.
fn signal(name: &[u8]) -> Option<Signal> {
    let name = name.strip_prefix(b"SIG").filter(|name| !name.is_empty())?;
    SIGNALS.iter().position(|(known, _)| known.as_bytes() == name).map(|index| index + 1)
}

fn forgive(forgiven: &mut [u64; 4], code: &[u8]) -> Option<()> {
    let (code, rest) = number(code);
    let code = usize::try_from(code).ok().filter(|_| rest.is_empty())?;
    *forgiven.get_mut(code / 64)? |= 1 << (code % 64);
    Some(())
}

fn rewrite(rewritten: &mut [Option<Signal>; 32], pair: &[u8]) -> Option<()> {
    let (from, rest) = number(pair);
    let (to, _) = number(rest.strip_prefix(b":").filter(|to| to.last().is_some())?);
    let from = usize::try_from(from).ok().filter(|from| *from > 0)?;
    let to = usize::try_from(to).ok().filter(|to| *to < 32)?;
    *rewritten.get_mut(from)? = Some(to);
    Some(())
}

/// What the environment says of a name.
pub(crate) fn variable(mut environment: *const *const u8, name: &[u8]) -> Option<&'static [u8]> {
    loop {
        // SAFETY: the environment ends with a null, and nothing behind it is read.
        let entry = unsafe { environment.read() };
        if entry.is_null() {
            return None;
        }
        if let Some([b'=', value @ ..]) = bytes(entry).strip_prefix(name) {
            return Some(value);
        }
        environment = environment.wrapping_add(1);
    }
}
