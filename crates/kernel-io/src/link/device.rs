//! A link that only holds addresses, as a target: made with its first owner, gone with its last address.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kernel_state::Change;
use kernel_state::ipset::Family;
use kernel_state::links::{DUMMY, Key, Links as Vocabulary, Value};
use rustix::io::Errno;

use super::{LinkError, Links, wire};
use crate::netlink::{Message, Refusal, flags};
use crate::pipeline::{Pipeline, refused, widened};
use crate::target::{Applied, Drift, ReadError, Target, WriteError};

/// One dummy link of the network namespace in which this was opened, with its addresses of one family.
#[derive(Debug)]
pub struct Device {
    links: Links,
    name: Arc<str>,
    family: Family,
}

impl Device {
    /// The link of this name in the calling thread's namespace.
    pub fn open(name: &str, family: Family) -> Result<Self, LinkError> {
        let links = Links::here()?.with(widened).map_err(LinkError::Open)?;
        Ok(Self { links, name: name.into(), family })
    }

    /// What it is, if it is there.
    fn kind(&mut self) -> Result<Option<(u32, Arc<str>)>, LinkError> {
        match self.links.get(&self.name) {
            Ok(link) => Ok(Some((link.index, link.kind.unwrap_or_default().into()))),
            Err(LinkError::NoSuchLink { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Its addresses of both families, without those that the kernel gives it by itself.
    fn addresses(&mut self) -> Result<Vec<IpAddr>, LinkError> {
        let all = self.links.addresses()?.into_iter().filter(|address| *address.link == *self.name);
        Ok(all.map(|address| address.address.addr()).filter(|ip| !is_automatic(ip)).collect())
    }

    fn make(&mut self, index: usize, changes: &[Change<Vocabulary>]) -> Result<(), WriteError> {
        let made = match self.kind() {
            Ok(Some((_, kind))) if &*kind == DUMMY => Ok(()),
            Ok(Some((_, kind))) => {
                let source = format!("there is a link of this name already, of kind {kind:?}");
                return Err(at(index, changes, source));
            }
            Ok(None) => self.links.create_dummy(&self.name),
            Err(error) => Err(error),
        };
        made.map_err(|source| at(index, changes, source))
    }

    /// Removes the link, unless the other family still has addresses on it.
    fn unmake(&mut self, index: usize, changes: &[Change<Vocabulary>]) -> Result<(), WriteError> {
        let removed = self.addresses().and_then(|left| {
            if !left.is_empty() {
                return Ok(());
            }
            let name = Arc::clone(&self.name);
            self.links.delete(&name).or_else(|error| if error.is_absence() { Ok(()) } else { Err(error) })
        });
        removed.map_err(|source| at(index, changes, source))
    }

    /// Writes the addresses that stand together from here on. Answers where they end.
    fn write_addresses(&mut self, start: usize, changes: &[Change<Vocabulary>]) -> Result<usize, WriteError> {
        let name = Arc::clone(&self.name);
        let link = self.links.get(&name).map_err(|source| at(start, changes, source))?.index;
        let forgives = |change: &Change<Vocabulary>, refusal: &Refusal| match change {
            Change::Put { .. } => refusal.errno == Errno::EXIST,
            Change::Drop { .. } => refusal.errno == Errno::ADDRNOTAVAIL,
        };
        let words = |_: &Change<Vocabulary>, refusal: &Refusal| refusal.to_string();
        let mut pipeline = Pipeline::default();
        let mut end = start;
        while let Some(change) = changes.get(end) {
            let Key::Address(_, ip) = change.key() else { break };
            let kind = match change {
                Change::Put { .. } => wire::RTM_NEWADDR,
                Change::Drop { .. } => wire::RTM_DELADDR,
            };
            pipeline.push(end, address(kind, link, *ip));
            end += 1;
            if pipeline.is_full() {
                pipeline.send(self.links.socket(), changes, forgives, words)?;
            }
        }
        pipeline.send(self.links.socket(), changes, forgives, words)?;
        Ok(end)
    }
}

impl Target<Vocabulary> for Device {
    fn read(&mut self, found: &mut dyn FnMut(Key, Value)) -> Result<(), ReadError> {
        let failed = |source: LinkError| ReadError { source: source.into() };
        let Some((_, kind)) = self.kind().map_err(failed)? else { return Ok(()) };
        found(Key::Link(Arc::clone(&self.name)), Value::Link(kind));
        let family = self.family;
        for ip in self.addresses().map_err(failed)?.into_iter().filter(|ip| of_family(family, ip)) {
            found(Key::Address(Arc::clone(&self.name), ip), Value::Address);
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change<Vocabulary>]) -> Result<(), WriteError> {
        let mut index = 0;
        while let Some(change) = changes.get(index) {
            match change {
                Change::Put { key: Key::Link(_), .. } => self.make(index, changes)?,
                Change::Drop { key: Key::Link(_), .. } => self.unmake(index, changes)?,
                Change::Put { .. } | Change::Drop { .. } => {
                    index = self.write_addresses(index, changes)?;
                    continue;
                }
            }
            index += 1;
        }
        Ok(())
    }

    fn drift(&mut self) -> Drift<Vocabulary> {
        Drift::None
    }

    fn bytes_sent(&self) -> u64 {
        self.links.bytes_sent()
    }
}

/// A request for an address that stands for itself alone.
fn address(kind: u16, link: u32, ip: IpAddr) -> Message {
    let range = IpNet::from(ip);
    let make = if kind == wire::RTM_NEWADDR { flags::CREATE | flags::EXCL } else { 0 };
    let octets = wire::octets(ip);
    let mut message = Message::new(kind, make);
    message
        .header(&wire::address_header(wire::family(ip), range.prefix_len(), wire::RT_SCOPE_UNIVERSE, link))
        .attribute(wire::IFA_LOCAL, &octets)
        .attribute(wire::IFA_ADDRESS, &octets);
    if ip.is_ipv6() && kind == wire::RTM_NEWADDR {
        message.u32(wire::IFA_FLAGS, wire::IFA_F_NODAD);
    }
    message
}

fn of_family(family: Family, ip: &IpAddr) -> bool {
    match family {
        Family::Inet => ip.is_ipv4(),
        Family::Inet6 => ip.is_ipv6(),
    }
}

/// What the kernel gives a link by itself.
fn is_automatic(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn at(
    index: usize,
    changes: &[Change<Vocabulary>],
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> WriteError {
    WriteError {
        applied: Applied::First(index),
        refused: Some(refused(changes, index)),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
