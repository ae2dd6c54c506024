//! `init`: a container's process 1. It starts a command, passes signals on to it, reaps what is orphaned, and ends as
//! the command does.
//!
//! By the name that it is called by it has the command line, the exit codes and the messages of tini (also as
//! `docker-init`), dumb-init or catatonit.
//!
//! As in `pause` there is no libc and no allocator. Nor is there a handler: the signals are held back, and awaited one
//! by one.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "without libc, the entry point and every system call are ours to write")]

mod child;
#[path = "../../pause/src/kernel.rs"]
mod kernel;
mod memory;
mod options;
mod system;
mod text;
mod wanted;

use child::Before;
use kernel::{Arguments, ERROR, OUTPUT, exit, own_pid};
use system::{
    Disposition, Ended, Errno, Process, Signal, Signals, adopt_orphans, adopts_orphans, awaited,
    change_directory, close_files, dispose, hear_of_parent, hold_back, kill, leave_terminal, own_session,
    reaped,
};
use text::{Line, bytes, words};
use wanted::{Face, Receiver, Said, Task, Wanted};

const HANG_UP: Signal = 1;
const INTERRUPT: Signal = 2;
const TERMINATE: Signal = 15;
const CHILD: Signal = 17;
const CONTINUE: Signal = 18;
const STOP: Signal = 19;
/// The three that a terminal stops a job with.
const STOP_KEY: Signal = 20;
const INPUT_STOP: Signal = 21;
const OUTPUT_STOP: Signal = 22;

/// All but what the kernel tells a process of its own faults.
const FROM_OTHERS: Signals =
    Signals::ALL.without(4).without(5).without(6).without(7).without(8).without(11).without(31);

extern "C" fn main(stack: *const usize) -> ! {
    match wanted::wanted(Arguments::on(stack)) {
        Ok(wanted) => exit(Init::of(wanted).run()),
        Err(Said(code)) => exit(code),
    }
}

/// A process that looks after another.
struct Init {
    wanted: Wanted,
    signals: Signals,
    /// Signals that the kernel sent because we left the terminal: a bit each, up to the next of its kind.
    hand_off: u32,
    /// The command's first process.
    child: Process,
}

impl Init {
    fn of(wanted: Wanted) -> Self {
        let signals = match wanted.face {
            Face::Tini => FROM_OTHERS.without(INPUT_STOP).without(OUTPUT_STOP),
            Face::DumbInit => Signals::ALL,
            Face::Catatonit => FROM_OTHERS,
        };
        Self { wanted, signals, hand_off: 0, child: 0 }
    }

    /// Runs the command; the exit code.
    fn run(&mut self) -> usize {
        // Whoever started us may ignore SIGCHLD, and then the kernel tells nobody how a child ended.
        dispose(CHILD, Disposition::DEFAULT);
        let mut before = Before {
            held_back: hold_back(self.signals),
            input_stop: Disposition::DEFAULT,
            output_stop: Disposition::DEFAULT,
        };
        if self.wanted.face == Face::Tini {
            before.input_stop = dispose(INPUT_STOP, Disposition::IGNORE);
            before.output_stop = dispose(OUTPUT_STOP, Disposition::IGNORE);
        }
        if let Err(Said(code)) = self.prepare() {
            return code;
        }
        if let Task::Run(command) = self.wanted.task {
            match child::start(&self.wanted, command, &before) {
                Ok(child) => self.child = child,
                Err(errno) => {
                    Line::new().text("fork failed: ").error(errno).end(ERROR);
                    return 1;
                }
            }
            self.tell_of_start(command);
        }
        self.let_go();
        loop {
            let signal = awaited(self.signals);
            if let Some(code) = self.receive(signal).or_else(|| self.reap()) {
                return code;
            }
        }
    }

    /// What is to be done before the child is there.
    fn prepare(&mut self) -> Result<(), Said> {
        match self.wanted.face {
            Face::Tini => self.prepare_tini(),
            Face::DumbInit if self.wanted.receiver == Receiver::Group => {
                self.leave_terminal();
                Ok(())
            }
            Face::DumbInit => Ok(()),
            Face::Catatonit if own_pid() == 1 => Ok(()),
            Face::Catatonit => adopt_orphans().map(drop).map_err(|errno| {
                Line::new().text("failed to adopt orphans: ").error(errno).end(ERROR);
                Said(1)
            }),
        }
    }

    fn prepare_tini(&self) -> Result<(), Said> {
        let fatal = |what: &str, errno| {
            self.tini("FATAL", 0, &|line| line.text(what).error(errno));
            Said(1)
        };
        if let Some(signal) = self.wanted.parent_signal {
            hear_of_parent(signal).map_err(|errno| fatal("Failed to set up parent death signal: ", errno))?;
        }
        if self.wanted.adopts_orphans {
            adopt_orphans().map_err(|errno| fatal("Failed to register as child subreaper: ", errno))?;
            self.tini("TRACE", 4, &|line| line.text("Registered as child subreaper"));
        }
        if own_pid() != 1 && !adopts_orphans() {
            self.tini("WARN ", 1, &|line| {
                line.text("Tini is not running as PID 1 and isn't registered as a child subreaper.\n")
                    .text("Orphans go to another process and stay zombies unless it reaps them: ")
                    .text("use -s, set TINI_SUBREAPER, or run Tini as PID 1.")
            });
        }
        Ok(())
    }

    /// Gives the terminal up, so that the child's session can take it.
    fn leave_terminal(&mut self) {
        match leave_terminal() {
            Err(errno) if self.wanted.verbosity > 1 => {
                child::no_terminal("Unable to detach from controlling tty (errno=", errno, ").");
            }
            Err(_) => {}
            // The kernel then hangs up our process group and wakes it, which does not concern the child.
            Ok(_) if own_session() == Ok(own_pid()) => {
                self.dumb_init(&|line| {
                    line.text("Detached from controlling tty, ")
                        .text("ignoring the first SIGHUP and SIGCONT we receive.")
                });
                self.hand_off = 1 << HANG_UP | 1 << CONTINUE;
            }
            Ok(_) => {
                self.dumb_init(&|line| {
                    line.text("Detached from controlling tty, but was not session leader.")
                });
            }
        }
    }

    fn tell_of_start(&self, command: wanted::Command) {
        // SAFETY: a command has at least one word.
        let name = bytes(unsafe { command.words.read() });
        self.tini("INFO ", 2, &|line| {
            line.text("Spawned child process '").bytes(name).text("' with pid '").number(self.child).text("'")
        });
        self.dumb_init(&|line| line.text("Child spawned with PID ").number(self.child).text("."));
    }

    /// Lets go of what the child alone needs.
    fn let_go(&self) {
        match self.wanted.face {
            Face::Tini => {}
            Face::DumbInit => drop(change_directory(c"/")),
            Face::Catatonit => close_files(),
        }
    }

    /// Does what a signal asks for; an exit code, if it ends us.
    fn receive(&mut self, signal: Signal) -> Option<usize> {
        self.dumb_init(&|line| line.text("Received signal ").number(signal.cast_signed()).text("."));
        let hand_off = 1_u32.checked_shl(u32::try_from(signal).ok()?).unwrap_or(0) & self.hand_off;
        let stops = (STOP_KEY..=OUTPUT_STOP).contains(&signal);
        match (self.wanted.face, self.wanted.task) {
            (Face::Tini, _) if signal == CHILD => {
                self.tini("DEBUG", 3, &|line| line.text("Received SIGCHLD"));
            }
            (Face::DumbInit | Face::Catatonit, _) if signal == CHILD => {}
            (_, Task::Hold) => return (signal == INTERRUPT || signal == TERMINATE).then_some(0),
            (Face::Tini, Task::Run(_)) => {
                self.tini("DEBUG", 3, &|line| line.text("Passing signal: '").text(words(signal)).text("'"));
                return self.pass_on(signal);
            }
            (Face::DumbInit, Task::Run(_)) if hand_off != 0 => {
                self.hand_off &= !hand_off;
                self.dumb_init(&|line| {
                    line.text("Ignoring tty hand-off signal ").number(signal.cast_signed()).text(".")
                });
            }
            (Face::DumbInit, Task::Run(_)) => {
                self.pass_on_rewritten(signal);
                if stops {
                    self.dumb_init(&|line| line.text("Suspending self due to TTY signal."));
                    kill(own_pid(), STOP).ok();
                }
            }
            (Face::Catatonit, Task::Run(_)) if stops => {}
            (Face::Catatonit, Task::Run(_)) => drop(self.pass_on(signal)),
        }
        None
    }

    /// Passes a signal on; the exit code, where tini would end over it.
    fn pass_on(&self, signal: Signal) -> Option<usize> {
        match kill(self.receiver(), signal) {
            Ok(_) => None,
            Err(Errno::NO_PROCESS) => {
                self.tini("WARN ", 1, &|line| line.text("Child was dead when forwarding signal"));
                None
            }
            Err(errno) => {
                self.tini("FATAL", 0, &|line| {
                    line.text("Unexpected error when forwarding signal: '").error(errno).text("'")
                });
                Some(1)
            }
        }
    }

    fn pass_on_rewritten(&self, signal: Signal) {
        let stops = self.wanted.receiver == Receiver::Group && (STOP_KEY..=OUTPUT_STOP).contains(&signal);
        let rewritten = self.wanted.rewritten.get(signal).copied().flatten();
        let instead = rewritten.or(stops.then_some(STOP));
        if let Some(instead) = instead {
            let (from, to) = (signal.cast_signed(), instead.cast_signed());
            self.dumb_init(&|line| {
                line.text("Translating signal ").number(from).text(" to ").number(to).text(".")
            });
        }
        let signal = instead.unwrap_or(signal);
        let number = signal.cast_signed();
        if signal == 0 {
            self.dumb_init(&|line| {
                line.text("Not forwarding signal ").number(number).text(" to children (ignored).")
            });
        } else {
            kill(self.receiver(), signal).ok();
            self.dumb_init(&|line| line.text("Forwarded signal ").number(number).text(" to children."));
        }
    }

    fn receiver(&self) -> Process {
        match self.wanted.receiver {
            Receiver::Child => self.child,
            Receiver::Group => -self.child,
        }
    }

    /// Takes away all who are dead; the exit code, if the child is among them.
    fn reap(&self) -> Option<usize> {
        let mut code = None;
        loop {
            match reaped() {
                Ok(Some((process, ended))) => {
                    self.tell_of_end(process, ended);
                    if process == self.child {
                        code = Some(self.end(ended));
                    }
                    // dumb-init leaves the rest to whoever ends the container.
                    if code.is_some() && self.wanted.face == Face::DumbInit {
                        return code;
                    }
                }
                Ok(None) => {
                    self.tini("TRACE", 4, &|line| line.text("No child to reap"));
                    break;
                }
                Err(Errno::NO_CHILD) => {
                    self.tini("TRACE", 4, &|line| line.text("No child to wait"));
                    break;
                }
                Err(_) => break,
            }
        }
        if code.is_some() {
            self.tini("TRACE", 4, &|line| line.text("Exiting: child has exited"));
        }
        code
    }

    fn tell_of_end(&self, process: Process, ended: Ended) {
        self.tini("DEBUG", 3, &|line| line.text("Reaped child with pid: '").number(process).text("'"));
        let is_child = process == self.child;
        match ended {
            Ended::Exited(code) => {
                let code = code.cast_signed();
                self.dumb_init(&|line| {
                    line.text("A child with PID ")
                        .number(process)
                        .text(" exited with exit status ")
                        .number(code);
                    line.text(".")
                });
                self.tini("INFO ", if is_child { 2 } else { NEVER }, &|line| {
                    line.text("Main child exited normally (with status '").number(code).text("')")
                });
            }
            Ended::Signalled(signal) => {
                self.dumb_init(&|line| {
                    line.text("A child with PID ").number(process).text(" was terminated by signal ");
                    line.number(signal.cast_signed()).text(".")
                });
                self.tini("INFO ", if is_child { 2 } else { NEVER }, &|line| {
                    line.text("Main child exited with signal (with signal '").text(words(signal)).text("')")
                });
            }
        }
        if self.wanted.warns_of_orphans && !is_child {
            self.tini("WARN ", 1, &|line| line.text("Reaped zombie process with pid=").number(process));
        }
    }

    /// What the child's end makes of us.
    fn end(&self, ended: Ended) -> usize {
        let code = ended.code();
        if self.wanted.face == Face::DumbInit {
            self.pass_on_rewritten(TERMINATE);
            self.dumb_init(&|line| {
                line.text("Child exited with status ").number(code.cast_signed()).text(". Goodbye.")
            });
        }
        let forgiven = self.wanted.forgiven.get(code / 64).is_some_and(|bits| bits >> (code % 64) & 1 == 1);
        if forgiven { 0 } else { code }
    }

    /// In tini's manner, says something that belongs to a level: warnings on standard error, the rest on output.
    #[inline(never)]
    fn tini(&self, name: &str, level: isize, say: &dyn Fn(&mut Line) -> &mut Line) {
        if self.wanted.face == Face::Tini && self.wanted.verbosity >= level {
            let mut line = Line::new();
            say(line.text("[").text(name).text(" tini (").number(own_pid()).text(")] "));
            line.end(if level <= 1 { ERROR } else { OUTPUT });
        }
    }

    /// In dumb-init's manner, says what happens, if that was asked for.
    #[inline(never)]
    fn dumb_init(&self, say: &dyn Fn(&mut Line) -> &mut Line) {
        if self.wanted.face == Face::DumbInit && self.wanted.verbosity > 1 {
            let mut line = Line::new();
            say(line.text("[dumb-init] "));
            line.end(ERROR);
        }
    }
}

/// A level that nobody asks for.
const NEVER: isize = isize::MAX;
