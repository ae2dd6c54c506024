//! A link by its namespace and name, for those who build networks by hand.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{LinkEntry, LinkError, Links, Mac, Route, VethEnd};
use crate::netns::Netns;

/// A link that was made; dropping the handle leaves it alone. Each call opens its own door to the namespace.
#[derive(Clone, Debug)]
pub struct Link {
    netns: Netns,
    name: String,
}

impl Link {
    /// Makes a veth pair, each end straight in its namespace; returns the two ends in the same order.
    pub fn veth(one: &str, in_one: &Netns, two: &str, in_two: &Netns) -> Result<(Self, Self), LinkError> {
        Links::of(in_one)?.create_veth(
            VethEnd { name: one, netns: in_one, mac: None },
            VethEnd { name: two, netns: in_two, mac: None },
        )?;
        Ok((Self::named(one, in_one), Self::named(two, in_two)))
    }

    /// The loopback link.
    pub fn loopback(netns: &Netns) -> Self {
        Self::named("lo", netns)
    }

    /// A link that is known to be there.
    pub fn named(name: &str, netns: &Netns) -> Self {
        Self { netns: netns.clone(), name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace that it is in.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Sets it up.
    pub fn set_up(&self) -> Result<&Self, LinkError> {
        self.change(Links::set_up)
    }

    /// Sets it down.
    pub fn set_down(&self) -> Result<&Self, LinkError> {
        self.change(Links::set_down)
    }

    /// Waits until packets pass it: until its other end is up as well and the kernel has noticed.
    pub fn wait_running(&self) -> Result<&Self, LinkError> {
        self.change(|links, name| links.wait_running(name, Duration::from_secs(5)))
    }

    /// Gives it an address, with the route to its range; an IPv6 address is usable once it is local.
    pub fn add_address(&self, address: IpNet) -> Result<&Self, LinkError> {
        self.change(|links, name| links.add_address(name, address))
    }

    /// Waits until packets to an address of its namespace are taken in.
    pub fn wait_local(&self, address: IpAddr) -> Result<&Self, LinkError> {
        self.change(|links, _| links.wait_local(address, Duration::from_secs(5)))
    }

    /// Takes an address from it.
    pub fn delete_address(&self, address: IpNet) -> Result<&Self, LinkError> {
        self.change(|links, name| links.delete_address(name, address))
    }

    /// Adds a route to its namespace; one without a link of its own goes through this one.
    pub fn add_route(&self, route: &Route) -> Result<&Self, LinkError> {
        self.change(|links, name| match route.dev {
            Some(_) => links.add_route(route),
            None => links.add_route(&route.clone().dev(name)),
        })
    }

    /// Says for good which Ethernet address an address on it has.
    pub fn add_neighbour(&self, address: IpAddr, mac: Mac) -> Result<&Self, LinkError> {
        self.change(|links, name| links.add_neighbour(name, address, mac))
    }

    /// What the kernel says of it.
    pub fn entry(&self) -> Result<LinkEntry, LinkError> {
        Links::of(&self.netns)?.get(&self.name)
    }

    /// Deletes it; of a veth pair both ends go.
    pub fn delete(self) -> Result<(), LinkError> {
        self.change(Links::delete).map(drop)
    }

    fn change(
        &self,
        make: impl FnOnce(&mut Links, &str) -> Result<(), LinkError>,
    ) -> Result<&Self, LinkError> {
        make(&mut Links::of(&self.netns)?, &self.name)?;
        Ok(self)
    }
}
