//! The door to the links of one network namespace: one request a method.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::io::Errno;

use super::route::{Kind, Reach};
use super::{AddressEntry, LinkEntry, LinkError, LinkState, Mac, Route, Way, wire};
use crate::netlink::{Message, NetlinkError, Protocol, Socket, flags};
use crate::netns::Netns;

/// The door to the links of one network namespace.
#[derive(Debug)]
pub struct Links(Socket);

/// One end of a veth pair that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// The link's name.
    pub name: &'a str,
    /// The namespace in which it is made.
    pub netns: &'a Netns,
    /// Its Ethernet address; the kernel makes one up if there is none.
    pub mac: Option<Mac>,
}

impl Links {
    /// The links of the calling thread's namespace.
    pub fn here() -> Result<Self, LinkError> {
        Socket::open(Protocol::Route).map(Self).map_err(LinkError::Open)
    }

    /// The links of this namespace.
    pub fn of(netns: &Netns) -> Result<Self, LinkError> {
        netns.run(Self::here).map_err(Box::new).map_err(LinkError::Netns)?
    }

    /// Makes a link that carries nothing and holds addresses.
    pub fn create_dummy(&mut self, name: &str) -> Result<(), LinkError> {
        let mut message = Message::new(wire::RTM_NEWLINK, flags::CREATE | flags::EXCL);
        message.header(&wire::link_header(0, 0, 0)).text(wire::IFLA_IFNAME, name);
        message.nested(wire::IFLA_LINKINFO, |info| {
            info.text(wire::IFLA_INFO_KIND, "dummy");
        });
        self.request(&mut message, "add dummy link", || name.to_owned())
    }

    /// Makes a veth pair, each end straight in its own namespace.
    pub fn create_veth(&mut self, one: VethEnd<'_>, two: VethEnd<'_>) -> Result<(), LinkError> {
        let describe = |message: &mut Message, end: VethEnd<'_>| {
            message.text(wire::IFLA_IFNAME, end.name).u32(wire::IFLA_NET_NS_FD, number(end.netns));
            if let Some(Mac(mac)) = end.mac {
                message.attribute(wire::IFLA_ADDRESS, &mac);
            }
        };
        let mut message = Message::new(wire::RTM_NEWLINK, flags::CREATE | flags::EXCL);
        message.header(&wire::link_header(0, 0, 0));
        describe(&mut message, one);
        message.nested(wire::IFLA_LINKINFO, |info| {
            info.text(wire::IFLA_INFO_KIND, "veth").nested(wire::IFLA_INFO_DATA, |data| {
                data.nested(wire::VETH_INFO_PEER, |peer| {
                    peer.header(&wire::link_header(0, 0, 0));
                    describe(peer, two);
                });
            });
        });
        self.request(&mut message, "add veth pair", || format!("{} and {}", one.name, two.name))
    }

    /// The same door with its socket set otherwise.
    pub(super) fn with(self, set: fn(Socket) -> Result<Socket, NetlinkError>) -> Result<Self, NetlinkError> {
        set(self.0).map(Self)
    }

    /// The socket, for requests in bulk.
    pub(super) fn socket(&mut self) -> &mut Socket {
        &mut self.0
    }

    /// How many bytes were sent so far.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.0.bytes_sent()
    }

    /// Sets a link up.
    pub fn set_up(&mut self, name: &str) -> Result<(), LinkError> {
        self.set_flag(name, "set up link", wire::IFF_UP)
    }

    /// Sets a link down.
    pub fn set_down(&mut self, name: &str) -> Result<(), LinkError> {
        self.set_flag(name, "set down link", 0)
    }

    /// Waits until packets pass a link; the kernel notices a little after both ends of a veth pair are up, and
    /// what is sent before is lost and sent again only after a second.
    pub fn wait_running(&mut self, name: &str, limit: Duration) -> Result<(), LinkError> {
        let start = Instant::now();
        while self.get(name)?.state != LinkState::Running {
            if start.elapsed() > limit {
                return Err(LinkError::NotRunning { name: name.to_owned(), limit });
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Gives a link another name; most kernels want it down for that.
    pub fn rename(&mut self, name: &str, new: &str) -> Result<(), LinkError> {
        let index = self.index(name)?;
        let mut message = Message::new(wire::RTM_SETLINK, 0);
        message.header(&wire::link_header(index, 0, 0)).text(wire::IFLA_IFNAME, new);
        self.request(&mut message, "rename link", || format!("{name} to {new}"))
    }

    /// Moves a link into another namespace; it loses its addresses and is down there.
    pub fn move_to(&mut self, name: &str, netns: &Netns) -> Result<(), LinkError> {
        let index = self.index(name)?;
        let mut message = Message::new(wire::RTM_SETLINK, 0);
        message.header(&wire::link_header(index, 0, 0)).u32(wire::IFLA_NET_NS_FD, number(netns));
        self.request(&mut message, "move link", || format!("{name} to another network namespace"))
    }

    /// Sets the longest packet that a link carries.
    pub fn set_mtu(&mut self, name: &str, bytes: u32) -> Result<(), LinkError> {
        let index = self.index(name)?;
        let mut message = Message::new(wire::RTM_SETLINK, 0);
        message.header(&wire::link_header(index, 0, 0)).u32(wire::IFLA_MTU, bytes);
        self.request(&mut message, "set the MTU of link", || name.to_owned())
    }

    /// Deletes a link; of a veth pair both ends go.
    pub fn delete(&mut self, name: &str) -> Result<(), LinkError> {
        let index = self.index(name)?;
        let mut message = Message::new(wire::RTM_DELLINK, 0);
        message.header(&wire::link_header(index, 0, 0));
        self.request(&mut message, "delete link", || name.to_owned())
    }

    /// Gives a link an address, with the route to its range. Nobody is asked whether an IPv6 address is free (nodad),
    /// so it is usable once it is local, see [`Links::wait_local`].
    pub fn add_address(&mut self, link: &str, address: IpNet) -> Result<(), LinkError> {
        let mut message = Message::new(wire::RTM_NEWADDR, flags::CREATE | flags::EXCL);
        self.address(&mut message, link, address)?;
        if address.addr().is_ipv6() {
            message.u32(wire::IFA_FLAGS, wire::IFA_F_NODAD);
        }
        self.request(&mut message, "add address", || format!("{address} to {link}"))
    }

    /// Waits until packets to one of our own addresses are taken in. For IPv6 the kernel sees to that in a thread of
    /// its own, a little after the address is there, and only once its link runs.
    pub fn wait_local(&mut self, address: IpAddr, limit: Duration) -> Result<(), LinkError> {
        let start = Instant::now();
        while self.way_to(address)? != Some(Way::Local) {
            if start.elapsed() > limit {
                return Err(LinkError::NotLocal { address, limit });
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Takes an address from a link.
    pub fn delete_address(&mut self, link: &str, address: IpNet) -> Result<(), LinkError> {
        let mut message = Message::new(wire::RTM_DELADDR, 0);
        self.address(&mut message, link, address)?;
        self.request(&mut message, "delete address", || format!("{address} from {link}"))
    }

    /// Adds a route.
    pub fn add_route(&mut self, route: &Route) -> Result<(), LinkError> {
        let mut message = Message::new(wire::RTM_NEWROUTE, flags::CREATE | flags::EXCL);
        self.route(&mut message, route)?;
        self.request(&mut message, "add route", || route.to_string())
    }

    /// Deletes a route.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), LinkError> {
        let mut message = Message::new(wire::RTM_DELROUTE, 0);
        self.route(&mut message, route)?;
        self.request(&mut message, "delete route", || route.to_string())
    }

    /// Says for good which Ethernet address an address on a link has.
    pub fn add_neighbour(&mut self, link: &str, address: IpAddr, mac: Mac) -> Result<(), LinkError> {
        let index = self.index(link)?;
        let mut message = Message::new(wire::RTM_NEWNEIGH, flags::CREATE | flags::REPLACE);
        message
            .header(&wire::neighbour_header(wire::family(address), index, wire::NUD_PERMANENT))
            .attribute(wire::NDA_DST, &wire::octets(address))
            .attribute(wire::NDA_LLADDR, &mac.0);
        self.request(&mut message, "add neighbour", || format!("{address} at {mac} on {link}"))
    }

    /// All links.
    pub fn list(&mut self) -> Result<Vec<LinkEntry>, LinkError> {
        let mut message = Message::new(wire::RTM_GETLINK, 0);
        message.header(&wire::link_header(0, 0, 0));
        self.0.dump_all(&mut message, wire::link).map_err(|source| failed("list", "links".to_owned(), source))
    }

    /// All addresses of both families, with the names of their links.
    pub fn addresses(&mut self) -> Result<Vec<AddressEntry>, LinkError> {
        let names: BTreeMap<u32, String> =
            self.list()?.into_iter().map(|link| (link.index, link.name)).collect();
        let mut message = Message::new(wire::RTM_GETADDR, 0);
        message.header(&wire::address_header(0, 0, 0, 0));
        let mut entries = self
            .0
            .dump_all(&mut message, wire::address)
            .map_err(|source| failed("list", "addresses".to_owned(), source))?;
        // A link that came or went between the two lists has no name in the first.
        entries.retain_mut(|entry| match names.get(&entry.index) {
            Some(name) => {
                name.clone_into(&mut entry.link);
                true
            }
            None => false,
        });
        Ok(entries)
    }

    /// One link.
    pub fn get(&mut self, name: &str) -> Result<LinkEntry, LinkError> {
        let mut message = Message::new(wire::RTM_GETLINK, 0);
        message.header(&wire::link_header(0, 0, 0)).text(wire::IFLA_IFNAME, name);
        let mut found = None;
        let asked = self.0.query(&mut message, |reply| {
            found = wire::link(reply)?.or(found.take());
            Ok(())
        });
        match (asked, found) {
            (Ok(()), Some(link)) => Ok(link),
            (Ok(()), None) => Err(LinkError::NoSuchLink { name: name.to_owned() }),
            (Err(error), _) if error.errno() == Some(Errno::NODEV) => {
                Err(LinkError::NoSuchLink { name: name.to_owned() })
            }
            (Err(source), _) => Err(failed("find link", name.to_owned(), source)),
        }
    }

    /// Where packets to an address go; nothing, if nowhere.
    pub fn way_to(&mut self, address: IpAddr) -> Result<Option<Way>, LinkError> {
        let mut message = Message::new(wire::RTM_GETROUTE, 0);
        let prefix = IpNet::from(address).prefix_len();
        message
            .header(&wire::way_header(wire::family(address), prefix))
            .attribute(wire::RTA_DST, &wire::octets(address));
        let mut way = None;
        let asked = self.0.query(&mut message, |reply| {
            way = wire::way(reply)?.or(way);
            Ok(())
        });
        match asked {
            Err(error) if matches!(error.errno(), Some(Errno::NETUNREACH | Errno::HOSTUNREACH)) => Ok(None),
            Err(source) => Err(failed("find the way to", address.to_string(), source)),
            Ok(()) => Ok(way),
        }
    }

    fn index(&mut self, name: &str) -> Result<u32, LinkError> {
        self.get(name).map(|link| link.index)
    }

    fn set_flag(&mut self, name: &str, verb: &'static str, up: u32) -> Result<(), LinkError> {
        let index = self.index(name)?;
        let mut message = Message::new(wire::RTM_SETLINK, 0);
        message.header(&wire::link_header(index, up, wire::IFF_UP));
        self.request(&mut message, verb, || name.to_owned())
    }

    fn address(&mut self, message: &mut Message, link: &str, address: IpNet) -> Result<(), LinkError> {
        let index = self.index(link)?;
        let ip = address.addr();
        let scope = if ip.is_loopback() { wire::RT_SCOPE_HOST } else { wire::RT_SCOPE_UNIVERSE };
        let octets = wire::octets(ip);
        message
            .header(&wire::address_header(wire::family(ip), address.prefix_len(), scope, index))
            .attribute(wire::IFA_LOCAL, &octets)
            .attribute(wire::IFA_ADDRESS, &octets);
        Ok(())
    }

    fn route(&mut self, message: &mut Message, route: &Route) -> Result<(), LinkError> {
        let link = route.dev.as_deref().map(|name| self.index(name)).transpose()?;
        let to = route.to.addr();
        let (table, kind, scope) = match route.kind {
            Kind::Local => (wire::RT_TABLE_LOCAL, wire::RTN_LOCAL, wire::RT_SCOPE_HOST),
            Kind::Blackhole => (wire::RT_TABLE_MAIN, wire::RTN_BLACKHOLE, wire::RT_SCOPE_UNIVERSE),
            Kind::Unicast if route.via.is_none() => {
                (wire::RT_TABLE_MAIN, wire::RTN_UNICAST, wire::RT_SCOPE_LINK)
            }
            Kind::Unicast => (wire::RT_TABLE_MAIN, wire::RTN_UNICAST, wire::RT_SCOPE_UNIVERSE),
        };
        let on_link = if route.reach == Reach::OnLink { wire::RTNH_F_ONLINK } else { 0 };
        message.header(&wire::route_header(
            wire::family(to),
            route.to.prefix_len(),
            table,
            scope,
            kind,
            on_link,
        ));
        if route.to.prefix_len() > 0 {
            message.attribute(wire::RTA_DST, &wire::octets(to));
        }
        for (attribute, address) in [(wire::RTA_GATEWAY, route.via), (wire::RTA_PREFSRC, route.source)] {
            if let Some(address) = address {
                message.attribute(attribute, &wire::octets(address));
            }
        }
        if let Some(index) = link {
            message.u32(wire::RTA_OIF, index);
        }
        Ok(())
    }

    fn request(
        &mut self,
        message: &mut Message,
        verb: &'static str,
        object: impl FnOnce() -> String,
    ) -> Result<(), LinkError> {
        self.0.request(message).map_err(|source| failed(verb, object(), source))
    }
}

fn failed(verb: &'static str, object: String, source: NetlinkError) -> LinkError {
    LinkError::Failed { verb, object, source }
}

/// The descriptor's number, as the kernel wants to read it in a message.
fn number(netns: &Netns) -> u32 {
    netns.as_fd().as_raw_fd().cast_unsigned()
}
