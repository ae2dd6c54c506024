//! Entering a user namespace on the way to a program. The child does it, since a thread of ours cannot; and where a PID
//! namespace goes with it, a child of the child becomes the program, since the one that enters is never in it. That
//! second child is made our own, so that we may wait for it; the first one ends at once.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use rustix::thread::{UnshareFlags, move_into_link_name_space};

use crate::namespaces::{Namespace, Namespaces, become_root, unshare_in_child};

/// What the child does.
#[derive(Debug)]
pub(super) struct InnerUser {
    join: Namespaces,
    new: UnshareFlags,
    second_child: Option<OwnedFd>,
}

/// Where the number of the second child comes in.
#[derive(Debug)]
pub(super) struct SecondChild(OwnedFd);

impl InnerUser {
    /// To enter these and then be in new ones; with the way to learn who becomes the program, if that is another.
    pub(super) fn new(join: Namespaces, new: &[Namespace]) -> io::Result<(Self, Option<SecondChild>)> {
        let flags = new.iter().fold(UnshareFlags::empty(), |flags, kind| flags | kind.flag());
        if !join.has(Namespace::Pid) && !flags.contains(UnshareFlags::NEWPID) {
            return Ok((Self { join, new: flags, second_child: None }, None));
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok((Self { join, new: flags, second_child: Some(write) }, Some(SecondChild(read))))
    }

    /// Only system calls, as for all that is done between fork and exec.
    pub(super) fn enter(&self) -> io::Result<()> {
        for (kind, fd) in self.join.iter() {
            move_into_link_name_space(fd, Some(kind.link()))?;
            if kind == Namespace::User {
                become_root()?;
            }
        }
        unshare_in_child(self.new)?;
        self.second_child.as_ref().map_or(Ok(()), become_second_child)
    }
}

impl SecondChild {
    /// Its number; none if the first child failed before.
    pub(super) fn pid(&self) -> io::Result<Option<Pid>> {
        let mut bytes = [0; 4];
        match rustix::io::read(&self.0, &mut bytes)? {
            4 => Ok(Pid::from_raw(i32::from_ne_bytes(bytes))),
            _ => Ok(None),
        }
    }
}

/// Comes back in the second child only.
#[expect(
    unsafe_code,
    reason = "only the bare system call makes a child that is our parent's, and only _exit ends so"
)]
fn become_second_child(tell: &OwnedFd) -> io::Result<()> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: without shared memory this is a fork; the child goes on with a copy of all, and makes system calls alone.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(0) => Ok(()),
        Ok(pid) if pid > 0 => {
            let _ = rustix::io::write(tell, &pid.to_ne_bytes());
            // SAFETY: ends the first child and nothing else.
            unsafe { libc::_exit(0) }
        }
        Ok(_) | Err(_) => {
            Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::AGAIN).into())
        }
    }
}
