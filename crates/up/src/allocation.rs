//! Addresses and node ports for Services that name none. Pure: what is held in, what is held out.
//!
//! Which one a Service gets follows from its name, the next one if that is taken, and it keeps what it has. As the API
//! server does, the lower part of each range is left to those that name their own, as long as the upper one has room
//! (KEP-3070, KEP-3668).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use manifest_documents::FieldError;
use serde::{Deserialize, Serialize};
use service_plan::{Family, NodePort, ServiceName};

use crate::services::{Service, Wants, problem};

/// The ranges that are given from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// At most one of each family; a Service that does not say has its address of the first.
    pub addresses: Vec<IpNet>,
    /// Of node ports.
    pub node_ports: RangeInclusive<u16>,
}

/// What Services have been given, kept so that they keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// Of `NAMESPACE/NAME`.
    addresses: BTreeMap<String, Vec<IpAddr>>,
    /// Of `NAMESPACE/NAME/PROTOCOL/PORT`, or `NAMESPACE/NAME/healthCheck`.
    node_ports: BTreeMap<String, u16>,
}

/// Services as the proxy is told of them.
pub(crate) type Served = BTreeMap<ServiceName, Arc<service_plan::Service>>;

/// Gives each Service what it leaves open. One that cannot have it all is not served, and the reason is told.
pub(crate) fn allocated<'a>(
    services: impl Iterator<Item = (&'a ServiceName, &'a Service)> + Clone,
    ranges: &Ranges,
    held: &mut Held,
) -> (Served, Vec<FieldError>) {
    let mut taken = Taken::by_name(services.clone());
    let before = std::mem::take(held);
    // Whoever has something keeps it, before others choose.
    for (name, _) in services.clone().filter(|(_, service)| service.wants == Wants::Addresses) {
        let kept = before.addresses.get(&name.to_string()).into_iter().flatten().copied();
        let kept: Vec<_> = kept.filter(|ip| ranges.has(ip) && taken.addresses.insert(*ip)).collect();
        held.addresses.insert(name.to_string(), kept);
    }
    for key in services.clone().flat_map(|(name, service)| open_ports(name, service)).map(|open| open.key) {
        let kept = before.node_ports.get(&key).copied();
        if let Some(port) = kept.filter(|port| ranges.node_ports.contains(port) && taken.ports.insert(*port))
        {
            held.node_ports.insert(key, port);
        }
    }
    let (mut served, mut problems) = (Served::new(), Vec::new());
    let mut giver = Giver { ranges, taken, held };
    for (name, service) in services {
        let Some(given) = &service.served else { continue };
        let mut given = (**given).clone();
        let addresses = giver.give_addresses(name, service, &mut given);
        let outcome = addresses.and_then(|()| giver.give_node_ports(name, service, &mut given));
        match outcome {
            Ok(()) => drop(served.insert(name.clone(), Arc::new(given))),
            Err(error) => problems.push(error),
        }
    }
    giver.held.addresses.retain(|_, addresses| !addresses.is_empty());
    (served, problems)
}

/// What nobody else may have.
#[derive(Debug, Default)]
struct Taken {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

/// Whoever gives what is free.
struct Giver<'a> {
    ranges: &'a Ranges,
    taken: Taken,
    held: &'a mut Held,
}

/// A node port that is to be given.
struct OpenPort {
    key: String,
    /// Which of the Service's; none for its health check.
    index: Option<usize>,
}

impl Taken {
    /// What Services name themselves.
    fn by_name<'a>(services: impl Iterator<Item = (&'a ServiceName, &'a Service)>) -> Self {
        let mut taken = Self::default();
        for service in services.filter_map(|(_, service)| service.served.as_ref()) {
            taken.addresses.extend(service.cluster_ips.iter().copied());
            let ports = service.ports.iter().filter_map(|port| port.node_port);
            taken.ports.extend(ports.chain(service.health_check_node_port).map(NodePort::get));
        }
        taken
    }
}

impl Ranges {
    /// The families that Services can have addresses of.
    pub(crate) fn families(&self) -> Vec<Family> {
        self.addresses.iter().map(|range| Family::of(range.addr())).collect()
    }

    fn has(&self, ip: &IpAddr) -> bool {
        self.addresses.iter().any(|range| range.contains(ip))
    }

    fn of(&self, family: Family) -> Option<IpNet> {
        self.addresses.iter().copied().find(|range| Family::of(range.addr()) == family)
    }
}

impl Giver<'_> {
    fn give_addresses(
        &mut self,
        name: &ServiceName,
        service: &Service,
        given: &mut service_plan::Service,
    ) -> Result<(), FieldError> {
        if service.wants != Wants::Addresses {
            return Ok(());
        }
        let object = format!("Service {name}");
        let wrong = |message| problem(&object, "spec.clusterIP", message);
        let kept = self.held.addresses.entry(name.to_string()).or_default();
        let node = self.ranges.families();
        let wanted = service.families(&node);
        kept.retain(|ip| wanted.contains(&Family::of(*ip)));
        for family in wanted {
            if let Some(ip) = kept.iter().find(|ip| family.has(ip)) {
                given.cluster_ips.push(*ip);
                continue;
            }
            let none = || wrong(format!("there is no range of {family} addresses"));
            let range = self.ranges.of(*family).ok_or_else(none)?;
            let free = candidates(range, &name.to_string()).find(|ip| !self.taken.addresses.contains(ip));
            let ip = free.ok_or_else(|| wrong(format!("every address of {range} is taken")))?;
            self.taken.addresses.insert(ip);
            kept.push(ip);
            given.cluster_ips.push(ip);
        }
        Ok(())
    }

    fn give_node_ports(
        &mut self,
        name: &ServiceName,
        service: &Service,
        given: &mut service_plan::Service,
    ) -> Result<(), FieldError> {
        let (first, last) = (*self.ranges.node_ports.start(), *self.ranges.node_ports.end());
        let number = |place: u128| u16::try_from(u128::from(first) + place).unwrap_or(last);
        for OpenPort { key, index } in open_ports(name, service) {
            let count = u128::from(last.saturating_sub(first)) + 1;
            let taken = &self.taken.ports;
            let free = || places(count, 32, 128, &key).map(number).find(|port| !taken.contains(port));
            let port = self.held.node_ports.get(&key).copied().or_else(free);
            let full = || {
                let path = match index {
                    Some(index) => format!("spec.ports[{index}].nodePort"),
                    None => "spec.healthCheckNodePort".to_owned(),
                };
                problem(&format!("Service {name}"), path, format!("every port of {first}-{last} is taken"))
            };
            let port = port.ok_or_else(full)?;
            self.taken.ports.insert(port);
            self.held.node_ports.insert(key, port);
            let port = NodePort::new(port);
            match index.map(|index| given.ports.get_mut(index)) {
                None => given.health_check_node_port = port,
                Some(Some(one)) => one.node_port = port,
                Some(None) => {}
            }
        }
        Ok(())
    }
}

/// The node ports that a Service leaves open.
fn open_ports(name: &ServiceName, service: &Service) -> Vec<OpenPort> {
    let Some(given) = service.served.as_ref().filter(|given| Service::has_node_ports(given)) else {
        return Vec::new();
    };
    let open = given.ports.iter().enumerate().filter(|(_, port)| port.node_port.is_none());
    let mut open: Vec<_> = open
        .map(|(index, port)| OpenPort {
            key: format!("{name}/{}/{}", port.protocol, port.port),
            index: Some(index),
        })
        .collect();
    if Service::has_health_check(given) && given.health_check_node_port.is_none() {
        open.push(OpenPort { key: format!("{name}/healthCheck"), index: None });
    }
    open
}

/// The addresses of a range in the order in which an owner would have them. The first and, of IPv4, the last are
/// nobody's.
fn candidates(range: IpNet, owner: &str) -> impl Iterator<Item = IpAddr> {
    let (first, length) = match range {
        IpNet::V4(range) => (u128::from(range.network().to_bits()), 32 - range.prefix_len()),
        IpNet::V6(range) => (range.network().to_bits(), 128 - range.prefix_len()),
    };
    let all = 1_u128.checked_shl(length.into()).unwrap_or(u128::MAX).min(1 << 20);
    let usable = all.saturating_sub(1 + u128::from(matches!(range, IpNet::V4(_))));
    places(usable, 16, 256, owner).map(move |place| match range {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(first + 1 + place).unwrap_or(u32::MAX))),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(first + 1 + place)),
    })
}

/// Places from 0 on in the order in which an owner would have them: the upper band from its own on and round, then the
/// lower one, whose size is that share of all, at least 16 and at most so many.
fn places(count: u128, share: u128, most: u128, owner: &str) -> impl Iterator<Item = u128> {
    let low = if count <= 16 { 0 } else { (count / share).clamp(16, most).min(count) };
    let upper = count - low;
    let start = u128::from(fnv1a(owner)).checked_rem(upper).unwrap_or(0);
    (start..upper).chain(0..start).map(move |place| low + place).chain(0..low)
}

fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
