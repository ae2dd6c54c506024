//! Sets of addresses and ports that rules match against.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kernel_state::ipset::{IpsetState, Key, Member, SetName};
use kernel_state::xtables::Direction;

use super::Walk;

/// The members of each set.
#[derive(Debug, Default)]
pub(crate) struct Sets(BTreeMap<SetName, BTreeSet<Member>>);

impl Sets {
    /// The sets of a state.
    pub(crate) fn of(state: &IpsetState) -> Self {
        let mut sets: BTreeMap<SetName, BTreeSet<Member>> = BTreeMap::new();
        for (key, _) in state.iter() {
            match key {
                Key::Set(name) => {
                    sets.entry(name.clone()).or_default();
                }
                Key::Member(name, member) => {
                    sets.entry(name.clone()).or_default().insert(*member);
                }
            }
        }
        Self(sets)
    }

    /// Whether a packet is in a set; nothing where that cannot be told.
    pub(super) fn holds(&self, name: &SetName, directions: &[Direction], walk: &Walk<'_>) -> Option<bool> {
        let members = self.0.get(name)?;
        let (protocol, to) = (walk.protocol, walk.destination);
        let ip = |direction: Direction| match direction {
            Direction::Source => walk.source,
            Direction::Destination => to.ip(),
        };
        Some(match *directions {
            // A set holds either addresses or ports.
            [direction] => {
                members.contains(&Member::Ip(ip(direction)))
                    || (direction == Direction::Destination && members.contains(&Member::Port(to.port())))
            }
            [first, Direction::Destination] => {
                members.contains(&Member::IpPort(ip(first), protocol, to.port()))
            }
            [first, Direction::Destination, third] => {
                let other: IpAddr = ip(third);
                members.iter().any(|member| match *member {
                    Member::IpPortIp(at, of, port, third) => {
                        (at, of, port, third) == (ip(first), protocol, to.port(), other)
                    }
                    Member::IpPortNet(at, of, port, range) => {
                        (at, of, port) == (ip(first), protocol, to.port()) && range.contains(&other)
                    }
                    Member::Ip(_) | Member::Port(_) | Member::IpPort(..) => false,
                })
            }
            _ => return None,
        })
    }
}
