//! Policy routing as a target: a table of ours and the rules that lead to it. What is in that table is ours, and so is
//! a rule that leads there and says so.

use kernel_state::ipset::Family;
use kernel_state::routing::{Key, PRIORITY, PROTOCOL, Present, Routing as Vocabulary};
use kernel_state::{Change, Objects};
use rustix::io::Errno;

use super::{LinkError, Links, wire};
use crate::netlink::{Malformed, Message, NetlinkError, Reply, flags};
use crate::pipeline::refused;
use crate::target::{Applied, Drift, ReadError, Target, WriteError};

/// A table of a family, and what leads to it, in the network namespace in which this was opened.
#[derive(Debug)]
pub struct Routing {
    links: Links,
    family: u8,
    table: u32,
}

impl Routing {
    /// The table of this number in the calling thread's namespace.
    pub fn open(family: Family, table: u32) -> Result<Self, LinkError> {
        let links = Links::here()?;
        let family = match family {
            Family::Inet => 2,
            Family::Inet6 => 10,
        };
        Ok(Self { links, family, table })
    }

    fn rules(&mut self) -> Result<Vec<Key>, NetlinkError> {
        let mut message = Message::new(wire::RTM_GETRULE, 0);
        message.header(&[self.family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let table = self.table;
        self.links.socket().dump_all(&mut message, |reply| marked(reply, table))
    }

    fn routes(&mut self) -> Result<Vec<Key>, NetlinkError> {
        let mut message = Message::new(wire::RTM_GETROUTE, 0);
        message.header(&wire::way_header(self.family, 0)).u32(wire::RTA_TABLE, self.table);
        let (family, table) = (self.family, self.table);
        // Older kernels show all tables whatever is asked for.
        self.links.socket().dump_all(&mut message, |reply| all_local(reply, family, table))
    }

    /// The request by which a change is made.
    fn request(&mut self, change: &Change<Vocabulary>) -> Result<Message, LinkError> {
        let (route, rule, with) = match change {
            Change::Put { .. } => (wire::RTM_NEWROUTE, wire::RTM_NEWRULE, flags::CREATE | flags::EXCL),
            Change::Drop { .. } => (wire::RTM_DELROUTE, wire::RTM_DELRULE, 0),
        };
        let family = self.family;
        Ok(match change.key() {
            Key::AllLocal { table } => {
                let loopback = self.links.get("lo")?.index;
                let (unspec, host) = (wire::RT_TABLE_UNSPEC, wire::RT_SCOPE_HOST);
                let mut message = Message::new(route, with);
                message
                    .header(&wire::route_header(family, 0, unspec, host, wire::RTN_LOCAL, 0))
                    .u32(wire::RTA_TABLE, *table)
                    .u32(wire::RTA_OIF, loopback);
                message
            }
            Key::Marked { mark, table } => {
                let mut message = Message::new(rule, with);
                message
                    .header(&wire::rule_header(family))
                    .u32(wire::FRA_PRIORITY, PRIORITY)
                    .u32(wire::FRA_FWMARK, *mark)
                    .u32(wire::FRA_FWMASK, *mark)
                    .u32(wire::FRA_TABLE, *table)
                    .u8(wire::FRA_PROTOCOL, PROTOCOL);
                message
            }
        })
    }
}

impl Target<Vocabulary> for Routing {
    fn read(&mut self, found: &mut dyn FnMut(Key, Present)) -> Result<(), ReadError> {
        for read in [Self::routes, Self::rules] {
            match read(self) {
                Ok(keys) => keys.into_iter().for_each(|key| found(key, Present)),
                Err(error) if is_absence(&error) => {}
                Err(source) => return Err(ReadError { source: source.into() }),
            }
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change<Vocabulary>]) -> Result<(), WriteError> {
        for (index, change) in changes.iter().enumerate() {
            let result = self.request(change).and_then(|mut message| {
                let done = |error: &NetlinkError| match change {
                    Change::Put { .. } => error.errno() == Some(Errno::EXIST),
                    Change::Drop { .. } => is_absence(error),
                };
                match self.links.socket().request(&mut message) {
                    Err(source) if !done(&source) => {
                        let mut object = String::new();
                        Vocabulary::print_changes(std::slice::from_ref(change), &mut object)
                            .expect("writing to a String cannot fail");
                        let object = object.trim_end().to_owned();
                        Err(LinkError::Failed { verb: "route packets by their mark:", object, source })
                    }
                    Ok(()) | Err(_) => Ok(()),
                }
            });
            result.map_err(|source| WriteError {
                applied: Applied::First(index),
                refused: Some(refused(changes, index)),
                source: source.into(),
            })?;
        }
        Ok(())
    }

    /// A full reading tells.
    fn drift(&mut self) -> Drift<Vocabulary> {
        Drift::None
    }

    fn bytes_sent(&self) -> u64 {
        self.links.bytes_sent()
    }
}

/// Whether there is nothing, or could be nothing: no such table, no such family, no policy routing in this kernel.
fn is_absence(error: &NetlinkError) -> bool {
    let absent = [Errno::NOENT, Errno::SRCH, Errno::OPNOTSUPP, Errno::AFNOSUPPORT];
    error.errno().is_some_and(|errno| absent.contains(&errno))
}

/// A rule of ours.
fn marked(reply: Reply<'_>, ours: u32) -> Result<Option<Key>, Malformed> {
    if reply.kind != wire::RTM_NEWRULE {
        return Ok(None);
    }
    let (_, attributes) = reply.split::<12>()?;
    let (mut mark, mut table, mut protocol) = (0, 0, 0);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            wire::FRA_FWMARK => mark = attribute.u32()?,
            wire::FRA_TABLE => table = attribute.u32()?,
            wire::FRA_PROTOCOL => protocol = attribute.u8()?,
            _ => {}
        }
    }
    Ok((table == ours && protocol == PROTOCOL).then_some(Key::Marked { mark, table }))
}

/// The route of our table.
fn all_local(reply: Reply<'_>, of: u8, ours: u32) -> Result<Option<Key>, Malformed> {
    if reply.kind != wire::RTM_NEWROUTE {
        return Ok(None);
    }
    let (header, attributes) = reply.split::<12>()?;
    let table = attributes.find(wire::RTA_TABLE)?.map(|table| table.u32()).transpose()?;
    let [family, prefix, ..] = *header;
    let is_ours = family == of && prefix == 0 && header[7] == wire::RTN_LOCAL && table == Some(ours);
    Ok(is_ours.then_some(Key::AllLocal { table: ours }))
}
