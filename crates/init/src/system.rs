//! The system calls of a process that starts others, each safe to call.

use crate::kernel::system_call;

/// A process, or what the kernel takes for one: below zero it is a process group.
pub(crate) type Process = isize;
/// A signal by its number.
pub(crate) type Signal = usize;
/// Why the kernel refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) isize);

impl Errno {
    pub(crate) const NO_ENTRY: Self = Self(2);
    pub(crate) const NO_PROCESS: Self = Self(3);
    pub(crate) const NO_DEVICE_OR_ADDRESS: Self = Self(6);
    pub(crate) const NO_PROGRAM: Self = Self(8);
    pub(crate) const BAD_DESCRIPTOR: Self = Self(9);
    pub(crate) const NO_CHILD: Self = Self(10);
    pub(crate) const ACCESS: Self = Self(13);
    pub(crate) const NO_TERMINAL: Self = Self(25);
}

/// Signals as the kernel takes them.
#[derive(Clone, Copy)]
pub(crate) struct Signals(u64);

impl Signals {
    /// All, but the two that a libc keeps for itself; nobody can hold back SIGKILL and SIGSTOP.
    pub(crate) const ALL: Self = Self(!0b11 << 31 | 0x7fff_ffff);

    pub(crate) const fn without(self, signal: Signal) -> Self {
        Self(self.0 & !(1 << (signal - 1)))
    }

    pub(crate) const fn with(self, signal: Signal) -> Self {
        Self(self.0 | 1 << (signal - 1))
    }

    pub(crate) const NONE: Self = Self(0);
}

/// What becomes of a signal: the kernel's `struct sigaction`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Disposition {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

impl Disposition {
    pub(crate) const DEFAULT: Self = Self { handler: 0, flags: 0, restorer: 0, mask: 0 };
    pub(crate) const IGNORE: Self = Self { handler: 1, ..Self::DEFAULT };
}

/// How a process ended.
#[derive(Clone, Copy)]
pub(crate) enum Ended {
    Exited(usize),
    Signalled(Signal),
}

impl Ended {
    /// As a shell tells it.
    pub(crate) fn code(self) -> usize {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(signal) => 128 + signal,
        }
    }
}

/// Who we are after a fork.
pub(crate) enum Forked {
    Child,
    Parent(Process),
}

/// Sets which signals are held back; answers which were.
pub(crate) fn hold_back(signals: Signals) -> Signals {
    const SET: usize = 2;
    let mut before = Signals::NONE;
    let arguments = [SET, (&raw const signals).addr(), (&raw mut before).addr(), size_of::<Signals>()];
    // SAFETY: the kernel reads one set and writes another, which both outlive the call.
    unsafe { system_call(number::RT_SIGPROCMASK, arguments) };
    before
}

/// Sets what becomes of a signal; answers what did.
pub(crate) fn dispose(signal: Signal, new: Disposition) -> Disposition {
    let mut before = Disposition::DEFAULT;
    let arguments = [signal, (&raw const new).addr(), (&raw mut before).addr(), size_of::<u64>()];
    // SAFETY: the kernel reads one disposition and writes another, which both outlive the call; no handler of ours is
    // ever named.
    unsafe { system_call(number::RT_SIGACTION, arguments) };
    before
}

/// Waits for one of the signals, which must be held back.
pub(crate) fn awaited(signals: Signals) -> Signal {
    loop {
        let arguments = [(&raw const signals).addr(), 0, 0, size_of::<Signals>()];
        // SAFETY: the kernel reads a set that outlives the call; without places for more it writes nothing.
        let answer = unsafe { system_call(number::RT_SIGTIMEDWAIT, arguments) };
        if let Ok(signal) = usize::try_from(answer) {
            return signal;
        }
    }
}

/// Takes one dead child away, if there is one; else what there is instead.
pub(crate) fn reaped() -> Result<Option<(Process, Ended)>, Errno> {
    const ANY: usize = usize::MAX;
    const NO_HANG: usize = 1;
    let mut status: usize = 0;
    // SAFETY: the kernel writes four bytes to `status`, which outlives the call.
    let child = unsafe { system_call(number::WAIT4, [ANY, (&raw mut status).addr(), NO_HANG, 0]) };
    let ended = match status & 0x7f {
        0 => Ended::Exited(status >> 8 & 0xff),
        signal => Ended::Signalled(signal),
    };
    answered(child).map(|child| (child > 0).then_some((child, ended)))
}

pub(crate) fn fork() -> Result<Forked, Errno> {
    const CHILD_SIGNAL: usize = 17;
    // SAFETY: without a flag `clone` copies everything, so either side has memory of its own.
    let child = answered(unsafe { system_call(number::CLONE, [CHILD_SIGNAL, 0, 0, 0]) })?;
    Ok(if child == 0 { Forked::Child } else { Forked::Parent(child) })
}

/// Becomes another program; only failure comes back.
///
/// # Safety
/// The pointers are to a text with a zero, and to arrays of such with a null at the end.
pub(crate) unsafe fn execute(
    path: *const u8,
    arguments: *const *const u8,
    environment: *const *const u8,
) -> Errno {
    // SAFETY: the caller vouches for all that the kernel reads.
    Errno(-unsafe { system_call(number::EXECVE, [path.addr(), arguments.addr(), environment.addr(), 0]) })
}

/// Opens a terminal for reading and writing, not for who comes after.
pub(crate) fn open_terminal(path: &core::ffi::CStr) -> Result<isize, Errno> {
    const WORKING_DIRECTORY: usize = (-100_isize).cast_unsigned();
    const READ_WRITE_CLOSE: usize = 0o2_000_002;
    let arguments = [WORKING_DIRECTORY, path.as_ptr().addr(), READ_WRITE_CLOSE, 0];
    // SAFETY: the kernel reads the path up to its zero.
    answered(unsafe { system_call(number::OPENAT, arguments) })
}

pub(crate) fn change_directory(path: &core::ffi::CStr) -> Result<isize, Errno> {
    // SAFETY: the kernel reads the path up to its zero.
    answered(unsafe { system_call(number::CHDIR, [path.as_ptr().addr(), 0, 0, 0]) })
}

/// Makes a process group the one that a terminal listens to.
pub(crate) fn give_terminal(terminal: isize, group: Process) -> Result<isize, Errno> {
    const SET_PROCESS_GROUP: usize = 0x5410;
    let group = i32::try_from(group).unwrap_or_default();
    let arguments = [terminal.cast_unsigned(), SET_PROCESS_GROUP, (&raw const group).addr(), 0];
    // SAFETY: the kernel reads a number of four bytes, which outlives the call.
    answered(unsafe { system_call(number::IOCTL, arguments) })
}

pub(crate) fn kill(process: Process, signal: Signal) -> Result<isize, Errno> {
    plain(number::KILL, [process.cast_unsigned(), signal, 0, 0])
}

/// Makes us the first of a process group of our own.
pub(crate) fn lead_group() -> Result<isize, Errno> {
    plain(number::SETPGID, [0; 4])
}

/// Makes us the first of a session of our own.
pub(crate) fn lead_session() -> Result<isize, Errno> {
    plain(number::SETSID, [0; 4])
}

pub(crate) fn own_session() -> Result<isize, Errno> {
    plain(number::GETSID, [0; 4])
}

/// Makes the terminal on standard input our session's.
pub(crate) fn take_terminal() -> Result<isize, Errno> {
    const SET_CONTROLLING: usize = 0x540e;
    plain(number::IOCTL, [0, SET_CONTROLLING, 0, 0])
}

/// Lets go of the terminal on standard input.
pub(crate) fn leave_terminal() -> Result<isize, Errno> {
    const NO_CONTROLLING: usize = 0x5422;
    plain(number::IOCTL, [0, NO_CONTROLLING, 0, 0])
}

/// Has a signal sent to us when our parent ends.
pub(crate) fn hear_of_parent(signal: Signal) -> Result<isize, Errno> {
    const SET_PARENT_DEATH_SIGNAL: usize = 1;
    plain(number::PRCTL, [SET_PARENT_DEATH_SIGNAL, signal, 0, 0])
}

/// Has the orphans below us become our children.
pub(crate) fn adopt_orphans() -> Result<isize, Errno> {
    const SET_CHILD_SUBREAPER: usize = 36;
    plain(number::PRCTL, [SET_CHILD_SUBREAPER, 1, 0, 0])
}

/// Whether orphans below us become our children.
pub(crate) fn adopts_orphans() -> bool {
    const GET_CHILD_SUBREAPER: usize = 37;
    let mut answer = 0_usize;
    // SAFETY: the kernel writes four bytes to `answer`, which outlives the call.
    unsafe { system_call(number::PRCTL, [GET_CHILD_SUBREAPER, (&raw mut answer).addr(), 0, 0]) };
    answer == 1
}

/// Closes every file but the first three.
pub(crate) fn close_files() {
    plain(number::CLOSE_RANGE, [3, usize::MAX >> 32, 0, 0]).ok();
}

/// Asks by numbers alone.
fn plain(number: usize, arguments: [usize; 4]) -> Result<isize, Errno> {
    // SAFETY: every caller is a system call above that reads and writes no memory of ours.
    answered(unsafe { system_call(number, arguments) })
}

fn answered(answer: isize) -> Result<isize, Errno> {
    if answer < 0 { Err(Errno(-answer)) } else { Ok(answer) }
}

/// The numbers of the system calls.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const RT_SIGACTION: usize = 13;
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const IOCTL: usize = 16;
    pub(super) const CLONE: usize = 56;
    pub(super) const EXECVE: usize = 59;
    pub(super) const WAIT4: usize = 61;
    pub(super) const KILL: usize = 62;
    pub(super) const CHDIR: usize = 80;
    pub(super) const SETPGID: usize = 109;
    pub(super) const SETSID: usize = 112;
    pub(super) const GETSID: usize = 124;
    pub(super) const RT_SIGTIMEDWAIT: usize = 128;
    pub(super) const PRCTL: usize = 157;
    pub(super) const OPENAT: usize = 257;
    pub(super) const CLOSE_RANGE: usize = 436;
}

/// The numbers of the system calls.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const IOCTL: usize = 29;
    pub(super) const CHDIR: usize = 49;
    pub(super) const OPENAT: usize = 56;
    pub(super) const KILL: usize = 129;
    pub(super) const RT_SIGACTION: usize = 134;
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const RT_SIGTIMEDWAIT: usize = 137;
    pub(super) const SETPGID: usize = 154;
    pub(super) const GETSID: usize = 156;
    pub(super) const SETSID: usize = 157;
    pub(super) const PRCTL: usize = 167;
    pub(super) const CLONE: usize = 220;
    pub(super) const EXECVE: usize = 221;
    pub(super) const WAIT4: usize = 260;
    pub(super) const CLOSE_RANGE: usize = 436;
}
