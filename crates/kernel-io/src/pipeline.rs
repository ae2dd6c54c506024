//! Many requests on one socket, sent together: the kernel works off hundreds of them in one system call.

use kernel_state::{Change, Objects};

use crate::netlink::{BatchError, Message, NetlinkError, Refusal, Socket, flags};
use crate::target::{Applied, Refused, WriteError};

/// Requests that wait to be sent, each with the place of the change that it stands for.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    messages: Vec<Message>,
    changes: Vec<usize>,
}

/// How many requests go into one system call. Each may be refused, and all refusals must find room.
pub(crate) const AT_ONCE: usize = 1024;

/// Room for as many refusals, as the kernel counts it.
const ANSWERS: usize = 4 * 1024 * 1024;

/// A socket with room for what a pipeline needs.
pub(crate) fn widened(socket: Socket) -> Result<Socket, NetlinkError> {
    // Only an administrator may, and nobody else can write. A reader needs no more room than there is.
    match (socket.set_send_buffer(ANSWERS), socket.set_receive_buffer(ANSWERS)) {
        (Ok(()), Ok(())) => Ok(socket),
        (Err(NetlinkError::Configure { source, .. }), _)
        | (_, Err(NetlinkError::Configure { source, .. }))
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Ok(socket)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

impl Pipeline {
    /// Adds a request.
    pub(crate) fn push(&mut self, change: usize, message: Message) {
        self.messages.push(message);
        self.changes.push(change);
    }

    /// Whether it is time to send: what waits longer only takes room.
    pub(crate) fn is_full(&self) -> bool {
        self.messages.len() >= AT_ONCE
    }

    /// Sends what waits. A refusal that `forgives` says yes to counts as none.
    pub(crate) fn send<O: Objects>(
        &mut self,
        socket: &mut Socket,
        changes: &[Change<O>],
        forgives: impl Fn(&Change<O>, &Refusal) -> bool,
        words: impl Fn(&Change<O>, &Refusal) -> String,
    ) -> Result<(), WriteError> {
        let Some(last) = self.messages.last_mut() else { return Ok(()) };
        last.add_flags(flags::ACK);
        let answer = socket.batch(&mut self.messages);
        self.messages.clear();
        let places = std::mem::take(&mut self.changes);
        let refusals = match answer {
            Ok(()) => return Ok(()),
            Err(BatchError::Refused { refusals }) => refusals,
            Err(BatchError::Failed(source)) => return Err(failed(source)),
        };
        let found = refusals.into_iter().find_map(|(place, refusal)| {
            let index = places[place];
            (!forgives(&changes[index], &refusal)).then_some((index, refusal))
        });
        let Some((index, refusal)) = found else { return Ok(()) };
        Err(WriteError {
            // What stood behind it was tried as well.
            applied: Applied::Unknown,
            refused: Some(refused(changes, index)),
            source: words(&changes[index], &refusal).into(),
        })
    }
}

/// The change of this place, in the words of its tool.
pub(crate) fn refused<O: Objects>(changes: &[Change<O>], index: usize) -> Refused {
    let mut text = String::new();
    O::print_changes(&changes[index..=index], &mut text).expect("writing to a String cannot fail");
    Refused { index, text: text.trim_end().to_owned() }
}

/// The write failed, and not for one of its changes.
fn failed(source: NetlinkError) -> WriteError {
    WriteError { applied: Applied::Unknown, refused: None, source: source.into() }
}
