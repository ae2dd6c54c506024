//! What the kernel gives back with each event: what it is about, in 64 bits.

use rustix::event::epoll::EventData;

use crate::slab::Ticket;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Mailbox,
    Portal(u32),
    Client(Ticket),
    Endpoint(Ticket),
    Flow(Ticket),
}

// The kind is in the two uppermost bits, the generation in the next 30. There is one mailbox, as portal of a
// generation of its own.
const CLIENT: u64 = 1;
const ENDPOINT: u64 = 2;
const FLOW: u64 = 3;
const MAILBOX: u64 = 1 << 32;

impl Token {
    pub(super) fn data(self) -> EventData {
        EventData::new_u64(match self {
            Self::Mailbox => MAILBOX,
            Self::Portal(id) => u64::from(id),
            Self::Client(ticket) => packed(CLIENT, ticket),
            Self::Endpoint(ticket) => packed(ENDPOINT, ticket),
            Self::Flow(ticket) => packed(FLOW, ticket),
        })
    }

    pub(super) fn of(data: EventData) -> Self {
        let bits = data.u64();
        #[expect(clippy::cast_possible_truncation, reason = "each part is taken out of its bits")]
        let (index, generation) = (bits as u32, (bits >> 32) as u32 & 0x3fff_ffff);
        let ticket = Ticket { index, generation };
        match bits >> 62 {
            CLIENT => Self::Client(ticket),
            ENDPOINT => Self::Endpoint(ticket),
            FLOW => Self::Flow(ticket),
            _ if bits == MAILBOX => Self::Mailbox,
            _ => Self::Portal(index),
        }
    }
}

fn packed(kind: u64, ticket: Ticket) -> u64 {
    kind << 62 | u64::from(ticket.generation) << 32 | u64::from(ticket.index)
}
