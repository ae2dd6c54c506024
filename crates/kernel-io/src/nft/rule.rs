//! Rules: what a statement is as instructions, and back.
//!
//! The instructions are those that nft itself writes, so that nft can list them. Reading is strict by writing
//! again: a statement that was made out is kept only if it would be written as exactly the instructions found.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kernel_state::nft::{Family, Field, Name, Protocol, Rule, Sense, Statement};

use super::expression::{Expression, Register};
use super::userdata;
use super::wire::{LIST_ITEM, rule};
use crate::netlink::{Attribute, Attributes, Malformed, Message};

const NETWORK: u32 = 1; // NFT_PAYLOAD_NETWORK_HEADER
const TRANSPORT: u32 = 2; // NFT_PAYLOAD_TRANSPORT_HEADER
const META_IIFNAME: u32 = 6;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_PROTO_DST: u32 = 12;
const CT_DST_IP: u32 = 20;
const CT_DST_IP6: u32 = 22;
const CT_NEW: u32 = 8;
const CT_DNAT: u32 = 0x20;
const ORIGINAL: Option<u8> = Some(0);
const FIB_ADDRTYPE: u32 = 3;
const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
const RTN_LOCAL: u32 = 2;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const RANDOM: u32 = 1; // NFT_NG_RANDOM
const INVERTED: u32 = 1; // NFT_LOOKUP_F_INV
const UPDATE: u32 = 1; // NFT_DYNSET_OP_UPDATE
const DNAT: u32 = 1; // NFT_NAT_DNAT
const FULLY_RANDOM: u32 = 16; // NF_NAT_RANGE_PROTO_RANDOM_FULLY
const UNREACHABLE: u32 = 0; // NFT_REJECT_ICMP_UNREACH
const NAME_LENGTH: usize = 16; // IFNAMSIZ

/// Appends a rule's expressions and comment to a message.
pub(super) fn write(out: &mut Message, family: Family, of: &Rule) {
    out.nested(rule::EXPRESSIONS, |out| {
        for statement in &of.statements {
            for expression in expressions(family, statement) {
                expression.write(out);
            }
        }
    });
    if let Some(comment) = &of.comment {
        out.attribute(rule::USERDATA, &userdata::comment(comment));
    }
}

/// Reads a rule. What ours never have becomes [`Statement::Foreign`].
pub(super) fn read(family: Family, attributes: &Attributes<'_>) -> Result<Rule, Malformed> {
    let mut found = Vec::new();
    let list = attributes.find(rule::EXPRESSIONS)?;
    for item in list.iter().flat_map(Attribute::nested) {
        let item = item?;
        match Expression::read(&item.nested())? {
            Some(expression) if item.kind == LIST_ITEM => found.push(expression),
            Some(_) | None => return Ok(Rule::new([Statement::Foreign])),
        }
    }
    let comment = attributes.find(rule::USERDATA)?;
    let comment = comment.and_then(|comment| userdata::read_comment(comment.payload));
    let statements = statements(family, &found).unwrap_or_else(|| vec![Statement::Foreign]);
    Ok(Rule { comment, ..Rule::new(statements) })
}

fn statements(family: Family, mut rest: &[Expression]) -> Option<Vec<Statement>> {
    let mut statements = Vec::new();
    while !rest.is_empty() {
        let statement = made_out(family, rest)?;
        let written = expressions(family, &statement);
        rest = rest.strip_prefix(written.as_slice())?;
        statements.push(statement);
    }
    Some(statements)
}

/// The instructions of a statement.
fn expressions(family: Family, statement: &Statement) -> Vec<Expression> {
    match statement {
        Statement::Within(field, sense, range) => within(family, *field, *sense, *range),
        Statement::InInterface(sense, name) => {
            vec![Expression::Meta { key: META_IIFNAME, to: 1 }, compare(*sense, interface(name))]
        }
        Statement::New => bit_of_ct(CT_STATE, CT_NEW),
        Statement::Translated => bit_of_ct(CT_STATUS, CT_DNAT),
        Statement::Protocol(protocol) => {
            vec![Expression::Meta { key: META_L4PROTO, to: 1 }, compare(Sense::Is, vec![protocol.0])]
        }
        Statement::SourceIsLocal => is_local(FIB_SADDR),
        Statement::DestinationIsLocal => is_local(FIB_DADDR),
        Statement::OnceIn(number) => vec![
            Expression::Numgen { modulus: *number, kind: RANDOM, offset: 0, to: 1 },
            compare(Sense::Is, 0u32.to_ne_bytes().to_vec()),
        ],
        Statement::In(fields, sense, set) => {
            let flags = if *sense == Sense::Not { INVERTED } else { 0 };
            looked_up(family, fields, Expression::Lookup { set: set.to_string(), from: 1, to: None, flags })
        }
        Statement::Vmap(fields, map) => {
            let lookup = Expression::Lookup { set: map.to_string(), from: 1, to: Some(0), flags: 0 };
            looked_up(family, fields, lookup)
        }
        Statement::DnatByMap(fields, map) => {
            let lookup = Expression::Lookup { set: map.to_string(), from: 1, to: Some(1), flags: 0 };
            let mut all = looked_up(family, fields, lookup);
            all.push(nat(family, register(address_words(family))));
            all
        }
        Statement::Dnat(address, port) => vec![
            Expression::Value { to: 1, bytes: address_bytes(*address) },
            Expression::Value { to: 2, bytes: port.to_be_bytes().to_vec() },
            nat(family, 2),
        ],
        Statement::Masquerade => vec![Expression::Masquerade { flags: FULLY_RANDOM }],
        Statement::Remember(set) => {
            let update = Expression::Dynset { set: set.to_string(), operation: UPDATE, from: 1 };
            looked_up(family, &[Field::Source], update)
        }
        Statement::End(verdict) => vec![Expression::Verdict(verdict.clone())],
        Statement::Reject => vec![Expression::Reject { kind: UNREACHABLE, code: port_unreachable(family) }],
        // Nothing is what it could be written as; such a rule is never wanted.
        Statement::Foreign => Vec::new(),
    }
}

/// What the first instructions seem to be.
fn made_out(family: Family, found: &[Expression]) -> Option<Statement> {
    use Expression as E;
    match found {
        [E::Verdict(verdict), ..] => Some(Statement::End(verdict.clone())),
        [E::Masquerade { .. }, ..] => Some(Statement::Masquerade),
        [E::Reject { .. }, ..] => Some(Statement::Reject),
        [E::Value { bytes: address, .. }, E::Value { bytes: port, .. }, E::Nat { .. }, ..] => {
            let port = port.as_slice().try_into().ok().map(u16::from_be_bytes)?;
            Some(Statement::Dnat(address_of(address)?, port))
        }
        [E::Meta { key: META_IIFNAME, .. }, E::Compare { operation, value, .. }, ..] => {
            Some(Statement::InInterface(sense(*operation), interface_name(value)?))
        }
        [E::Meta { key: META_L4PROTO, .. }, E::Compare { value, .. }, ..] => match value.as_slice() {
            [number] => Some(Statement::Protocol(Protocol(*number))),
            _ => None,
        },
        [E::Ct { key: CT_STATE, .. }, E::Bitwise { .. }, E::Compare { .. }, ..] => Some(Statement::New),
        [E::Ct { key: CT_STATUS, .. }, E::Bitwise { .. }, E::Compare { .. }, ..] => {
            Some(Statement::Translated)
        }
        [E::Fib { flags: FIB_SADDR, .. }, E::Compare { .. }, ..] => Some(Statement::SourceIsLocal),
        [E::Fib { flags: FIB_DADDR, .. }, E::Compare { .. }, ..] => Some(Statement::DestinationIsLocal),
        [E::Numgen { modulus, .. }, E::Compare { .. }, ..] => Some(Statement::OnceIn(*modulus)),
        [load, E::Bitwise { mask, .. }, E::Compare { operation, value, .. }, ..] => {
            let length: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
            Some(Statement::Within(field(family, load)?, sense(*operation), range(value, length)?))
        }
        [load, E::Compare { operation, value, .. }, ..] => {
            let length = u32::try_from(value.len() * 8).ok()?;
            let mut bytes = value.clone();
            bytes.resize(address_words(family) * 4, 0);
            Some(Statement::Within(field(family, load)?, sense(*operation), range(&bytes, length)?))
        }
        _ => looked_up_by(family, found),
    }
}

/// Fields, and what looks them up.
fn looked_up_by(family: Family, found: &[Expression]) -> Option<Statement> {
    let turns = |expression: &&Expression| matches!(expression, Expression::ToNetworkOrder { .. });
    let loads = || found.iter().take_while(|load| turns(load) || field(family, load).is_some());
    let fields: Box<[Field]> = loads().filter_map(|load| field(family, load)).collect();
    match found.get(loads().count()..)? {
        [Expression::Lookup { set, to: None, flags, .. }, ..] => {
            let sense = if *flags == 0 { Sense::Is } else { Sense::Not };
            Some(Statement::In(fields, sense, set.as_str().into()))
        }
        [Expression::Lookup { set, to: Some(0), .. }, ..] => {
            Some(Statement::Vmap(fields, set.as_str().into()))
        }
        [Expression::Lookup { set, to: Some(_), .. }, Expression::Nat { .. }, ..] => {
            Some(Statement::DnatByMap(fields, set.as_str().into()))
        }
        [Expression::Dynset { set, .. }, ..] => Some(Statement::Remember(set.as_str().into())),
        _ => None,
    }
}

fn looked_up(family: Family, fields: &[Field], how: Expression) -> Vec<Expression> {
    let mut words = 0;
    let holds_ranges = matches!(fields, [.., Field::Port, Field::Source]);
    let mut all = Vec::with_capacity(fields.len() + 2);
    for field in fields {
        all.push(load(family, *field, register(words)));
        words += match field {
            Field::Source | Field::Destination | Field::OriginalDestination => address_words(family),
            Field::Protocol | Field::Port | Field::OriginalPort | Field::Slot(_) => 1,
        };
        // Where a set holds ranges nft 1.0.6 turns the protocol into network order; of a single byte nothing turns.
        if holds_ranges && *field == Field::Protocol {
            all.push(Expression::ToNetworkOrder { register: register(words - 1), size: 2, length: 1 });
        }
    }
    all.push(how);
    all
}

fn load(family: Family, field: Field, to: Register) -> Expression {
    let (source, destination, length, key) = match family {
        Family::Ip => (12, 16, 4, CT_DST_IP),
        Family::Ip6 => (8, 24, 16, CT_DST_IP6),
    };
    match field {
        Field::Source => Expression::Payload { base: NETWORK, offset: source, length, to },
        Field::Destination => Expression::Payload { base: NETWORK, offset: destination, length, to },
        Field::OriginalDestination => Expression::Ct { key, direction: ORIGINAL, to },
        Field::Protocol => Expression::Meta { key: META_L4PROTO, to },
        Field::Port => Expression::Payload { base: TRANSPORT, offset: 2, length: 2, to },
        Field::OriginalPort => Expression::Ct { key: CT_PROTO_DST, direction: ORIGINAL, to },
        Field::Slot(modulus) => Expression::Numgen { modulus, kind: RANDOM, offset: 0, to },
    }
}

/// Which field an instruction loads, perhaps not all of it.
fn field(family: Family, load: &Expression) -> Option<Field> {
    let source = if family == Family::Ip { 12 } else { 8 };
    if let Expression::Payload { base, offset, .. } = load {
        return match *base {
            NETWORK if *offset == source => Some(Field::Source),
            NETWORK => Some(Field::Destination),
            TRANSPORT => Some(Field::Port),
            _ => None,
        };
    }
    if let Expression::Ct { key, .. } = load {
        return match *key {
            CT_DST_IP | CT_DST_IP6 => Some(Field::OriginalDestination),
            CT_PROTO_DST => Some(Field::OriginalPort),
            _ => None,
        };
    }
    if let Expression::Numgen { modulus, .. } = load {
        return Some(Field::Slot(*modulus));
    }
    matches!(load, Expression::Meta { key: META_L4PROTO, .. }).then_some(Field::Protocol)
}

/// nft compares no more bytes than a range of whole bytes needs.
fn within(family: Family, field: Field, sense: Sense, range: IpNet) -> Vec<Expression> {
    let address = address_bytes(range.addr());
    let bits = usize::from(range.prefix_len());
    let mut first = load(family, field, 1);
    if bits > 0 && bits.is_multiple_of(8) {
        if let Expression::Payload { length, .. } = &mut first {
            *length = u32::from(range.prefix_len()) / 8;
        }
        return vec![first, compare(sense, address[..bits / 8].to_vec())];
    }
    vec![first, and(address_bytes(range.netmask())), compare(sense, address)]
}

fn bit_of_ct(key: u32, bit: u32) -> Vec<Expression> {
    let nothing = 0u32.to_ne_bytes().to_vec();
    vec![
        Expression::Ct { key, direction: None, to: 1 },
        and(bit.to_ne_bytes().to_vec()),
        compare(Sense::Not, nothing),
    ]
}

fn is_local(flags: u32) -> Vec<Expression> {
    let local = RTN_LOCAL.to_ne_bytes().to_vec();
    vec![Expression::Fib { result: FIB_ADDRTYPE, flags, to: 1 }, compare(Sense::Is, local)]
}

fn compare(sense: Sense, value: Vec<u8>) -> Expression {
    let operation = match sense {
        Sense::Is => EQUAL,
        Sense::Not => NOT_EQUAL,
    };
    Expression::Compare { from: 1, operation, value }
}

fn and(mask: Vec<u8>) -> Expression {
    let length = if mask.len() == 4 { 4 } else { 16 };
    Expression::Bitwise { from: 1, to: 1, length, xor: vec![0; mask.len()], mask, operation: 0 }
}

fn nat(family: Family, port: Register) -> Expression {
    let family = match family {
        Family::Ip => libc::AF_INET,
        Family::Ip6 => libc::AF_INET6,
    };
    Expression::Nat { kind: DNAT, family: family.unsigned_abs(), address: 1, port, flags: 0 }
}

fn sense(operation: u32) -> Sense {
    if operation == EQUAL { Sense::Is } else { Sense::Not }
}

/// The register that begins so many words into the space; the kernel names whole registers by their old numbers.
fn register(words: usize) -> Register {
    let words = u32::try_from(words).unwrap_or(u32::MAX);
    if words.is_multiple_of(4) { 1 + words / 4 } else { 8 + words }
}

fn address_words(family: Family) -> usize {
    match family {
        Family::Ip => 1,
        Family::Ip6 => 4,
    }
}

fn port_unreachable(family: Family) -> u8 {
    match family {
        Family::Ip => 3,
        Family::Ip6 => 4,
    }
}

/// A whole name is compared with the zeros that follow it, a prefix without.
fn interface(name: &Name) -> Vec<u8> {
    if let Some(prefix) = name.strip_suffix('*') {
        return prefix.as_bytes().to_vec();
    }
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_LENGTH, 0);
    bytes
}

fn interface_name(bytes: &[u8]) -> Option<Name> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let name = std::str::from_utf8(&bytes[..end]).ok()?;
    let is_whole = bytes.len() == NAME_LENGTH;
    Some(if is_whole { name.into() } else { format!("{name}*").into() })
}

pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        16 => bytes.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    }
}

fn range(address: &[u8], length: u32) -> Option<IpNet> {
    let length = u8::try_from(length).ok()?;
    match address_of(address)? {
        IpAddr::V4(address) => Ipv4Net::new(address, length).ok().map(IpNet::V4),
        IpAddr::V6(address) => Ipv6Net::new(address, length).ok().map(IpNet::V6),
    }
}
