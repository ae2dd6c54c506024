//! The kernel as a program without libc meets it: where it enters, what it leaves on the stack, how it is asked.
//! `pause` and `init` have it in common.

use core::arch::{asm, naked_asm};
use core::panic::PanicInfo;

/// The exit code of what cannot happen: a sleep without end that ends, a panic.
pub(crate) const UNREACHABLE: usize = 42;

pub(crate) type Stream = usize;
pub(crate) const OUTPUT: Stream = 1;
pub(crate) const ERROR: Stream = 2;

/// The numbers of the system calls that both make.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(crate) const WRITE: usize = 1;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const EXIT_GROUP: usize = 231;
}

/// The numbers of the system calls that both make.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(crate) const WRITE: usize = 64;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const GETPID: usize = 172;
}

/// Where the kernel enters, with the argument count and the arguments on top of the stack.
///
/// # Safety
/// Only the kernel may enter here, on a fresh stack.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("xor ebp, ebp", "mov rdi, rsp", "call {main}", main = sym crate::main);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x29, xzr", "mov x30, xzr", "mov x0, sp", "b {main}", main = sym crate::main);
}

/// The arguments as the kernel left them: their count, then a pointer to each.
#[derive(Clone)]
pub(crate) struct Arguments {
    pub(crate) next: *const *const u8,
    pub(crate) left: usize,
}

impl Arguments {
    pub(crate) fn on(stack: *const usize) -> Self {
        // SAFETY: `stack` is the stack pointer at entry, where the kernel has put the count.
        let left = unsafe { stack.read() };
        Self { next: stack.wrapping_add(1).cast(), left }
    }
}

impl Iterator for Arguments {
    type Item = *const u8;

    fn next(&mut self) -> Option<*const u8> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: `left` was not zero, so `next` is still within the kernel's array.
        let argument = unsafe { self.next.read() };
        self.next = self.next.wrapping_add(1);
        Some(argument)
    }
}

/// Writes a text, as far as the stream takes it: it may be closed, and there is nobody to tell.
pub(crate) fn write(stream: Stream, text: &[u8]) {
    // SAFETY: `write` reads `text.len()` bytes at `text`, which outlives the call.
    unsafe { system_call(number::WRITE, [stream, text.as_ptr().addr(), text.len(), 0]) };
}

pub(crate) fn own_pid() -> isize {
    // SAFETY: `getpid` takes no argument and touches no memory.
    unsafe { system_call(number::GETPID, [0; 4]) }
}

pub(crate) fn exit(code: usize) -> ! {
    loop {
        // SAFETY: `exit_group` touches no memory and does not return.
        unsafe { system_call(number::EXIT_GROUP, [code, 0, 0, 0]) };
    }
}

/// # Safety
/// The arguments must be what the system call of that number expects, and memory that they point to must be there.
pub(crate) unsafe fn system_call(number: usize, [first, second, third, fourth]: [usize; 4]) -> isize {
    let answer;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel's calling convention; it changes rax, rcx and r11, and only memory that the caller vouches for.
    unsafe {
        asm!("syscall", inlateout("rax") number => answer, in("rdi") first, in("rsi") second, in("rdx") third,
            in("r10") fourth, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel's calling convention; it changes x0, and only memory that the caller vouches for.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") first => answer, in("x1") second, in("x2") third,
            in("x3") fourth, options(nostack));
    }
    answer
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    exit(UNREACHABLE)
}
