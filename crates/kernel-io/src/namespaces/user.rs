//! New user namespaces. A process of several threads cannot enter one, so a child does it, which is forked and never
//! becomes a program: it makes system calls alone.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Gid, Pid, Signal, Uid, WaitOptions, getpid, getppid, kill_process, set_parent_process_death_signal,
    waitpid,
};
use rustix::thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde::{Deserialize, Serialize};

use super::{Namespace, NamespaceError, unshare_flags};

/// The user and group numbers outside that 0, 1, 2, … inside stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// What root inside is outside.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// What the child says after each of its two acts.
const DONE: u8 = 0;

/// Makes a user namespace and, belonging to it, namespaces of these kinds; they live while `work` runs, in a process
/// whose number it is given, and on if `work` holds them.
pub(super) fn with_new(
    ids: IdRange,
    kinds: &[Namespace],
    work: impl FnOnce(u32) -> Result<(), NamespaceError>,
) -> Result<(), NamespaceError> {
    let failed = |verb| move |source| NamespaceError::User { verb, source };
    let flags = kinds.iter().fold(UnshareFlags::empty(), |flags, kind| flags | kind.flag());
    let (ours, childs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| failed("make a socket")(errno.into()))?;
    let child = Child(fork(&childs, flags).map_err(failed("fork"))?);
    drop(childs); // so that its end ends our waiting
    said(&ours).map_err(failed("unshare"))?;
    let pid = child.0.as_raw_pid().unsigned_abs();
    let map = format!("0 {} {}\n", ids.first, ids.count);
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), &map).map_err(failed("map its numbers"))?;
    }
    rustix::io::write(&ours, &[DONE]).map_err(|errno| failed("wake its first process")(errno.into()))?;
    said(&ours).map_err(failed("make what belongs to it"))?;
    work(pid)
}

/// Ended and reaped when it is dropped.
struct Child(Pid);

impl Drop for Child {
    fn drop(&mut self) {
        // It is ours and not yet reaped, so its number is its own.
        let _ = kill_process(self.0, Signal::KILL);
        while let Err(Errno::INTR) = waitpid(Some(self.0), WaitOptions::empty()) {}
    }
}

/// What the child has to say: that it is done, or its error.
fn said(child: &OwnedFd) -> io::Result<()> {
    let mut word = [0];
    match rustix::io::read(child, &mut word)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if word[0] == DONE => Ok(()),
        _ => Err(io::Error::from_raw_os_error(i32::from(word[0]))),
    }
}

#[expect(unsafe_code, reason = "a user namespace can be entered by a process of one thread only")]
fn fork(socket: &OwnedFd, flags: UnshareFlags) -> io::Result<Pid> {
    let parent = getpid();
    // SAFETY: the child makes system calls alone, neither allocates nor takes a lock, and never returns.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => live(socket.as_fd(), flags, parent),
        pid => Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::InvalidData.into()),
    }
}

/// The child's life: it makes, says so, and sleeps until it is killed.
fn live(socket: BorrowedFd<'_>, flags: UnshareFlags, parent: Pid) -> ! {
    if let Err(errno) = made(socket, flags, parent) {
        let word = u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX);
        let _ = rustix::io::write(socket, &[word]);
        exit();
    }
    let mut word = [0];
    // Nothing more comes: we are killed, or our parent ends, and then so do we.
    let _ = rustix::io::read(socket, &mut word);
    exit()
}

fn made(socket: BorrowedFd<'_>, flags: UnshareFlags, parent: Pid) -> Result<(), Errno> {
    die_with(parent)?;
    unshare_in_child(UnshareFlags::NEWUSER)?;
    rustix::io::write(socket, &[DONE])?;
    let mut word = [0];
    rustix::io::read(socket, &mut word)?;
    become_root()?;
    die_with(parent)?; // whoever becomes another user forgets it
    unshare_in_child(flags)?;
    rustix::io::write(socket, &[DONE])?;
    Ok(())
}

/// Our own copy of the parent's end of the socket would keep us waiting for it for ever.
fn die_with(parent: Pid) -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH) }
}

/// Takes the numbers of the namespace's own root.
pub(crate) fn become_root() -> Result<(), Errno> {
    set_thread_groups(&[])?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
}

pub(crate) fn unshare_in_child(flags: UnshareFlags) -> Result<(), Errno> {
    match unshare_flags(flags) {
        Err(NamespaceError::Create(source)) => {
            Err(source.raw_os_error().map_or(Errno::INVAL, Errno::from_raw_os_error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[expect(unsafe_code, reason = "what an exiting program does would be done twice")]
fn exit() -> ! {
    // SAFETY: ends the child and nothing else.
    unsafe { libc::_exit(0) }
}
