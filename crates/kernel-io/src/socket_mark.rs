//! The mark of a socket, which all packets that it sends carry.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

#[expect(clippy::cast_possible_truncation, reason = "it is 4")]
const SIZE: libc::socklen_t = size_of::<u32>() as libc::socklen_t;

/// Marks what a socket sends from now on. Needs `CAP_NET_ADMIN`.
#[expect(unsafe_code, reason = "rustix has no call for SO_MARK")]
pub fn set(socket: impl AsFd, mark: u32) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open as long as the borrow, and pointer and size are those of `mark`, which the
    // kernel only reads.
    let answer =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_MARK, (&raw const mark).cast(), SIZE) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
