//! The numbers and messages of ctnetlink (`linux/netfilter/nfnetlink_conntrack.h`).

use std::net::{IpAddr, SocketAddr};

use super::{Family, Flow, Narrowed};
use crate::netlink::{Attribute, Malformed, Message, Reply, flags};

const SUBSYSTEM: u16 = 1 << 8; // NFNL_SUBSYS_CTNETLINK
const GET: u16 = SUBSYSTEM + 1;
const DELETE: u16 = SUBSYSTEM + 2;

// Of a message.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25; // since 5.8

// Within a tuple.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const TUPLE_ZONE: u16 = 3;

// Within CTA_TUPLE_IP.
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;

// Within CTA_TUPLE_PROTO.
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;

// Within CTA_FILTER: which parts of the tuple are to be compared, a bit each in the order of the kernel's list.
const FILTER_ORIG_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;
const BY_IP_DST: u32 = 1 << 1;
const BY_PROTO_NUM: u32 = 1 << 3;
const BY_PROTO_DST_PORT: u32 = 1 << 5;

const UDP: u8 = 17;

/// A flow with all by which the kernel tells it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) flow: Flow,
    id: u32,
    /// What keeps flows between the same ends apart (`CTA_ZONE`), as the kernel wrote it.
    zone: Option<Zone>,
}

/// Of both directions, or of the original one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    Both(u16),
    Original(u16),
}

/// Asks for a list. It may hold more than was asked for.
///
/// An address of IPv6 is not compared: kernels up to 6.18 at least list just those flows that ask another one.
pub(super) fn list(narrowed: Narrowed) -> Message {
    let mut message = message(GET, narrowed.family());
    message.nested(TUPLE_ORIG, |tuple| {
        if let Narrowed::ToAsked(SocketAddr::V4(asked)) = narrowed {
            tuple.nested(TUPLE_IP, |ip| put_ip(ip, IP_V4_DST, (*asked.ip()).into()));
        }
        tuple.nested(TUPLE_PROTO, |proto| {
            proto.u8(PROTO_NUM, UDP);
            if let Narrowed::ToAsked(asked) = narrowed {
                proto.be16(PROTO_DST_PORT, asked.port());
            }
        });
    });
    let compared = match narrowed {
        Narrowed::ToFamily(_) => BY_PROTO_NUM,
        Narrowed::ToAsked(SocketAddr::V4(_)) => BY_PROTO_NUM | BY_PROTO_DST_PORT | BY_IP_DST,
        Narrowed::ToAsked(SocketAddr::V6(_)) => BY_PROTO_NUM | BY_PROTO_DST_PORT,
    };
    message.nested(FILTER, |filter| {
        filter.u32(FILTER_ORIG_FLAGS, compared).u32(FILTER_REPLY_FLAGS, 0);
    });
    message
}

/// Ends this flow, and no other between the same ends.
pub(super) fn forget(entry: &Entry) -> Message {
    let flow = &entry.flow;
    let mut message = message(DELETE, family(flow.client.ip()));
    message.add_flags(flags::ACK);
    message.nested(TUPLE_ORIG, |tuple| {
        tuple.nested(TUPLE_IP, |ip| {
            put_ip(ip, IP_V4_SRC, flow.client.ip());
            put_ip(ip, IP_V4_DST, flow.asked.ip());
        });
        tuple.nested(TUPLE_PROTO, |proto| {
            proto.u8(PROTO_NUM, UDP);
            proto.be16(PROTO_SRC_PORT, flow.client.port()).be16(PROTO_DST_PORT, flow.asked.port());
        });
        if let Some(Zone::Original(zone)) = entry.zone {
            tuple.be16(TUPLE_ZONE, zone);
        }
    });
    message.be32(ID, entry.id);
    if let Some(Zone::Both(zone)) = entry.zone {
        message.be16(ZONE, zone);
    }
    message
}

/// A flow of a list; nothing if it is not one of UDP.
pub(super) fn entry(reply: &Reply<'_>) -> Result<Option<Entry>, Malformed> {
    let (_, attributes) = reply.split::<4>()?;
    let find = |kind| attributes.find(kind)?.ok_or(Malformed::Missing { kind });
    let Some(original) = Tuple::read(&find(TUPLE_ORIG)?)? else { return Ok(None) };
    let Some(back) = Tuple::read(&find(TUPLE_REPLY)?)? else { return Ok(None) };
    let both = attributes.find(ZONE)?.map(|zone| zone.be16()).transpose()?;
    Ok(Some(Entry {
        flow: Flow { client: original.from, asked: original.to, answered_by: back.from },
        id: find(ID)?.be32()?,
        zone: both.map(Zone::Both).or(original.zone.map(Zone::Original)),
    }))
}

/// One direction of a flow.
struct Tuple {
    from: SocketAddr,
    to: SocketAddr,
    zone: Option<u16>,
}

impl Tuple {
    fn read(attribute: &Attribute<'_>) -> Result<Option<Self>, Malformed> {
        let tuple = attribute.nested();
        let part = |kind| tuple.find(kind)?.ok_or(Malformed::Missing { kind });
        let (ip, proto) = (part(TUPLE_IP)?.nested(), part(TUPLE_PROTO)?.nested());
        let number = |kind| proto.find(kind)?.ok_or(Malformed::Missing { kind });
        if number(PROTO_NUM)?.u8()? != UDP {
            return Ok(None);
        }
        let address = |v4, v6| -> Result<IpAddr, Malformed> {
            if let Some(ip) = ip.find(v4)? {
                return ip.array::<4>().map(IpAddr::from);
            }
            ip.find(v6)?.ok_or(Malformed::Missing { kind: v6 })?.array::<16>().map(IpAddr::from)
        };
        Ok(Some(Self {
            from: SocketAddr::new(address(IP_V4_SRC, IP_V6_SRC)?, number(PROTO_SRC_PORT)?.be16()?),
            to: SocketAddr::new(address(IP_V4_DST, IP_V6_DST)?, number(PROTO_DST_PORT)?.be16()?),
            zone: tuple.find(TUPLE_ZONE)?.map(|zone| zone.be16()).transpose()?,
        }))
    }
}

impl Narrowed {
    fn family(self) -> Family {
        match self {
            Self::ToFamily(family) => family,
            Self::ToAsked(asked) => family(asked.ip()),
        }
    }
}

fn message(kind: u16, family: Family) -> Message {
    let family = match family {
        Family::Inet => 2,
        Family::Inet6 => 10,
    };
    let mut message = Message::new(kind, 0);
    // `struct nfgenmsg`
    message.header(&[family, 0, 0, 0]);
    message
}

/// An address as the attribute of IPv4, or as that of IPv6, which is two further on.
fn put_ip(message: &mut Message, v4: u16, at: IpAddr) {
    match at {
        IpAddr::V4(at) => message.attribute(v4, &at.octets()),
        IpAddr::V6(at) => message.attribute(v4 + (IP_V6_SRC - IP_V4_SRC), &at.octets()),
    };
}

fn family(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::Inet } else { Family::Inet6 }
}
