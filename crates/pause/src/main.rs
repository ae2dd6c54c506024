//! `pause`: holds a pod's namespaces open, and reaps what is orphaned in its PID namespace.
//!
//! A drop-in for the Kubernetes pause container: the same arguments, messages, signals and exit codes. One thing is
//! better: a child that died before the handlers were in place is reaped too.
//!
//! There is no libc here and no allocator, only system calls that every runtime's default seccomp profile allows:
//! `ppoll`, `rt_sigaction`, `rt_sigreturn`, `wait4`, `write`, `getpid`, `exit_group`.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "without libc, the entry point and every system call are ours to write")]

use core::arch::naked_asm;

mod kernel;

use kernel::{Arguments, ERROR, OUTPUT, UNREACHABLE, exit, own_pid, system_call, write};

const VERSION: &str = concat!("pause.c v3.10.2-fairlead-", env!("CARGO_PKG_VERSION"), "\n");
const NOT_FIRST: &str = "Warning: pause should be the first process\n";
const INTERRUPTED: &str = "Shutting down, got signal: Interrupt\n";
const TERMINATED: &str = "Shutting down, got signal: Terminated\n";
const WOKEN: &str = "Error: infinite loop terminated\n";

extern "C" fn main(stack: *const usize) -> ! {
    if Arguments::on(stack).any(asks_for_version) {
        write(OUTPUT, VERSION.as_bytes());
        exit(0);
    }
    if own_pid() != 1 {
        write(ERROR, NOT_FIRST.as_bytes());
    }
    let handlers = [(INT, stop as Handler, 0), (TERM, stop, 0), (CHILD, reap, NO_CHILD_STOP)];
    for (failure, (signal, handler, flags)) in (1..).zip(handlers) {
        if install(signal, handler, flags) < 0 {
            exit(failure);
        }
    }
    reap(CHILD);
    while sleep() == INTERRUPTED_SLEEP {}
    write(ERROR, WOKEN.as_bytes());
    exit(UNREACHABLE)
}

/// On SIGINT and SIGTERM: says so, in the words of `psignal`, and leaves.
extern "C" fn stop(signal: Signal) {
    write(ERROR, if signal == INT { INTERRUPTED } else { TERMINATED }.as_bytes());
    exit(0);
}

/// On SIGCHLD, and once before any: one signal may stand for many children, so until none is left.
extern "C" fn reap(_: Signal) {
    while reaped_child() > 0 {}
}

/// Whether an argument is `-v` or `-V`; reads no byte behind its end.
fn asks_for_version(argument: *const u8) -> bool {
    let byte = |offset: usize| {
        // SAFETY: the kernel ends every argument with a zero, and the comparison below stops at the first byte that
        // differs, so at the zero at the latest.
        unsafe { argument.add(offset).read() }
    };
    byte(0) == b'-' && byte(1).eq_ignore_ascii_case(&b'v') && byte(2) == 0
}

// What the kernel is asked, and in which numbers.

type Signal = i32;
const INT: Signal = 2;
const TERM: Signal = 15;
const CHILD: Signal = 17;

type Handler = extern "C" fn(Signal);
/// `SA_NOCLDSTOP`: a stopped child is no dead child.
const NO_CHILD_STOP: usize = 1;
/// `SA_RESTORER`: a handler returns through the function that we name.
const RESTORER: usize = 0x0400_0000;

/// What `ppoll` answers after a signal: `-EINTR`.
const INTERRUPTED_SLEEP: isize = -4;
/// `WNOHANG`: do not wait for a child that lives.
const NO_HANG: usize = 1;

/// The numbers of the system calls.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(crate) const RT_SIGACTION: usize = 13;
    pub(crate) const RT_SIGRETURN: usize = 15;
    pub(crate) const WAIT4: usize = 61;
    pub(crate) const PPOLL: usize = 271;
}

/// The numbers of the system calls.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(crate) const PPOLL: usize = 73;
    pub(crate) const RT_SIGACTION: usize = 134;
    pub(crate) const RT_SIGRETURN: usize = 139;
    pub(crate) const WAIT4: usize = 260;
}

/// The kernel's `struct sigaction`, whose order is not that of libc.
#[repr(C)]
struct Action {
    handler: Handler,
    flags: usize,
    restorer: unsafe extern "C" fn() -> !,
    mask: u64,
}

fn install(signal: Signal, handler: Handler, flags: usize) -> isize {
    let action = Action { handler, flags: flags | RESTORER, restorer: return_from_signal, mask: 0 };
    let arguments = [signal.cast_unsigned() as usize, (&raw const action).addr(), 0, size_of::<u64>()];
    // SAFETY: `rt_sigaction` reads one `Action`, which outlives the call, and writes no old one; the handlers make
    // system calls only, so they may run at any moment.
    unsafe { system_call(number::RT_SIGACTION, arguments) }
}

/// Takes one dead child away; its PID, or nothing above zero if there is none.
fn reaped_child() -> isize {
    let any = usize::MAX;
    // SAFETY: without a place for the status and the usage, `wait4` touches no memory.
    unsafe { system_call(number::WAIT4, [any, 0, NO_HANG, 0]) }
}

/// Sleeps until a signal was handled: `ppoll` of nothing, without end (aarch64 has no `pause`).
fn sleep() -> isize {
    // SAFETY: with no descriptors, no time-out and no mask, `ppoll` touches no memory.
    unsafe { system_call(number::PPOLL, [0; 4]) }
}

/// Where a handler returns to.
///
/// # Safety
/// Only the kernel may send anybody here, with a signal frame on the stack.
#[unsafe(naked)]
unsafe extern "C" fn return_from_signal() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("mov eax, {number}", "syscall", number = const number::RT_SIGRETURN);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x8, {number}", "svc 0", number = const number::RT_SIGRETURN);
}
