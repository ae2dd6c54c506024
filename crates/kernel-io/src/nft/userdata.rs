//! User data: what nft keeps with an object for its own listing (libnftnl's `udata.h` and nft's `expression.h`).
//!
//! The kernel hands it back untouched. Each item is a byte for its type, one for its length, and its value.

use std::sync::Arc;

use kernel_state::nft::{DataType, Family, Field, KeyType};

use super::set::key_fields;

const COMMENT: u8 = 0;

// Items of a set, and how nft numbers byte orders.
const KEY_ORDER: u8 = 0;
const DATA_ORDER: u8 = 1;
const KEY_TYPEOF: u8 = 3;
const DATA_TYPEOF: u8 = 4;
const DATA_INTERVAL: u8 = 6;
const MIXED: u32 = 0;
const NETWORK_ORDER: u32 = 2;

// An expression: its kind, then what that kind needs.
const KIND: u8 = 0;
const CONTENT: u8 = 1;
const PAYLOAD: u32 = 7;
const META: u32 = 9;
const CONCATENATION: u32 = 13;
const NUMGEN: u32 = 23;
const TRANSPORT: u32 = 11;
const DESTINATION_PORT: u32 = 2;
const L4PROTO: u32 = 16;
const RANDOM: u32 = 1;

/// A table's or a rule's comment.
pub(super) fn comment(text: &str) -> Vec<u8> {
    // The length is one byte; a comment that does not fit is cut.
    let mut end = text.len().min(254);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = text.as_bytes()[..end].to_vec();
    bytes.push(0);
    item(COMMENT, &bytes)
}

/// The comment in the user data of a table or rule.
pub(super) fn read_comment(userdata: &[u8]) -> Option<Arc<str>> {
    let mut rest = userdata;
    while let [kind, length, after @ ..] = rest {
        let (value, next) = after.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return std::str::from_utf8(text).ok().map(Into::into);
        }
        rest = next;
    }
    None
}

/// What nft keeps with a set: byte orders, and where the type has no name of its own, an expression that has it.
pub(super) fn of_set(family: Family, key: KeyType, data: DataType) -> Vec<u8> {
    let order = |kind, order: u32| item(kind, &order.to_ne_bytes());
    let fields = key_fields(key);
    let key_order = if fields.len() == 1 { NETWORK_ORDER } else { MIXED };
    let mut bytes = order(KEY_ORDER, key_order);
    if data != DataType::Nothing {
        bytes.extend(order(DATA_ORDER, MIXED));
    }
    match data {
        DataType::Endpoint => {
            bytes.extend(item(KEY_TYPEOF, &concatenation(family, &fields)));
            bytes.extend(item(DATA_TYPEOF, &concatenation(family, &[Field::Destination, Field::Port])));
        }
        // nft 1.0.6 writes an empty concatenation for types that have names.
        DataType::Nothing | DataType::Verdict if fields.len() > 1 => {
            bytes.extend(item(KEY_TYPEOF, &concatenation(family, &[])));
        }
        DataType::Nothing | DataType::Verdict => {}
    }
    if data != DataType::Nothing {
        bytes.extend(order(DATA_INTERVAL, 0));
    }
    bytes
}

fn concatenation(family: Family, fields: &[Field]) -> Vec<u8> {
    let parts = (0u8..).zip(fields).flat_map(|(place, field)| item(place, &expression_of(family, *field)));
    expression(CONCATENATION, &parts.collect::<Vec<_>>())
}

fn expression_of(family: Family, field: Field) -> Vec<u8> {
    // The protocol header and its field, by their places in nft's own lists.
    let (ip, source, destination) = match family {
        Family::Ip => (12, 11, 12),
        Family::Ip6 => (13, 8, 9),
    };
    match field {
        Field::Source => expression(PAYLOAD, &numbers(&[ip, source])),
        Field::Destination | Field::OriginalDestination => expression(PAYLOAD, &numbers(&[ip, destination])),
        Field::Protocol => expression(META, &numbers(&[L4PROTO])),
        Field::Port | Field::OriginalPort => expression(PAYLOAD, &numbers(&[TRANSPORT, DESTINATION_PORT])),
        Field::Slot(modulus) => expression(NUMGEN, &numbers(&[RANDOM, modulus, 0])),
    }
}

fn expression(kind: u32, content: &[u8]) -> Vec<u8> {
    [item(KIND, &kind.to_ne_bytes()), item(CONTENT, content)].concat()
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    (0u8..).zip(numbers).flat_map(|(place, number)| item(place, &number.to_ne_bytes())).collect()
}

fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).expect("our user data is short");
    [&[kind, length], value].concat()
}
