//! How a process is started.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::mpsc::{self, Sender};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount,
};
use rustix::process::{
    Gid, Pid, PidfdFlags, Uid, WaitOptions, chdir, getpid, kill_process, pidfd_open, pivot_root,
    set_parent_process_death_signal, setsid, waitpid,
};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::inner_user::{InnerUser, SecondChild};
use super::{Process, ProcessError, Signal};
use crate::namespaces::{Namespace, Namespaces, unshare};

/// Enough for a keeper: it starts one process and waits.
const KEEPER_STACK: usize = 256 * 1024;

/// A program and the surroundings in which it is to be started.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    join: Namespaces,
    new: Vec<Namespace>,
    before: Before,
}

/// A process that was started, and our ends of its pipes, if the command asked for pipes.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub process: Process,
    /// Its standard input.
    pub stdin: Option<ChildStdin>,
    /// Its standard output.
    pub stdout: Option<ChildStdout>,
    /// Its standard error.
    pub stderr: Option<ChildStderr>,
}

impl Launch {
    /// This program, with arguments, environment and pipes as the command has them.
    pub fn new(command: Command) -> Self {
        Self { command, join: Namespaces::default(), new: Vec::new(), before: Before::default() }
    }

    /// In namespaces of its own. In a new PID namespace it is process 1, and its end ends all others there.
    #[must_use]
    pub fn in_new(mut self, kinds: &[Namespace]) -> Self {
        self.new.extend_from_slice(kinds);
        self
    }

    /// In namespaces that are there already.
    #[must_use]
    pub fn joining(mut self, namespaces: Namespaces) -> Self {
        self.join = namespaces;
        self
    }

    /// In a cgroup from its first instant; the files are what [`crate::cgroup::Cgroup::entrances`] gives.
    #[must_use]
    pub fn in_cgroup(mut self, entrances: Vec<File>) -> Self {
        self.before.cgroups = entrances.into_iter().map(OwnedFd::from).collect();
        self
    }

    /// With a /proc that shows its own PID namespace; needs a new mount namespace. Mounts made outside still
    /// appear inside, never the other way round.
    #[must_use]
    pub fn with_own_proc(mut self) -> Self {
        self.before.acts.push(Act::OwnProc);
        self
    }

    /// With a directory for its root, read-only, and no other file in its sight; needs a new mount namespace. Only
    /// what the directory itself holds is there, and the program is looked for in it.
    #[must_use]
    pub fn with_root(mut self, directory: &Path) -> Self {
        // A path with a zero in it cannot be, and fails as the empty one does.
        self.before.root = Some(CString::new(directory.as_os_str().as_bytes()).unwrap_or_default());
        self
    }

    /// As nobody: without a right, and without a way to get one.
    #[must_use]
    pub fn as_nobody(mut self) -> Self {
        self.before.identity = Identity::Nobody;
        self
    }

    /// In a session of its own, so that the keys of our terminal do not reach it.
    #[must_use]
    pub fn in_own_session(mut self) -> Self {
        self.before.acts.push(Act::OwnSession);
        self
    }

    /// Killed by the kernel when this whole process ends, however it ends.
    #[must_use]
    pub fn dying_with_us(mut self) -> Self {
        self.before.acts.push(Act::DieWithUs);
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Started, ProcessError> {
        let program = self.program();
        let keeper = |source| ProcessError::Keeper { program, source };
        let (report, started) = mpsc::channel();
        let thread = thread::Builder::new().name("keeper".to_owned()).stack_size(KEEPER_STACK);
        match thread.spawn(move || self.keep(&report)) {
            Ok(_) => started.recv().unwrap_or_else(|early| Err(keeper(io::Error::other(early)))),
            Err(source) => Err(keeper(source)),
        }
    }

    /// The keeper's life.
    fn keep(self, report: &Sender<Result<Started, ProcessError>>) {
        let (mut kept, started) = match self.spawn() {
            Ok(running) => running,
            Err(error) => {
                let _ = report.send(Err(error)); // whoever asked is gone; so is the process
                return;
            }
        };
        let process = started.process.clone();
        let _ = report.send(Ok(started)); // whoever asked is gone; the process still must be reaped
        // Waiting fails only if somebody else has reaped our child; then how it ended is not known.
        process.set_ended(kept.wait().unwrap_or_else(|_| ExitStatus::from_raw(0xff00)));
    }

    fn spawn(mut self) -> Result<(Kept, Started), ProcessError> {
        let program = self.program();
        let (join, new) = (std::mem::take(&mut self.join), std::mem::take(&mut self.new));
        let failed = |source| ProcessError::Start { program: program.clone(), source };
        let mut second = None;
        let prepared = if join.has(Namespace::User) {
            // A root of its own is made while we may still mount what is ours.
            let (outer, inner): (Vec<_>, Vec<_>) =
                new.into_iter().partition(|kind| self.before.root.is_some() && *kind == Namespace::Mount);
            let (inner_user, second_child) = InnerUser::new(join, &inner).map_err(failed)?;
            (self.before.inner_user, second) = (Some(inner_user), second_child);
            unshare(&outer)
        } else {
            join.enter().and_then(|()| unshare(&new))
        };
        prepared.map_err(|source| ProcessError::Namespaces { program: program.clone(), source })?;
        // What the command holds for the child must be gone before we read.
        let child = self.before.attach(&mut self.command).and_then(|()| self.command.spawn());
        drop(self.command);
        held(child, second).map_err(failed)
    }

    fn program(&self) -> String {
        self.command.get_program().to_string_lossy().into_owned()
    }
}

/// A child of ours that is not yet reaped, so that its number is its own.
struct Kept(Pid);

impl Kept {
    fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            match waitpid(Some(self.0), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ok(ExitStatus::from_raw(status.as_raw())),
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Takes hold of the child that became the program, by a descriptor.
fn held(child: io::Result<Child>, second: Option<SecondChild>) -> io::Result<(Kept, Started)> {
    let second = second.map(|second| second.pid()).transpose()?.flatten();
    let mut child = match (child, second) {
        (Ok(child), _) => child,
        (Err(error), None) => return Err(error),
        (Err(error), Some(second)) => {
            Kept(second).wait()?;
            return Err(error);
        }
    };
    let mut kept = match second {
        Some(second) => {
            child.wait()?;
            Kept(second)
        }
        None => Kept(Pid::from_child(&child)),
    };
    let pidfd = match pidfd_open(kept.0, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(errno) => {
            kill_process(kept.0, Signal::KILL)?;
            kept.wait()?;
            return Err(errno.into());
        }
    };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let process = Process::new(kept.0.as_raw_pid().unsigned_abs(), pidfd);
    Ok((kept, Started { process, stdin, stdout, stderr }))
}

/// What the child does between fork and exec. Only system calls: another thread may have held the allocator's
/// lock when it was forked.
#[derive(Debug, Default)]
struct Before {
    acts: Vec<Act>,
    cgroups: Vec<OwnedFd>,
    us: Option<OwnedFd>,
    root: Option<CString>,
    inner_user: Option<InnerUser>,
    identity: Identity,
}

/// Who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Identity {
    /// Who we are.
    #[default]
    Ours,
    /// The user of pause's image, who owns nothing.
    Nobody,
}

const NOBODY: u32 = 65535;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    OwnProc,
    OwnSession,
    DieWithUs,
}

/// Lets the kernel end a child when the thread that starts it ends, for those who start and wait in one go.
pub(crate) fn let_die_with_us(command: &mut Command) -> io::Result<()> {
    Before { acts: vec![Act::DieWithUs], ..Before::default() }.attach(command)
}

impl Before {
    #[expect(unsafe_code, reason = "the only way to run something between fork and exec")]
    fn attach(mut self, command: &mut Command) -> io::Result<()> {
        if self.acts.contains(&Act::DieWithUs) {
            self.us = Some(pidfd_open(getpid(), PidfdFlags::empty())?);
        }
        // SAFETY: `run` makes system calls alone and neither allocates nor takes a lock.
        unsafe { command.pre_exec(move || self.run()) };
        Ok(())
    }

    fn run(&self) -> io::Result<()> {
        for cgroup in &self.cgroups {
            rustix::io::write(cgroup, b"0")?;
        }
        if let Some(root) = &self.root {
            enter_root(root)?;
        }
        if let Some(inner_user) = &self.inner_user {
            inner_user.enter()?;
        }
        for act in &self.acts {
            match act {
                Act::OwnProc => {
                    mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
                    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                    mount(c"proc", c"/proc", c"proc", flags, None)?;
                }
                Act::OwnSession => drop(setsid()?),
                Act::DieWithUs => {} // below: whoever becomes another user forgets it
            }
        }
        if self.identity == Identity::Nobody {
            become_nobody()?;
        }
        if self.acts.contains(&Act::DieWithUs) {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            self.still_has_parent()?;
        }
        Ok(())
    }

    /// The parent may have died before the child asked to hear of it.
    fn still_has_parent(&self) -> io::Result<()> {
        let Some(us) = &self.us else { return Ok(()) };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut [PollFd::new(us, PollFlags::IN)], Some(&now))? {
            0 => Ok(()),
            _ => Err(Errno::SRCH.into()),
        }
    }
}

/// Makes a directory the root, and lets go of every other file system.
fn enter_root(directory: &CStr) -> io::Result<()> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount_bind(directory, directory)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(directory, MountFlags::BIND | flags, c"")?;
    chdir(directory)?;
    // The old root lands on top of the new one, and is taken off there.
    pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    Ok(chdir(c"/")?)
}

fn become_nobody() -> io::Result<()> {
    let (group, user) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    Ok(set_no_new_privs(true)?)
}
