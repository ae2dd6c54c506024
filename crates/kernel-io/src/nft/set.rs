//! Sets, maps and their elements (`NFTA_SET_*`, `NFTA_SET_ELEM_*`).

use std::net::IpAddr;

use ipnet::IpNet;
use kernel_state::nft::{Data, DataType, Family, Field, KeyType, Protocol, SetSpec, Tuple};

use super::rule::{address_bytes, address_of};
use super::wire::{LIST_ITEM, data, element, set};
use super::{userdata, verdict};
use crate::netlink::{Attribute, Attributes, Malformed, Message};

const KEY_TYPES: [KeyType; 7] = [
    KeyType::Address,
    KeyType::Pair,
    KeyType::Port,
    KeyType::PortSlot,
    KeyType::Socket,
    KeyType::SocketSlot,
    KeyType::SocketRange,
];
const DATA_TYPES: [DataType; 3] = [DataType::Nothing, DataType::Verdict, DataType::Endpoint];
/// Seconds to milliseconds.
const MILLI: u64 = 1000;

/// nft's numbers of types. It knows of an integer only by user data what it is, and before 1.0.6 it knows it not even
/// then: it aborts where an integer without a size is a part of a key. So a number says that it is a mark, which has
/// a size, and the user data, which goes first, that it comes from numgen.
const INTEGER: u32 = 4;
const MARK: u32 = 19;
/// One field of a concatenated type.
const FIELD: u32 = 0x3f;

/// What the kernel limits a set to that packets are put into, should nobody have said.
const DYNAMIC_SIZE: u32 = 0xffff;

/// What the kernel is told of a set, and tells again.
#[derive(Debug, PartialEq, Eq)]
struct Description {
    flags: u32,
    key_type: u32,
    key_length: u32,
    data: Option<(u32, u32)>,
    timeout: Option<u64>,
    /// How many elements it can hold, where that was declared.
    size: Option<u32>,
    userdata: Vec<u8>,
}

/// The fields of a key.
pub(super) fn key_fields(key: KeyType) -> Vec<Field> {
    match key {
        KeyType::Address => vec![Field::Destination],
        KeyType::Pair => vec![Field::Source, Field::Destination],
        KeyType::Port => vec![Field::Protocol, Field::Port],
        KeyType::PortSlot => vec![Field::Protocol, Field::Port, Field::Slot(2)],
        KeyType::Socket => vec![Field::Destination, Field::Protocol, Field::Port],
        KeyType::SocketSlot => vec![Field::Destination, Field::Protocol, Field::Port, Field::Slot(2)],
        KeyType::SocketRange => vec![Field::Destination, Field::Protocol, Field::Port, Field::Source],
    }
}

/// Appends what makes a set; nothing for one that we would never make.
pub(super) fn write(out: &mut Message, family: Family, spec: &SetSpec, id: u32) {
    let Some(description) = description(family, spec) else { return };
    out.be32(set::FLAGS, description.flags)
        .be32(set::KEY_TYPE, description.key_type)
        .be32(set::KEY_LENGTH, description.key_length);
    if let Some((kind, length)) = description.data {
        out.be32(set::DATA_TYPE, kind).be32(set::DATA_LENGTH, length);
    }
    out.be32(set::ID, id);
    if let SetSpec::Written(key @ KeyType::SocketRange, _) = spec {
        write_fields(out, family, *key);
    }
    if let Some(timeout) = description.timeout {
        out.be64(set::TIMEOUT, timeout);
    }
    out.attribute(set::USERDATA, &description.userdata);
}

/// The lengths of the fields, which the kernel must know where they hold ranges.
fn write_fields(out: &mut Message, family: Family, key: KeyType) {
    out.nested(set::DESCRIPTION, |out| {
        out.nested(set::DESCRIPTION_CONCAT, |out| {
            for field in key_fields(key) {
                out.nested(LIST_ITEM, |out| {
                    out.be32(set::FIELD_LENGTH, field_length(family, field));
                });
            }
        });
    });
}

/// Reads how a set is made.
pub(super) fn read(family: Family, attributes: &Attributes<'_>) -> Result<SetSpec, Malformed> {
    let number = |kind| attributes.find(kind)?.map(|attribute| attribute.be32()).transpose();
    let sized = attributes.find(set::DESCRIPTION)?.map(|found| found.nested().find(set::SIZE)).transpose()?;
    let flags = number(set::FLAGS)?.unwrap_or_default();
    let default_size = if flags & set::IS_DYNAMIC == 0 { None } else { Some(DYNAMIC_SIZE) };
    let found = Description {
        flags,
        key_type: plain_key(number(set::KEY_TYPE)?.unwrap_or_default()),
        key_length: number(set::KEY_LENGTH)?.unwrap_or_default(),
        data: number(set::DATA_TYPE)?.zip(Some(number(set::DATA_LENGTH)?.unwrap_or_default())),
        timeout: attributes.find(set::TIMEOUT)?.map(|attribute| attribute.be64()).transpose()?,
        size: sized.flatten().map(|size| size.be32()).transpose()?.filter(|size| Some(*size) != default_size),
        userdata: attributes.find(set::USERDATA)?.map(|found| found.payload.to_vec()).unwrap_or_default(),
    };
    let remembered = found.timeout.and_then(|timeout| u32::try_from(timeout / MILLI).ok());
    let written = KEY_TYPES.into_iter().flat_map(|key| DATA_TYPES.map(|data| SetSpec::Written(key, data)));
    let mut known = written.chain(remembered.map(|timeout| SetSpec::Remembered { timeout }));
    let same = |spec: &SetSpec| description(family, spec).is_some_and(|description| description == found);
    Ok(known.find(same).unwrap_or(SetSpec::Foreign))
}

fn description(family: Family, spec: &SetSpec) -> Option<Description> {
    let (key, data, timeout, flags) = match spec {
        SetSpec::Written(key @ KeyType::SocketRange, data) => {
            (*key, *data, None, set::IS_INTERVAL | set::IS_CONCAT)
        }
        SetSpec::Written(key, data) => (*key, *data, None, 0),
        SetSpec::Remembered { timeout } => (
            KeyType::Address,
            DataType::Nothing,
            Some(u64::from(*timeout) * MILLI),
            set::HAS_TIMEOUT | set::IS_DYNAMIC,
        ),
        SetSpec::Foreign => return None,
    };
    let fields = key_fields(key);
    let of_data = [Field::Destination, Field::Port];
    let (map, data_words) = match data {
        DataType::Nothing => (0, None),
        // The kernel says 16 bytes of verdicts, whatever it is told.
        DataType::Verdict => (set::IS_MAP, Some((set::VERDICTS, 16))),
        DataType::Endpoint => (set::IS_MAP, Some((type_number(family, &of_data), length(family, &of_data)))),
    };
    Some(Description {
        flags: flags | map,
        key_type: type_number(family, &fields),
        key_length: length(family, &fields),
        data: data_words,
        timeout,
        size: None,
        userdata: userdata::of_set(family, key, data),
    })
}

/// nft's number of a concatenated type: six bits a field.
fn type_number(family: Family, fields: &[Field]) -> u32 {
    let number = |field: &Field| match field {
        Field::Source | Field::Destination | Field::OriginalDestination => match family {
            Family::Ip => 7,
            Family::Ip6 => 8,
        },
        Field::Protocol => 12,
        Field::Port | Field::OriginalPort => 13,
        Field::Slot(_) => MARK,
    };
    fields.iter().fold(0, |before, field| before << 6 | number(field))
}

/// The same for both names of a number: nft, when it has read its own listing, calls it an integer.
fn plain_key(number: u32) -> u32 {
    if number > FIELD && number & FIELD == INTEGER { number - INTEGER + MARK } else { number }
}

/// Each field begins at a multiple of four bytes.
fn length(family: Family, fields: &[Field]) -> u32 {
    fields.iter().map(|field| field_length(family, *field).next_multiple_of(4)).sum()
}

fn field_length(family: Family, field: Field) -> u32 {
    match field {
        Field::Source | Field::Destination | Field::OriginalDestination => match family {
            Family::Ip => 4,
            Family::Ip6 => 16,
        },
        Field::Protocol => 1,
        Field::Port | Field::OriginalPort => 2,
        Field::Slot(_) => 4,
    }
}

/// Appends an element to a list; without its data where it is to be taken out.
pub(super) fn write_element(out: &mut Message, tuple: &Tuple, content: Option<&Data>) {
    let (first, last) = key(tuple);
    let value = |out: &mut Message, kind, bytes: &Bytes| {
        out.nested(kind, |out| {
            out.attribute(data::VALUE, &bytes.0);
        });
    };
    out.nested(LIST_ITEM, |out| {
        value(out, element::KEY, &first);
        match content {
            None | Some(Data::Nothing) => {}
            Some(Data::Verdict(of)) => {
                out.nested(element::DATA, |out| verdict::write(out, of));
            }
            Some(Data::Endpoint(address, port)) => {
                let mut bytes = Bytes::default();
                bytes.address(*address);
                bytes.port(*port);
                value(out, element::DATA, &bytes);
            }
        }
        if let Some(last) = last {
            value(out, element::KEY_END, &last);
        }
    });
}

/// Reads an element of a set of this type; nothing if no tuple says it.
pub(super) fn read_element(
    family: Family,
    of: (KeyType, DataType),
    attributes: &Attributes<'_>,
) -> Result<Option<(Tuple, Data)>, Malformed> {
    let Some(first) = value(attributes.find(element::KEY)?)? else { return Ok(None) };
    let last = value(attributes.find(element::KEY_END)?)?;
    let Some(tuple) = read_tuple(family, of.0, first, last) else { return Ok(None) };
    let content = attributes.find(element::DATA)?;
    let read = match of.1 {
        DataType::Nothing => Some(Data::Nothing),
        DataType::Verdict => {
            let verdict = content.map(|content| content.nested().find(data::VERDICT)).transpose()?.flatten();
            verdict.map(|found| verdict::read(&found.nested())).transpose()?.map(Data::Verdict)
        }
        DataType::Endpoint => value(content)?.and_then(|bytes| {
            let mut fields = Fields { family, rest: bytes };
            Some(Data::Endpoint(fields.address()?, fields.port()?)).filter(|_| fields.rest.is_empty())
        }),
    };
    Ok(read.map(|data| (tuple, data)))
}

fn value(attribute: Option<Attribute<'_>>) -> Result<Option<&[u8]>, Malformed> {
    let Some(attribute) = attribute else { return Ok(None) };
    Ok(attribute.nested().find(data::VALUE)?.map(|value| value.payload))
}

/// The key as the kernel compares it, and where the last field is a range, the end of it.
fn key(tuple: &Tuple) -> (Bytes, Option<Bytes>) {
    let mut bytes = Bytes::default();
    match tuple {
        Tuple::Address(address) => bytes.address(*address),
        Tuple::Pair(one, other) => {
            bytes.address(*one);
            bytes.address(*other);
        }
        Tuple::Port(protocol, port) => bytes.protocol_port(*protocol, *port),
        Tuple::PortSlot(protocol, port, slot) => {
            bytes.protocol_port(*protocol, *port);
            bytes.slot(*slot);
        }
        Tuple::Socket(address, protocol, port) => bytes.socket(*address, *protocol, *port),
        Tuple::SocketSlot(address, protocol, port, slot) => {
            bytes.socket(*address, *protocol, *port);
            bytes.slot(*slot);
        }
        Tuple::SocketRange(address, protocol, port, range) => {
            bytes.socket(*address, *protocol, *port);
            let mut last = bytes.clone();
            bytes.address(range.network());
            last.address(range.broadcast());
            return (bytes, Some(last));
        }
    }
    (bytes, None)
}

fn read_tuple(family: Family, of: KeyType, first: &[u8], last: Option<&[u8]>) -> Option<Tuple> {
    let mut fields = Fields { family, rest: first };
    let tuple = match of {
        KeyType::Address => Tuple::Address(fields.address()?),
        KeyType::Pair => Tuple::Pair(fields.address()?, fields.address()?),
        KeyType::Port => Tuple::Port(fields.protocol()?, fields.port()?),
        KeyType::PortSlot => Tuple::PortSlot(fields.protocol()?, fields.port()?, fields.slot()?),
        KeyType::Socket => Tuple::Socket(fields.address()?, fields.protocol()?, fields.port()?),
        KeyType::SocketSlot => {
            Tuple::SocketSlot(fields.address()?, fields.protocol()?, fields.port()?, fields.slot()?)
        }
        KeyType::SocketRange => {
            let (address, protocol, port) = (fields.address()?, fields.protocol()?, fields.port()?);
            let from = fields.address()?;
            let to = address_of(last?.get(first.len() - address_bytes(from).len()..)?)?;
            Tuple::SocketRange(address, protocol, port, range(from, to)?)
        }
    };
    // What it would be written as must be what is there, or another element could be meant.
    let (again, again_last) = key(&tuple);
    let same_last = match of {
        KeyType::SocketRange => again_last.as_ref().map(|last| last.0.as_slice()) == last,
        KeyType::Address
        | KeyType::Pair
        | KeyType::Port
        | KeyType::PortSlot
        | KeyType::Socket
        | KeyType::SocketSlot => last.is_none_or(|last| last == first),
    };
    (again.0 == first && same_last).then_some(tuple)
}

/// The range from one address to another, if a prefix says it.
fn range(from: IpAddr, to: IpAddr) -> Option<IpNet> {
    let differing: u32 = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => 32 - (from.to_bits() ^ to.to_bits()).leading_zeros(),
        (IpAddr::V6(from), IpAddr::V6(to)) => 128 - (from.to_bits() ^ to.to_bits()).leading_zeros(),
        _ => return None,
    };
    let bits = if from.is_ipv4() { 32 } else { 128 };
    IpNet::new(from, u8::try_from(bits - differing).ok()?).ok()
}

/// Bytes of a key or of data, each field at a multiple of four.
#[derive(Clone, Debug, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn address(&mut self, address: IpAddr) {
        self.0.extend(address_bytes(address));
    }

    fn port(&mut self, port: u16) {
        self.0.extend(port.to_be_bytes());
        self.0.extend([0; 2]);
    }

    fn protocol_port(&mut self, protocol: Protocol, port: u16) {
        self.0.extend([protocol.0, 0, 0, 0]);
        self.port(port);
    }

    fn socket(&mut self, address: IpAddr, protocol: Protocol, port: u16) {
        self.address(address);
        self.protocol_port(protocol, port);
    }

    /// A number that the kernel made is in its own byte order.
    fn slot(&mut self, slot: u32) {
        self.0.extend(slot.to_ne_bytes());
    }
}

/// The fields of a key or of data that are left to read.
struct Fields<'a> {
    family: Family,
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn address(&mut self) -> Option<IpAddr> {
        let length = match self.family {
            Family::Ip => 4,
            Family::Ip6 => 16,
        };
        self.take(length).and_then(address_of)
    }

    fn protocol(&mut self) -> Option<Protocol> {
        self.take(4).map(|bytes| Protocol(bytes[0]))
    }

    fn port(&mut self) -> Option<u16> {
        self.take(4).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn slot(&mut self) -> Option<u32> {
        self.take(4).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_ne_bytes(*bytes))
    }
}
