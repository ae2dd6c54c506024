//! What a thread is told by others.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::connection::Call;
use crate::listeners::Portal;

/// What a thread shall do.
pub(crate) enum Command {
    /// Take what comes to a listener.
    Open(Arc<Portal>),
    /// Take a client that another thread has accepted.
    Serve(OwnedFd, Box<Call>),
    /// Take nothing more from it.
    Close(Arc<Portal>),
    /// Take nothing more from any.
    CloseAll,
    /// End.
    Stop,
}

/// Commands that a thread has not yet read, and a bell.
pub(crate) struct Mailbox {
    commands: Mutex<Vec<Command>>,
    bell: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { commands: Mutex::new(Vec::new()), bell })
    }

    /// Readable when there are commands.
    pub(crate) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    pub(crate) fn put(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        // It cannot fail but for a counter that is full, and then it rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    pub(crate) fn take(&self) -> Vec<Command> {
        // Quiet first: a command that comes in between rings again.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        mem::take(&mut self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
