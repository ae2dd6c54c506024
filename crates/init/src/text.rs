//! Texts without an allocator: what C left, lines for a person, and the words for signals and errors.

use crate::kernel::{Stream, write};
use crate::system::{Errno, Signal};

/// A line that is put together and written at once; what does not fit is left out.
pub(crate) struct Line {
    bytes: [u8; 1024],
    length: usize,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; 1024], length: 0 }
    }

    #[inline(never)]
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    #[inline(never)]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        for (free, byte) in self.bytes.iter_mut().skip(self.length).zip(bytes) {
            *free = *byte;
            self.length += 1;
        }
        self
    }

    #[inline(never)]
    pub(crate) fn number(&mut self, number: isize) -> &mut Self {
        if number < 0 {
            self.text("-");
        }
        let number = number.unsigned_abs();
        let mut unit = 1;
        while number / unit >= 10 {
            unit *= 10;
        }
        while unit > 0 {
            let digit = (number / unit % 10).to_le_bytes()[0];
            self.bytes(&[b'0' + digit]);
            unit /= 10;
        }
        self
    }

    #[inline(never)]
    pub(crate) fn error(&mut self, errno: Errno) -> &mut Self {
        match ERRORS.iter().find(|(number, _)| *number == errno.0) {
            Some((_, words)) => self.text(words),
            None => self.text("Unknown error ").number(errno.0),
        }
    }

    #[inline(never)]
    pub(crate) fn end(&mut self, stream: Stream) {
        self.text("\n");
        if let Some(line) = self.bytes.get(..self.length) {
            write(stream, line);
        }
    }
}

/// The bytes of a text that the kernel gave us, which ends with a zero and lives as long as we.
pub(crate) fn bytes(text: *const u8) -> &'static [u8] {
    let mut length = 0;
    // SAFETY: the kernel ends every argument and variable with a zero, and nothing before it is passed.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    // SAFETY: `length` bytes were just read; they lie on the stack that the kernel made, and nobody changes them.
    unsafe { core::slice::from_raw_parts(text, length) }
}

/// A whole number with a sign at most, after white space at most, and what is behind it.
pub(crate) fn number(text: &[u8]) -> (isize, &[u8]) {
    let text = text.trim_ascii_start();
    let (sign, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix(b"+").unwrap_or(text)),
    };
    let mut found: isize = 0;
    let mut rest = digits;
    while let [digit @ b'0'..=b'9', behind @ ..] = rest {
        found = found.saturating_mul(10).saturating_add(isize::from(digit - b'0'));
        rest = behind;
    }
    (found * sign, rest)
}

/// By their names without `SIG`, in their order from 1 on, each with the words that a shell has for it.
pub(crate) const SIGNALS: [(&str, &str); 31] = [
    ("HUP", "Hangup"),
    ("INT", "Interrupt"),
    ("QUIT", "Quit"),
    ("ILL", "Illegal instruction"),
    ("TRAP", "Trace/breakpoint trap"),
    ("ABRT", "Aborted"),
    ("BUS", "Bus error"),
    ("FPE", "Floating point exception"),
    ("KILL", "Killed"),
    ("USR1", "User defined signal 1"),
    ("SEGV", "Segmentation fault"),
    ("USR2", "User defined signal 2"),
    ("PIPE", "Broken pipe"),
    ("ALRM", "Alarm clock"),
    ("TERM", "Terminated"),
    ("", "Stack fault"),
    ("CHLD", "Child exited"),
    ("CONT", "Continued"),
    ("STOP", "Stopped (signal)"),
    ("TSTP", "Stopped"),
    ("TTIN", "Stopped (tty input)"),
    ("TTOU", "Stopped (tty output)"),
    ("URG", "Urgent I/O condition"),
    ("XCPU", "CPU time limit exceeded"),
    ("XFSZ", "File size limit exceeded"),
    ("VTALRM", "Virtual timer expired"),
    ("PROF", "Profiling timer expired"),
    ("WINCH", "Window changed"),
    ("", "I/O possible"),
    ("", "Power failure"),
    ("SYS", "Bad system call"),
];

/// The words for a signal.
pub(crate) fn words(signal: Signal) -> &'static str {
    let named = signal.checked_sub(1).and_then(|index| SIGNALS.get(index));
    named.map_or("Real-time signal", |(_, words)| words)
}

/// What can go wrong when a program is started, in the words of libc.
const ERRORS: [(isize, &str); 16] = [
    (1, "Operation not permitted"),
    (2, "No such file or directory"),
    (5, "Input/output error"),
    (7, "Argument list too long"),
    (8, "Exec format error"),
    (9, "Bad file descriptor"),
    (11, "Resource temporarily unavailable"),
    (12, "Cannot allocate memory"),
    (13, "Permission denied"),
    (20, "Not a directory"),
    (21, "Is a directory"),
    (22, "Invalid argument"),
    (25, "Inappropriate ioctl for device"),
    (26, "Text file busy"),
    (36, "File name too long"),
    (40, "Too many levels of symbolic links"),
];
