//! What the child does before it becomes the command.

use crate::kernel::{ERROR, OUTPUT, exit, own_pid};
use crate::system::{
    Disposition, Errno, Forked, Process, Signals, dispose, execute, fork, give_terminal, hold_back,
    lead_group, lead_session, open_terminal, take_terminal,
};
use crate::text::{Line, bytes};
use crate::wanted::{Command, Face, Receiver, Wanted, variable};
use crate::{INPUT_STOP, OUTPUT_STOP, STOP_KEY};

/// How the signals were before us, for the child to have them so.
pub(crate) struct Before {
    pub(crate) held_back: Signals,
    pub(crate) input_stop: Disposition,
    pub(crate) output_stop: Disposition,
}

/// Starts the command.
pub(crate) fn start(wanted: &Wanted, command: Command, before: &Before) -> Result<Process, Errno> {
    match fork()? {
        Forked::Parent(child) => Ok(child),
        Forked::Child => match wanted.face {
            Face::Tini => as_tini(wanted, command, before),
            Face::DumbInit => as_dumb_init(wanted, command),
            Face::Catatonit => as_catatonit(command, before),
        },
    }
}

fn as_tini(wanted: &Wanted, command: Command, before: &Before) -> ! {
    let fatal = |what: &str, name: &[u8], errno: Errno, code| -> ! {
        let mut line = Line::new();
        line.text("[FATAL tini (").number(own_pid()).text(")] ").text(what).bytes(name).text(" failed: ");
        line.error(errno).end(ERROR);
        exit(code)
    };
    if let Err(errno) = lead_group() {
        fatal("setpgid", b"", errno, 1);
    }
    match give_terminal(0, own_pid()) {
        Err(Errno::NO_TERMINAL | Errno::NO_DEVICE_OR_ADDRESS) if wanted.verbosity > 2 => {
            let mut line = Line::new();
            line.text("[DEBUG tini (").number(own_pid()).text(")] tcsetpgrp failed: no tty (ok to proceed)");
            line.end(OUTPUT);
        }
        Ok(_) | Err(Errno::NO_TERMINAL | Errno::NO_DEVICE_OR_ADDRESS) => {}
        Err(errno) => fatal("tcsetpgrp", b"", errno, 1),
    }
    hold_back(before.held_back);
    dispose(INPUT_STOP, before.input_stop);
    dispose(OUTPUT_STOP, before.output_stop);
    let (name, errno) = execute_in_path(command);
    let code = match errno {
        Errno::NO_ENTRY => 127,
        Errno::ACCESS => 126,
        _ => 1,
    };
    fatal("exec ", name, errno, code)
}

fn as_dumb_init(wanted: &Wanted, command: Command) -> ! {
    for signal in 1..32 {
        dispose(signal, Disposition::DEFAULT);
    }
    hold_back(Signals::NONE);
    if wanted.receiver == Receiver::Group {
        if let Err(errno) = lead_session() {
            no_terminal("Unable to setsid (errno=", errno, "). Exiting.");
            exit(1);
        }
        if let Err(errno) = take_terminal().map(drop)
            && wanted.verbosity > 1
        {
            no_terminal("Unable to attach to controlling tty (errno=", errno, ").");
        }
        if wanted.verbosity > 1 {
            Line::new().text("[dumb-init] setsid complete.").end(ERROR);
        }
    }
    let (name, errno) = execute_in_path(command);
    Line::new().text("[dumb-init] ").bytes(name).text(": ").error(errno).end(ERROR);
    exit(2)
}

/// What dumb-init says of a terminal that it does not get.
pub(crate) fn no_terminal(what: &str, errno: Errno, end: &str) {
    Line::new().text("[dumb-init] ").text(what).number(errno.0).text(" ").error(errno).text(end).end(ERROR);
}

fn as_catatonit(command: Command, before: &Before) -> ! {
    let failed = |what: &str, errno: Errno| -> ! {
        let mut line = Line::new();
        line.text("ERROR (catatonit:")
            .number(own_pid())
            .text("): ")
            .text(what)
            .text(": ")
            .error(errno)
            .end(ERROR);
        exit(1)
    };
    if let Err(errno) = lead_group() {
        failed("failed to create process group", errno);
    }
    match give_terminal(open_terminal(c"/dev/tty").unwrap_or(0), own_pid()) {
        Ok(_) | Err(Errno::NO_TERMINAL | Errno::BAD_DESCRIPTOR | Errno::NO_DEVICE_OR_ADDRESS) => {}
        Err(errno) => failed("setting foreground process failed", errno),
    }
    hold_back(before.held_back.with(STOP_KEY).with(INPUT_STOP).with(OUTPUT_STOP));
    failed("failed to exec pid1", execute_in_path(command).1)
}

/// Becomes the command, looked for as `execvp` does; only failure comes back, with the command's name.
fn execute_in_path(command: Command) -> (&'static [u8], Errno) {
    // SAFETY: a command has at least one word.
    let first = unsafe { command.words.read() };
    let name = bytes(first);
    if name.is_empty() || name.contains(&b'/') {
        return (name, attempt(command, first));
    }
    let mut failure = Errno::NO_ENTRY;
    let folders = variable(command.environment, b"PATH").unwrap_or(b"/bin:/usr/bin");
    for folder in folders.split(|byte| *byte == b':') {
        let mut path = [0; 4096];
        let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
        let whole = folder.iter().chain(slash).chain(name);
        for (free, byte) in path.iter_mut().take(4095).zip(whole) {
            *free = *byte;
        }
        match attempt(command, path.as_ptr()) {
            Errno::ACCESS => failure = Errno::ACCESS,
            // Not there, or there no more: ENOENT, ENODEV, ENOTDIR, ETIMEDOUT, ESTALE.
            Errno(2 | 19 | 20 | 110 | 116) => {}
            errno => return (name, errno),
        }
    }
    (name, failure)
}

/// Becomes the program at a path; a file that is no program is a script for the shell.
fn attempt(command: Command, path: *const u8) -> Errno {
    // SAFETY: the path, the words and the environment are the kernel's or like them.
    let errno = unsafe { execute(path, command.words, command.environment) };
    if errno != Errno::NO_PROGRAM {
        return errno;
    }
    let shell = c"/bin/sh".as_ptr().cast::<u8>();
    let words = command.words.cast_mut();
    let before = words.wrapping_sub(1);
    // SAFETY: the array lies on the stack that the kernel made, which is ours to write, and before the command's
    // words there is our own name at least.
    unsafe { before.write(shell) };
    // SAFETY: likewise.
    unsafe { words.write(path) };
    // SAFETY: as above; the array now begins one word earlier.
    unsafe { execute(shell, before, command.environment) }
}
