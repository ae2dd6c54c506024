//! Steps as the messages of one transaction.

use kernel_state::nft::{Command, Family, Step};

use super::wire::{chain, element, kind, rule, set, table};
use super::{rule as rules, set as sets, userdata};
use crate::netlink::{Message, flags};

/// How many bytes of elements go into one message; an attribute's length is a number of 16 bits.
const LIST_LIMIT: usize = 60_000;

/// The messages of one transaction, and which change each part of them belongs to.
pub(super) struct Batch<'t> {
    table: &'t str,
    /// All of them, from its begin to its end.
    pub(super) messages: Vec<Message>,
    parts: Vec<Vec<Part>>,
    /// How many steps they are.
    pub(super) steps: usize,
    pub(super) packing: Packing,
}

/// A step within a message.
#[derive(Clone, Copy)]
struct Part {
    /// Where it begins.
    offset: usize,
    /// The step's place.
    step: usize,
}

/// How elements go into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// As many as fit.
    Dense,
    /// One a message, so that a refusal names it.
    Single,
}

impl<'t> Batch<'t> {
    /// The steps, in their order, as one transaction on the table of this name; the last message is to be acknowledged.
    pub(super) fn new(table: &'t str, steps: &[(usize, Step<'_>)], packing: Packing) -> Self {
        let mut batch = Self { table, messages: Vec::new(), parts: Vec::new(), steps: steps.len(), packing };
        batch.push(begin(), Vec::new());
        let mut rest = steps;
        let mut next = 0;
        while let Some((_, step)) = rest.first() {
            let run = match packing {
                Packing::Dense => {
                    rest.iter().take_while(|(_, other)| is_same_list(step, other)).count().max(1)
                }
                Packing::Single => 1,
            };
            if let Command::AddElement(..) | Command::DeleteElement(..) = step.command {
                let taken = batch.push_elements(&rest[..run], next);
                rest = &rest[taken..];
                next += taken;
            } else {
                let message = message(table, step, next);
                batch.push(message, vec![Part { offset: 0, step: next }]);
                rest = &rest[1..];
                next += 1;
            }
        }
        if let Some(last) = batch.messages.last_mut() {
            last.add_flags(flags::ACK);
        }
        batch.push(end(), Vec::new());
        batch
    }

    /// The place of the step that a refusal means: by the message, and the attribute in it if there are several.
    pub(super) fn refused_step(&self, message: usize, offset: Option<u32>) -> Option<usize> {
        let parts = self.parts.get(message)?;
        match parts.as_slice() {
            [only] => Some(only.step),
            several => {
                let offset = usize::try_from(offset?).ok()?;
                several.iter().find(|part| part.offset == offset).map(|part| part.step)
            }
        }
    }

    fn push(&mut self, message: Message, parts: Vec<Part>) {
        self.messages.push(message);
        self.parts.push(parts);
    }

    /// Puts elements of one set into one message, as many as fit, and answers how many they are.
    fn push_elements(&mut self, steps: &[(usize, Step<'_>)], first: usize) -> usize {
        let Some((set, mut message)) = steps.first().and_then(|(_, step)| list_message(step)) else {
            return 0;
        };
        let mut parts = Vec::new();
        message.text(element::TABLE, self.table).text(element::SET, set);
        message.nested(element::LIST, |out| {
            let start = out.as_bytes().len();
            for (place, (_, step)) in (first..).zip(steps) {
                let offset = out.as_bytes().len();
                if offset - start > LIST_LIMIT {
                    break;
                }
                if let Command::AddElement(_, tuple, data) = step.command {
                    sets::write_element(out, tuple, Some(data));
                } else if let Command::DeleteElement(_, tuple) = step.command {
                    sets::write_element(out, tuple, None);
                }
                parts.push(Part { offset, step: place });
            }
        });
        let taken = parts.len();
        self.push(message, parts);
        taken
    }
}

/// The message for elements of a set, and the set; nothing if the step is not about an element.
fn list_message(step: &Step<'_>) -> Option<(&'static str, Message)> {
    if let Command::AddElement(set, ..) = step.command {
        return Some((set, new(kind::NEW_ELEMENT, flags::CREATE, step.family)));
    }
    if let Command::DeleteElement(set, _) = step.command {
        return Some((set, new(kind::DELETE_ELEMENT, 0, step.family)));
    }
    None
}

/// A message about an object of a family.
pub(super) fn new(kind: u16, flags: u16, family: Family) -> Message {
    let mut message = Message::new(kind, flags);
    // struct nfgenmsg: the family, version 0, no resource
    message.header(&[family_number(family), 0, 0, 0]);
    message
}

/// The kernel's number of a family.
pub(super) fn family_number(family: Family) -> u8 {
    let number = match family {
        Family::Ip => libc::AF_INET,
        Family::Ip6 => libc::AF_INET6,
    };
    u8::try_from(number).expect("the families of the internet have small numbers")
}

/// The begin of a transaction.
pub(super) fn begin() -> Message {
    mark(kind::BATCH_BEGIN)
}

/// The end of a transaction.
pub(super) fn end() -> Message {
    mark(kind::BATCH_END)
}

/// The begin or the end of a transaction on `nf_tables`.
fn mark(kind: u16) -> Message {
    const SUBSYSTEM: u8 = 10; // NFNL_SUBSYS_NFTABLES
    let mut message = Message::new(kind, 0);
    message.header(&[0, 0, 0, SUBSYSTEM]);
    message
}

fn is_same_list(one: &Step<'_>, other: &Step<'_>) -> bool {
    match (one.command, other.command) {
        (Command::AddElement(set, ..), Command::AddElement(other_set, ..))
        | (Command::DeleteElement(set, ..), Command::DeleteElement(other_set, ..)) => {
            set == other_set && one.family == other.family
        }
        _ => false,
    }
}

/// One step that is not about an element.
fn message(name_of_table: &str, step: &Step<'_>, place: usize) -> Message {
    let family = step.family;
    let create = flags::CREATE;
    match step.command {
        Command::AddTable(comment) => {
            let mut message = new(kind::NEW_TABLE, create, family);
            message.text(table::NAME, name_of_table).be32(table::FLAGS, 0);
            message.attribute(table::USERDATA, &userdata::comment(comment));
            message
        }
        Command::DeleteTable => {
            let mut message = new(kind::DELETE_TABLE, 0, family);
            message.text(table::NAME, name_of_table);
            message
        }
        Command::AddSet(name, spec) => {
            let mut message = new(kind::NEW_SET, create, family);
            message.text(set::TABLE, name_of_table).text(set::NAME, name);
            // The number only has to be another one for each set of the transaction.
            sets::write(&mut message, family, spec, u32::try_from(place + 1).unwrap_or(u32::MAX));
            message
        }
        Command::DeleteSet(name) => {
            let mut message = new(kind::DELETE_SET, 0, family);
            message.text(set::TABLE, name_of_table).text(set::NAME, name);
            message
        }
        Command::AddChain(name, of) => {
            let mut message = new(kind::NEW_CHAIN, create, family);
            message.text(chain::TABLE, name_of_table).text(chain::NAME, name);
            if let Some(hook) = of.hook {
                super::chain::write(&mut message, hook);
            }
            message
        }
        Command::FlushChain(name) => {
            let mut message = new(kind::DELETE_RULE, 0, family);
            message.text(rule::TABLE, name_of_table).text(rule::CHAIN, name);
            message
        }
        Command::DeleteChain(name) => {
            let mut message = new(kind::DELETE_CHAIN, 0, family);
            message.text(chain::TABLE, name_of_table).text(chain::NAME, name);
            message
        }
        Command::AddRule(name, of) => {
            let mut message = new(kind::NEW_RULE, create | flags::APPEND, family);
            message.text(rule::TABLE, name_of_table).text(rule::CHAIN, name);
            rules::write(&mut message, family, of);
            message
        }
        Command::AddElement(..) | Command::DeleteElement(..) => new(kind::GET_GENERATION, 0, family),
    }
}
