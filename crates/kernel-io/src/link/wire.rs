//! The numbers and fixed parts of rtnetlink (linux/rtnetlink.h, `if_link.h`, `if_addr.h`, `neighbour.h`).

use std::net::IpAddr;

use ipnet::IpNet;

use super::{AddressEntry, AddressScope, LinkEntry, LinkState, Mac, Way};
use crate::netlink::{Attribute, Malformed, Reply};

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_SETLINK: u16 = 19;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
pub(super) const RTM_GETADDR: u16 = 22;
pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_GETROUTE: u16 = 26;
pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_NEWRULE: u16 = 32;
pub(super) const RTM_DELRULE: u16 = 33;
pub(super) const RTM_GETRULE: u16 = 34;

pub(super) const IFF_UP: u32 = 0x1;
pub(super) const IFF_RUNNING: u32 = 0x40;

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_NET_NS_FD: u16 = 28;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
pub(super) const VETH_INFO_PEER: u16 = 1;

pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_FLAGS: u16 = 8;
pub(super) const IFA_F_NODAD: u32 = 0x02;

pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PREFSRC: u16 = 7;
pub(super) const RTA_TABLE: u16 = 15;
pub(super) const RTN_UNICAST: u8 = 1;
pub(super) const RTN_LOCAL: u8 = 2;
pub(super) const RTN_BLACKHOLE: u8 = 6;
/// The number is in an attribute.
pub(super) const RT_TABLE_UNSPEC: u8 = 0;
pub(super) const RT_TABLE_MAIN: u8 = 254;
pub(super) const RT_TABLE_LOCAL: u8 = 255;
pub(super) const RTPROT_STATIC: u8 = 4;
pub(super) const RTNH_F_ONLINK: u32 = 0x4;

pub(super) const RT_SCOPE_UNIVERSE: u8 = 0;
pub(super) const RT_SCOPE_LINK: u8 = 253;
pub(super) const RT_SCOPE_HOST: u8 = 254;

pub(super) const FRA_PRIORITY: u16 = 6;
pub(super) const FRA_FWMARK: u16 = 10;
pub(super) const FRA_TABLE: u16 = 15;
pub(super) const FRA_FWMASK: u16 = 16;
pub(super) const FRA_PROTOCOL: u16 = 21;

pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
pub(super) const NUD_PERMANENT: u16 = 0x80;

/// `struct ifinfomsg`
pub(super) fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`
pub(super) fn address_header(family: u8, prefix: u8, scope: u8, index: u32) -> [u8; 8] {
    let [i0, i1, i2, i3] = index.to_ne_bytes();
    [family, prefix, 0, scope, i0, i1, i2, i3]
}

/// `struct rtmsg`
pub(super) fn route_header(family: u8, prefix: u8, table: u8, scope: u8, kind: u8, flags: u32) -> [u8; 12] {
    let [f0, f1, f2, f3] = flags.to_ne_bytes();
    [family, prefix, 0, 0, table, RTPROT_STATIC, scope, kind, f0, f1, f2, f3]
}

/// `struct rtmsg` of a question for the way to one address
pub(super) fn way_header(family: u8, prefix: u8) -> [u8; 12] {
    [family, prefix, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The answer to such a question.
pub(super) fn way(reply: Reply<'_>) -> Result<Option<Way>, Malformed> {
    if reply.kind != RTM_NEWROUTE {
        return Ok(None);
    }
    let (header, attributes) = reply.split::<12>()?;
    if header[7] == RTN_LOCAL {
        return Ok(Some(Way::Local));
    }
    attributes.find(RTA_OIF)?.map(|link| link.u32().map(Way::Link)).transpose()
}

/// `struct fib_rule_hdr` of a rule that leads to a table
pub(super) fn rule_header(family: u8) -> [u8; 12] {
    const FR_ACT_TO_TBL: u8 = 1;
    [family, 0, 0, 0, RT_TABLE_UNSPEC, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0]
}

/// `struct ndmsg`
pub(super) fn neighbour_header(family: u8, index: u32, state: u16) -> [u8; 12] {
    let [i0, i1, i2, i3] = index.to_ne_bytes();
    let [s0, s1] = state.to_ne_bytes();
    [family, 0, 0, 0, i0, i1, i2, i3, s0, s1, 0, 0]
}

/// `AF_INET` or `AF_INET6`
pub(super) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

/// The bytes of an address as the wire has them.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn link(reply: Reply<'_>) -> Result<Option<LinkEntry>, Malformed> {
    if reply.kind != RTM_NEWLINK {
        return Ok(None);
    }
    let (header, attributes) = reply.split::<16>()?;
    let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *header;
    let state = match u32::from_ne_bytes([f0, f1, f2, f3]) {
        flags if flags & IFF_UP == 0 => LinkState::Down,
        flags if flags & IFF_RUNNING == 0 => LinkState::Up,
        _ => LinkState::Running,
    };
    let mut entry = LinkEntry {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: String::new(),
        state,
        mac: None,
        mtu: 0,
        kind: None,
    };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_IFNAME => attribute.text()?.clone_into(&mut entry.name),
            // Tunnels have addresses of other sizes; those are no Ethernet addresses.
            IFLA_ADDRESS => entry.mac = attribute.array().ok().map(Mac),
            IFLA_MTU => entry.mtu = attribute.u32()?,
            IFLA_LINKINFO => {
                let kind = attribute.nested().find(IFLA_INFO_KIND)?;
                entry.kind = kind.map(|kind| kind.text().map(str::to_owned)).transpose()?;
            }
            _ => {}
        }
    }
    Ok(Some(entry))
}

pub(super) fn address(reply: Reply<'_>) -> Result<Option<AddressEntry>, Malformed> {
    if reply.kind != RTM_NEWADDR {
        return Ok(None);
    }
    let (&[_, prefix, _, scope, i0, i1, i2, i3], attributes) = reply.split::<8>()?;
    // On a link between two points IFA_ADDRESS is the other end and IFA_LOCAL ours; elsewhere they are the same,
    // and IPv6 mostly sends IFA_ADDRESS alone.
    let (mut local, mut other) = (None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            IFA_LOCAL => local = Some(ip(&attribute)?),
            IFA_ADDRESS => other = Some(ip(&attribute)?),
            _ => {}
        }
    }
    let ip = local.or(other).ok_or(Malformed::Missing { kind: IFA_ADDRESS })?;
    let address = IpNet::new(ip, prefix).map_err(|_| Malformed::Length { says: prefix.into(), have: 128 })?;
    let scope = match scope {
        RT_SCOPE_UNIVERSE => AddressScope::Global,
        RT_SCOPE_LINK => AddressScope::Link,
        RT_SCOPE_HOST => AddressScope::Host,
        other => AddressScope::Other(other),
    };
    Ok(Some(AddressEntry {
        link: String::new(),
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        address,
        scope,
    }))
}

fn ip(attribute: &Attribute<'_>) -> Result<IpAddr, Malformed> {
    match attribute.payload.len() {
        4 => attribute.array::<4>().map(IpAddr::from),
        _ => attribute.array::<16>().map(IpAddr::from),
    }
}
