//! One direction of a connection: bytes from one socket to another, without copying them where they are many.
//!
//! What comes in small pieces is read and written: that is one call less than splicing, and needs no pipe. Once a
//! piece fills the buffer, pages go from socket to socket through a pipe. A direction holds a pipe only while it
//! holds bytes, so an idle connection costs none.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::{Errno, read};
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use crate::descriptors::Descriptors;

/// One direction.
pub(crate) struct Stream {
    held: Held,
    source: Source,
    sink: Sink,
    /// Whether its bytes came in heaps when it was last moved.
    pace: Pace,
}

/// Bytes that were taken from the source and not yet put into the sink.
enum Held {
    Nothing,
    InPipe(Pipe, usize),
    /// Only where no pipe could be had.
    Copied(Box<[u8]>, usize),
}

/// What can be expected of the socket that bytes come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// To be tried.
    Ready,
    /// Nothing until the kernel tells.
    Empty,
    /// Nothing ever again.
    Ended,
}

/// What can be expected of the socket that bytes go to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    /// To be tried.
    Ready,
    /// Nothing until the kernel tells.
    Full,
    /// It was told that nothing follows.
    Shut,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Drops,
    Heaps,
}

/// How far a move came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// As far as the sockets let it.
    All,
    /// There may be more; others come first.
    Enough,
}

/// What a thread moves bytes with.
pub(crate) struct Tools {
    buffer: Box<[u8]>,
    pipes: Vec<Pipe>,
    descriptors: Arc<Descriptors>,
}

struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// How much is read at once before it counts as a heap.
const BUFFER: usize = 16 << 10;
/// How many bytes a pipe is asked to hold, and how many are moved before others come first. Of 64 connections each
/// byte cost half as much again when it was a megabyte: what is moved at once should still be in a cache.
const PIPE: usize = 256 << 10;
const ENOUGH: usize = 256 << 10;
/// How many pipes a thread keeps that nobody needs.
const SPARE: usize = 128;

impl Stream {
    /// Both sockets are to be tried.
    pub(crate) fn new() -> Self {
        Self { held: Held::Nothing, source: Source::Ready, sink: Sink::Ready, pace: Pace::Drops }
    }

    /// The source may have something.
    pub(crate) fn readable(&mut self) {
        if self.source == Source::Empty {
            self.source = Source::Ready;
        }
    }

    /// The sink may have room.
    pub(crate) fn writable(&mut self) {
        if self.sink == Sink::Full {
            self.sink = Sink::Ready;
        }
    }

    /// Whether all was moved that there ever will be, and the sink was told.
    pub(crate) fn is_over(&self) -> bool {
        self.sink == Sink::Shut
    }

    /// Moves bytes as long as both sockets let it. An error means that one of them is broken.
    pub(crate) fn advance(
        &mut self,
        source: BorrowedFd<'_>,
        sink: BorrowedFd<'_>,
        tools: &mut Tools,
    ) -> Result<Moved, Errno> {
        let mut moved = 0;
        let result = loop {
            if moved >= ENOUGH {
                break Ok(Moved::Enough);
            }
            match self.step(source, sink, tools) {
                Ok(Some(more)) => moved += more,
                Ok(None) => break Ok(Moved::All),
                Err(error) => break Err(error),
            }
        };
        self.pace = if moved >= 2 * BUFFER { Pace::Heaps } else { Pace::Drops };
        result
    }

    /// Gives back what it holds.
    pub(crate) fn end(self, tools: &mut Tools) {
        if let Held::InPipe(pipe, 0) = self.held {
            tools.keep(pipe);
        }
    }

    /// One read or write; nothing, if neither is possible.
    fn step(
        &mut self,
        source: BorrowedFd<'_>,
        sink: BorrowedFd<'_>,
        tools: &mut Tools,
    ) -> Result<Option<usize>, Errno> {
        if self.holds() > 0 {
            return if self.sink == Sink::Ready { self.put(sink, tools) } else { Ok(None) };
        }
        match self.source {
            // To shut it again would wake whoever waits for either socket, and so this thread, again and again.
            Source::Ready | Source::Ended if self.sink == Sink::Shut => Ok(None),
            Source::Ready => self.take(source, sink, tools),
            Source::Empty => {
                self.let_go(tools);
                Ok(None)
            }
            Source::Ended => {
                self.let_go(tools);
                self.sink = Sink::Shut;
                match shutdown(sink, Shutdown::Write) {
                    // The other side is gone already.
                    Ok(()) | Err(Errno::NOTCONN) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn take(
        &mut self,
        source: BorrowedFd<'_>,
        sink: BorrowedFd<'_>,
        tools: &mut Tools,
    ) -> Result<Option<usize>, Errno> {
        if self.pace == Pace::Drops && matches!(self.held, Held::Nothing) {
            return self.copy(source, sink, tools);
        }
        if matches!(self.held, Held::Nothing) {
            match tools.pipe() {
                Some(pipe) => self.held = Held::InPipe(pipe, 0),
                None => return self.copy(source, sink, tools),
            }
        }
        let Held::InPipe(pipe, held) = &mut self.held else { return self.copy(source, sink, tools) };
        match splice(source, None, &pipe.into, None, PIPE, SPLICE) {
            Ok(0) => self.source = Source::Ended,
            Ok(count) => *held = count,
            Err(Errno::AGAIN) => self.source = Source::Empty,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(Some(0))
    }

    fn put(&mut self, sink: BorrowedFd<'_>, tools: &mut Tools) -> Result<Option<usize>, Errno> {
        let result = match &self.held {
            Held::Nothing => return Ok(Some(0)),
            Held::InPipe(pipe, held) => splice(&pipe.out, None, sink, None, *held, SPLICE),
            Held::Copied(bytes, start) => send(sink, &bytes[*start..], SEND),
        };
        match result {
            Ok(count) => {
                match &mut self.held {
                    Held::Nothing => {}
                    Held::InPipe(_, held) => *held -= count,
                    Held::Copied(_, start) => *start += count,
                }
                if self.holds() == 0 && matches!(self.held, Held::Copied(..)) {
                    self.let_go(tools);
                }
                Ok(Some(count))
            }
            Err(Errno::AGAIN) => {
                self.sink = Sink::Full;
                Ok(None)
            }
            Err(Errno::INTR) => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }

    /// A piece that fits into the buffer goes through it. What the sink does not take is held.
    fn copy(
        &mut self,
        source: BorrowedFd<'_>,
        sink: BorrowedFd<'_>,
        tools: &mut Tools,
    ) -> Result<Option<usize>, Errno> {
        let count = match read(source, &mut tools.buffer[..]) {
            Ok(0) => {
                self.source = Source::Ended;
                return Ok(Some(0));
            }
            Ok(count) => count,
            Err(Errno::AGAIN) => {
                self.source = Source::Empty;
                return Ok(None);
            }
            Err(Errno::INTR) => return Ok(Some(0)),
            Err(error) => return Err(error),
        };
        if count == BUFFER {
            self.pace = Pace::Heaps;
        }
        let sent = match self.sink {
            Sink::Ready => match send(sink, &tools.buffer[..count], SEND) {
                Err(Errno::AGAIN | Errno::INTR) => 0,
                sent => sent?,
            },
            Sink::Full | Sink::Shut => 0,
        };
        if sent < count {
            self.sink = Sink::Full;
            self.hold(sent..count, tools);
        }
        Ok(Some(sent))
    }

    fn hold(&mut self, left: std::ops::Range<usize>, tools: &mut Tools) {
        let length = left.len();
        if let Some(pipe) = tools.pipe() {
            // An empty pipe has room for the whole buffer, which is smaller than any pipe that is not starved.
            match rustix::io::write(&pipe.into, &tools.buffer[left.clone()]) {
                Ok(count) if count == length => {
                    self.held = Held::InPipe(pipe, length);
                    return;
                }
                // What it took is lost with it; it is copied below.
                Ok(_) | Err(_) => {}
            }
        }
        self.held = Held::Copied(tools.buffer[left].into(), 0);
    }

    fn holds(&self) -> usize {
        match &self.held {
            Held::Nothing => 0,
            Held::InPipe(_, held) => *held,
            Held::Copied(bytes, start) => bytes.len() - start,
        }
    }

    fn let_go(&mut self, tools: &mut Tools) {
        if let Held::InPipe(pipe, 0) = std::mem::replace(&mut self.held, Held::Nothing) {
            tools.keep(pipe);
        }
    }
}

const SPLICE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
const SEND: SendFlags = SendFlags::NOSIGNAL;

impl Tools {
    pub(crate) fn new(descriptors: Arc<Descriptors>) -> Self {
        Self { buffer: vec![0; BUFFER].into(), pipes: Vec::new(), descriptors }
    }

    /// A pipe that is empty; none, if there are no descriptors left for one.
    fn pipe(&mut self) -> Option<Pipe> {
        self.pipes.pop().or_else(|| {
            let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            if self.descriptors.are_out(&into) {
                return None;
            }
            // A smaller one does as well.
            let _ = fcntl_setpipe_size(&into, PIPE);
            Some(Pipe { out, into })
        })
    }

    fn keep(&mut self, pipe: Pipe) {
        if self.pipes.len() < SPARE {
            self.pipes.push(pipe);
        }
    }

    /// Gives all spare descriptors back.
    pub(crate) fn spare(&mut self) {
        self.pipes.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use rustix::buffer::spare_capacity;
    use rustix::event::Timespec;
    use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create, wait};

    use super::*;

    #[test]
    fn a_direction_that_is_over_wakes_nobody() {
        let (source, client) = UnixStream::pair().expect("sockets");
        let (sink, _endpoint) = UnixStream::pair().expect("sockets");
        let epoll = create(CreateFlags::CLOEXEC).expect("an epoll");
        let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        add(&epoll, &sink, EventData::new_u64(0), all).expect("added");
        let events = || {
            let mut events = Vec::with_capacity(8);
            wait(&epoll, spare_capacity(&mut events), Some(&Timespec::default())).expect("asked")
        };
        let (mut stream, mut tools) = (Stream::new(), Tools::new(Arc::new(Descriptors::new())));
        drop(client);
        let mut advance = |stream: &mut Stream| {
            let moved = stream.advance(source.as_fd(), sink.as_fd(), &mut tools).expect("both are whole");
            assert_eq!(moved, Moved::All);
        };
        advance(&mut stream);
        assert!(stream.is_over());
        assert_eq!(events(), 1, "that it was shut is news");
        assert_eq!(events(), 0);
        advance(&mut stream);
        assert_eq!(events(), 0);
    }
}
