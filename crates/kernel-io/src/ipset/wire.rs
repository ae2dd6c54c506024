//! The numbers and messages of the ipset protocol (`linux/netfilter/ipset/ip_set.h`).

use std::net::IpAddr;

use ipnet::IpNet;
use kernel_state::ipset::{Family, HASH_SIZE, HashOf, MAX_ELEMENTS, Member, SetName, SetType};
use kernel_state::xtables::Protocol;

use crate::netlink::{Attribute, Attributes, Malformed, Message, Reply};

const SUBSYSTEM: u16 = 6 << 8; // NFNL_SUBSYS_IPSET
const CREATE: u16 = SUBSYSTEM + 2;
const DESTROY: u16 = SUBSYSTEM + 3;
const LIST: u16 = SUBSYSTEM + 7;
const ADD: u16 = SUBSYSTEM + 9;
const DELETE: u16 = SUBSYSTEM + 10;
const TYPE: u16 = SUBSYSTEM + 13;
const VERSION: u16 = SUBSYSTEM + 1;

/// What every kernel since 2.6.39 speaks.
const PROTOCOL: u8 = 6;

// Of a message.
const ATTR_PROTOCOL: u16 = 1;
const ATTR_SETNAME: u16 = 2;
const ATTR_TYPENAME: u16 = 3;
const ATTR_REVISION: u16 = 4;
const ATTR_FAMILY: u16 = 5;
const ATTR_DATA: u16 = 7;
const ATTR_ADT: u16 = 8;

// Within ATTR_DATA.
const DATA_IP: u16 = 1;
const DATA_PORT: u16 = 4;
const DATA_PORT_TO: u16 = 5;
const DATA_PROTO: u16 = 7;
const DATA_HASHSIZE: u16 = 18;
const DATA_MAXELEM: u16 = 19;
const DATA_IP2: u16 = 20;
const DATA_CIDR2: u16 = 21;

// Within an address.
const IPADDR_IPV4: u16 = 1;
const IPADDR_IPV6: u16 = 2;

/// `NLA_F_NET_BYTEORDER`: ipset refuses numbers that do not say so.
const NET_ORDER: u16 = 0x4000;

/// `IPSET_ERR_BUSY`
pub(super) const BUSY: i32 = 4100;

/// What ipset's own numbers mean, as far as we can meet them.
pub(super) fn meaning(code: i32) -> Option<&'static str> {
    Some(match code {
        4097 => "the kernel speaks another ipset protocol",
        4098 => "the kernel has no such type of set",
        4099 => "there are as many sets as the kernel allows",
        BUSY => "the set is in use by a rule",
        4102 => "the set is of another type",
        4352 => "the set is full",
        _ => return None,
    })
}

pub(super) fn version() -> Message {
    message(VERSION, 2)
}

pub(super) fn list(name: &SetName) -> Message {
    named(LIST, name)
}

pub(super) fn destroy(name: &SetName) -> Message {
    named(DESTROY, name)
}

pub(super) fn ask_revision(kind: &SetType) -> Message {
    let mut message = message(TYPE, family(kind));
    message.text(ATTR_TYPENAME, kind.name()).u8(ATTR_FAMILY, family(kind));
    message
}

pub(super) fn create(name: &SetName, kind: &SetType, revision: u8) -> Message {
    let mut message = named(CREATE, name);
    message.text(ATTR_TYPENAME, kind.name()).u8(ATTR_REVISION, revision).u8(ATTR_FAMILY, family(kind));
    message.nested(ATTR_DATA, |data| {
        if matches!(kind, SetType::BitmapPort) {
            data.be16(DATA_PORT | NET_ORDER, 0).be16(DATA_PORT_TO | NET_ORDER, u16::MAX);
        } else {
            data.be32(DATA_HASHSIZE | NET_ORDER, HASH_SIZE).be32(DATA_MAXELEM | NET_ORDER, MAX_ELEMENTS);
        }
    });
    message
}

pub(super) fn add(name: &SetName, member: &Member) -> Message {
    with_member(ADD, name, member)
}

pub(super) fn delete(name: &SetName, member: &Member) -> Message {
    with_member(DELETE, name, member)
}

/// The newest revision of a type, from the answer to [`ask_revision`].
pub(super) fn revision(reply: &Reply<'_>) -> Result<Option<u8>, Malformed> {
    let (_, attributes) = reply.split::<4>()?;
    attributes.find(ATTR_REVISION)?.map(|attribute| attribute.u8()).transpose()
}

/// What a set holds; nothing in the later parts of a long list.
pub(super) fn kind(reply: &Reply<'_>) -> Result<Option<SetType>, Malformed> {
    let (_, attributes) = reply.split::<4>()?;
    let Some(name) = attributes.find(ATTR_TYPENAME)? else { return Ok(None) };
    let family = match attributes.find(ATTR_FAMILY)?.map(|attribute| attribute.u8()).transpose()? {
        Some(10) => Family::Inet6,
        Some(_) | None => Family::Inet,
    };
    let known = [HashOf::Ip, HashOf::IpPort, HashOf::IpPortIp, HashOf::IpPortNet];
    let known = known.map(|of| SetType::Hash(of, family)).into_iter().chain([SetType::BitmapPort]);
    let name = name.text()?;
    Ok(Some(known.into_iter().find(|kind| kind.name() == name).unwrap_or(SetType::Other(name.into()))))
}

/// The members in one part of a list.
pub(super) fn members(reply: &Reply<'_>, kind: &SetType, into: &mut Vec<Member>) -> Result<(), Malformed> {
    let (_, attributes) = reply.split::<4>()?;
    let Some(all) = attributes.find(ATTR_ADT)? else { return Ok(()) };
    for data in all.nested() {
        into.extend(member(&data?.nested(), kind)?);
    }
    Ok(())
}

/// A member; nothing if our vocabulary has no word for it, because a stranger put it there.
fn member(data: &Attributes<'_>, kind: &SetType) -> Result<Option<Member>, Malformed> {
    let find = |kind| data.find(kind)?.ok_or(Malformed::Missing { kind });
    let port = || find(DATA_PORT)?.be16();
    let of = match kind {
        SetType::BitmapPort => return Ok(Some(Member::Port(port()?))),
        SetType::Other(_) => return Ok(None),
        SetType::Hash(of, _) => *of,
    };
    let at = ip(&find(DATA_IP)?)?;
    if of == HashOf::Ip {
        return Ok(Some(Member::Ip(at)));
    }
    let Some(protocol) = protocol(find(DATA_PROTO)?.u8()?) else { return Ok(None) };
    let port = port()?;
    Ok(match of {
        HashOf::Ip | HashOf::IpPort => Some(Member::IpPort(at, protocol, port)),
        HashOf::IpPortIp => Some(Member::IpPortIp(at, protocol, port, ip(&find(DATA_IP2)?)?)),
        HashOf::IpPortNet => {
            let range = IpNet::new(ip(&find(DATA_IP2)?)?, find(DATA_CIDR2)?.u8()?);
            range.ok().map(|range| Member::IpPortNet(at, protocol, port, range))
        }
    })
}

fn ip(attribute: &Attribute<'_>) -> Result<IpAddr, Malformed> {
    let inside = attribute.nested();
    if let Some(ip) = inside.find(IPADDR_IPV4)? {
        return ip.array::<4>().map(IpAddr::from);
    }
    let ip = inside.find(IPADDR_IPV6)?.ok_or(Malformed::Missing { kind: IPADDR_IPV6 })?;
    ip.array::<16>().map(IpAddr::from)
}

fn message(kind: u16, family: u8) -> Message {
    let mut message = Message::new(kind, 0);
    // `struct nfgenmsg`
    message.header(&[family, 0, 0, 0]).u8(ATTR_PROTOCOL, PROTOCOL);
    message
}

fn named(kind: u16, name: &SetName) -> Message {
    let mut message = message(kind, 2);
    message.text(ATTR_SETNAME, name.as_str());
    message
}

fn with_member(kind: u16, name: &SetName, member: &Member) -> Message {
    let mut message = named(kind, name);
    message.nested(ATTR_DATA, |data| match *member {
        Member::Ip(at) => put_ip(data, DATA_IP, at),
        Member::Port(port) => put_port(data, port),
        Member::IpPort(at, protocol, port) => put_ip_port(data, at, protocol, port),
        Member::IpPortIp(at, protocol, port, other) => {
            put_ip_port(data, at, protocol, port);
            put_ip(data, DATA_IP2, other);
        }
        Member::IpPortNet(at, protocol, port, range) => {
            put_ip_port(data, at, protocol, port);
            put_ip(data, DATA_IP2, range.addr());
            data.u8(DATA_CIDR2, range.prefix_len());
        }
    });
    message
}

fn put_ip_port(data: &mut Message, at: IpAddr, protocol: Protocol, port: u16) {
    put_ip(data, DATA_IP, at);
    put_port(data, port);
    data.u8(DATA_PROTO, number(protocol));
}

fn put_port(data: &mut Message, port: u16) {
    data.be16(DATA_PORT | NET_ORDER, port);
}

fn put_ip(data: &mut Message, kind: u16, at: IpAddr) {
    data.nested(kind, |inside| {
        match at {
            IpAddr::V4(at) => inside.attribute(IPADDR_IPV4 | NET_ORDER, &at.octets()),
            IpAddr::V6(at) => inside.attribute(IPADDR_IPV6 | NET_ORDER, &at.octets()),
        };
    });
}

/// `AF_INET`, `AF_INET6`, or neither for what holds no addresses.
fn family(kind: &SetType) -> u8 {
    match kind {
        SetType::Hash(_, Family::Inet) => 2,
        SetType::Hash(_, Family::Inet6) => 10,
        SetType::BitmapPort | SetType::Other(_) => 0,
    }
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn protocol(number: u8) -> Option<Protocol> {
    Some(match number {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        132 => Protocol::Sctp,
        _ => return None,
    })
}
