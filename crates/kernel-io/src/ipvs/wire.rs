//! The numbers and messages of IPVS's netlink family (`linux/ip_vs.h`) and of the family of families
//! (`linux/genetlink.h`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kernel_state::ipvs::{Destination, Forwarding, Scheduler, SchedulerFlags, Server, Service};
use kernel_state::xtables::Protocol;

use super::{Listed, Timeouts};
use crate::netlink::{Attribute, Attributes, Malformed, Message, Reply};

/// `GENL_ID_CTRL`: the family that knows the others.
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `IPVS_GENL_VERSION`
const VERSION: u8 = 1;

pub(super) const NEW_SERVICE: u8 = 1;
pub(super) const SET_SERVICE: u8 = 2;
const DEL_SERVICE: u8 = 3;
const GET_SERVICE: u8 = 4;
pub(super) const NEW_DEST: u8 = 5;
pub(super) const SET_DEST: u8 = 6;
const DEL_DEST: u8 = 7;
const GET_DEST: u8 = 8;
const SET_CONFIG: u8 = 12;
const GET_CONFIG: u8 = 13;

// Of a message.
const SERVICE: u16 = 1;
const DEST: u16 = 2;
const TIMEOUT_TCP: u16 = 4;
const TIMEOUT_TCP_FIN: u16 = 5;
const TIMEOUT_UDP: u16 = 6;

// Within SERVICE.
const SVC_AF: u16 = 1;
const SVC_PROTOCOL: u16 = 2;
const SVC_ADDR: u16 = 3;
const SVC_PORT: u16 = 4;
const SVC_FWMARK: u16 = 5;
const SVC_SCHED_NAME: u16 = 6;
const SVC_FLAGS: u16 = 7;
const SVC_TIMEOUT: u16 = 8;
const SVC_NETMASK: u16 = 9;

// Within DEST.
const DEST_ADDR: u16 = 1;
const DEST_PORT: u16 = 2;
const DEST_FWD_METHOD: u16 = 3;
const DEST_WEIGHT: u16 = 4;
const DEST_U_THRESH: u16 = 5;
const DEST_L_THRESH: u16 = 6;
const DEST_ACTIVE_CONNS: u16 = 7;
const DEST_INACT_CONNS: u16 = 8;
const DEST_ADDR_FAMILY: u16 = 11;

/// `IP_VS_SVC_F_PERSISTENT`
const PERSISTENT: u32 = 0x1;
/// `IP_VS_CONN_F_FWD_MASK`; 0 of it is masquerade.
const FORWARDING: u32 = 0x7;

pub(super) fn ask_family() -> Message {
    let mut message = Message::new(CONTROLLER, 0);
    message.header(&[GET_FAMILY, 1, 0, 0]).text(FAMILY_NAME, "IPVS");
    message
}

pub(super) fn family_id(reply: &Reply<'_>) -> Result<Option<u16>, Malformed> {
    let (_, attributes) = reply.split::<4>()?;
    attributes.find(FAMILY_ID)?.map(|attribute| attribute.u16()).transpose()
}

pub(super) fn put_server(family: u16, command: u8, server: &Server, service: &Service) -> Message {
    let persistent = if service.persistence.is_some() { PERSISTENT } else { 0 };
    let flags = persistent | service.flags.bits();
    let mut message = message(family, command);
    message.nested(SERVICE, |inside| {
        name(inside, server);
        // The flags, and which of them are meant; in the machine's order, whatever their type in the header says.
        let meant = (PERSISTENT | SchedulerFlags::ALL.bits()).to_ne_bytes();
        inside
            .text(SVC_SCHED_NAME, service.scheduler.as_str())
            .attribute(SVC_FLAGS, &[flags.to_ne_bytes(), meant].concat())
            .u32(SVC_TIMEOUT, service.persistence.unwrap_or(0))
            // Each address is a client of its own: a mask of IPv4, a length of IPv6.
            .u32(SVC_NETMASK, if server.at.is_ipv4() { u32::MAX } else { 128 });
    });
    message
}

pub(super) fn drop_server(family: u16, server: &Server) -> Message {
    about(family, DEL_SERVICE, server)
}

pub(super) fn put_destination(
    family: u16,
    command: u8,
    server: &Server,
    at: SocketAddr,
    to: Destination,
) -> Message {
    let mut message = about(family, command, server);
    message.nested(DEST, |inside| {
        place(inside, at);
        let method = match to.forwarding {
            Forwarding::Masquerade => 0,
            Forwarding::Other(method) => method,
        };
        inside
            .u32(DEST_FWD_METHOD, method)
            .u32(DEST_WEIGHT, to.weight)
            .u32(DEST_U_THRESH, 0)
            .u32(DEST_L_THRESH, 0);
    });
    message
}

pub(super) fn drop_destination(family: u16, server: &Server, at: SocketAddr) -> Message {
    let mut message = about(family, DEL_DEST, server);
    message.nested(DEST, |inside| place(inside, at));
    message
}

pub(super) fn list_servers(family: u16) -> Message {
    message(family, GET_SERVICE)
}

pub(super) fn list_destinations(family: u16, server: &Server) -> Message {
    about(family, GET_DEST, server)
}

pub(super) fn set_timeouts(family: u16, timeouts: &Timeouts) -> Message {
    // 0 leaves what there is; the kernel wants all three.
    let seconds = |timeout: Option<Duration>| {
        timeout.map_or(0, |timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX))
    };
    let mut message = message(family, SET_CONFIG);
    message
        .u32(TIMEOUT_TCP, seconds(timeouts.tcp))
        .u32(TIMEOUT_TCP_FIN, seconds(timeouts.tcp_fin))
        .u32(TIMEOUT_UDP, seconds(timeouts.udp));
    message
}

pub(super) fn ask_timeouts(family: u16) -> Message {
    message(family, GET_CONFIG)
}

/// The timeouts of the namespace.
pub(super) fn timeouts(reply: &Reply<'_>) -> Result<Timeouts, Malformed> {
    let (_, attributes) = reply.split::<4>()?;
    let seconds = |kind| -> Result<_, Malformed> {
        Ok(Some(Duration::from_secs(needed(&attributes, kind)?.u32()?.into())))
    };
    Ok(Timeouts {
        tcp: seconds(TIMEOUT_TCP)?,
        tcp_fin: seconds(TIMEOUT_TCP_FIN)?,
        udp: seconds(TIMEOUT_UDP)?,
    })
}

/// A virtual server; nothing for one that is known by a firewall mark, or speaks a protocol that we do not.
pub(super) fn server(reply: &Reply<'_>) -> Result<Option<(Server, Service)>, Malformed> {
    let (_, attributes) = reply.split::<4>()?;
    let Some(all) = attributes.find(SERVICE)? else { return Ok(None) };
    let inside = all.nested();
    if inside.find(SVC_FWMARK)?.is_some() {
        return Ok(None);
    }
    let family = needed(&inside, SVC_AF)?.u16()?;
    let Some(protocol) = protocol(needed(&inside, SVC_PROTOCOL)?.u16()?) else { return Ok(None) };
    let ip = ip(&needed(&inside, SVC_ADDR)?, family)?;
    let port = needed(&inside, SVC_PORT)?.be16()?;
    // A scheduler may have been taken away from under it.
    let scheduler = inside.find(SVC_SCHED_NAME)?.map(|name| name.text()).transpose()?.unwrap_or_default();
    // The flags, and which of them are meant.
    let [f0, f1, f2, f3, ..] = needed(&inside, SVC_FLAGS)?.array::<8>()?;
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let timeout = needed(&inside, SVC_TIMEOUT)?.u32()?;
    let Some(scheduler) = Scheduler::new(if scheduler.is_empty() { "none" } else { scheduler }) else {
        return Ok(None);
    };
    let service = Service {
        scheduler,
        persistence: (flags & PERSISTENT != 0).then_some(timeout),
        flags: SchedulerFlags::from_bits(flags),
    };
    Ok(Some((Server { protocol, at: SocketAddr::new(ip, port) }, service)))
}

/// A real server.
pub(super) fn destination(reply: &Reply<'_>) -> Result<Option<Listed>, Malformed> {
    let (_, attributes) = reply.split::<4>()?;
    let Some(all) = attributes.find(DEST)? else { return Ok(None) };
    let inside = all.nested();
    // Since 3.18; before, it was that of the virtual server, and its own bytes tell it as well.
    let family = inside.find(DEST_ADDR_FAMILY)?.map(|family| family.u16()).transpose()?;
    let address = needed(&inside, DEST_ADDR)?;
    let ip = ip(&address, family.unwrap_or(AF_INET))?;
    let port = needed(&inside, DEST_PORT)?.be16()?;
    let method = needed(&inside, DEST_FWD_METHOD)?.u32()? & FORWARDING;
    let count = |kind| needed(&inside, kind)?.u32().map(u64::from);
    let destination = Destination {
        weight: needed(&inside, DEST_WEIGHT)?.u32()?,
        forwarding: if method == 0 { Forwarding::Masquerade } else { Forwarding::Other(method) },
    };
    let connections = count(DEST_ACTIVE_CONNS)? + count(DEST_INACT_CONNS)?;
    Ok(Some(Listed { at: SocketAddr::new(ip, port), destination, connections }))
}

fn message(family: u16, command: u8) -> Message {
    let mut message = Message::new(family, 0);
    // `struct genlmsghdr`
    message.header(&[command, VERSION, 0, 0]);
    message
}

fn about(family: u16, command: u8, server: &Server) -> Message {
    let mut message = message(family, command);
    message.nested(SERVICE, |inside| name(inside, server));
    message
}

/// What names a virtual server.
fn name(inside: &mut Message, server: &Server) {
    inside
        .u16(SVC_AF, family_of(server.at.ip()))
        .u16(SVC_PROTOCOL, number(server.protocol))
        .attribute(SVC_ADDR, &octets(server.at.ip()))
        .be16(SVC_PORT, server.at.port());
}

/// What names a real server.
fn place(inside: &mut Message, at: SocketAddr) {
    inside
        .attribute(DEST_ADDR, &octets(at.ip()))
        .be16(DEST_PORT, at.port())
        .u16(DEST_ADDR_FAMILY, family_of(at.ip()));
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

fn family_of(ip: IpAddr) -> u16 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// `union nf_inet_addr`: room for either family.
fn octets(ip: IpAddr) -> [u8; 16] {
    let mut octets = [0; 16];
    match ip {
        IpAddr::V4(ip) => octets[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => octets = ip.octets(),
    }
    octets
}

fn ip(attribute: &Attribute<'_>, family: u16) -> Result<IpAddr, Malformed> {
    let octets = attribute.array::<16>()?;
    let [a, b, c, d, ..] = octets;
    Ok(if family == AF_INET { IpAddr::from([a, b, c, d]) } else { IpAddr::from(octets) })
}

fn needed<'a>(inside: &Attributes<'a>, kind: u16) -> Result<Attribute<'a>, Malformed> {
    inside.find(kind)?.ok_or(Malformed::Missing { kind })
}

fn number(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn protocol(number: u16) -> Option<Protocol> {
    Some(match number {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        132 => Protocol::Sctp,
        _ => return None,
    })
}
