//! Who owns an address and port, when several Services name the same.
//!
//! The API server never allocates a cluster IP or a node port twice, but external IPs and load balancer IPs
//! are free text, and manifests come from people. The oldest Service keeps what it has; of two of the same
//! age the first by name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::facts::{Service, ServicePort};
use crate::few::Few;
use crate::names::{Family, NodePort, Port, Protocol, ServiceName};

/// Something that one Service alone can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    Address(IpAddr, Port, Protocol),
    NodePort(NodePort, Protocol),
}

/// One that names a claim: its age first, so that the smallest is the owner. An unknown age is the youngest.
type Claimant = (i64, ServiceName);

#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<Claim, Few<Claimant, ()>>);

impl Claims {
    /// The Service that may use this claim.
    pub(crate) fn owner(&self, claim: &Claim) -> Option<&ServiceName> {
        self.0.get(claim)?.first().map(|(_, name)| name)
    }

    /// Replaces what a Service claims; answers the other Services for which that changed something: who won a
    /// claim by it, who lost one, and who did not get it before or after and is to be told another winner.
    pub(crate) fn replace(
        &mut self,
        name: &ServiceName,
        before: Option<&Service>,
        after: Option<&Service>,
    ) -> BTreeSet<ServiceName> {
        let mut touched = BTreeSet::new();
        let mut contested_ports = Vec::new();
        let old = before.map(claims).unwrap_or_default();
        let new = after.map(claims).unwrap_or_default();
        for claim in old.union(&new) {
            let owner = self.owner(claim).cloned();
            let claimants = self.0.entry(*claim).or_default();
            if let Some(service) = before {
                claimants.remove(&(age(service), name.clone()));
            }
            if let Some(service) = after.filter(|_| new.contains(claim)) {
                claimants.insert((age(service), name.clone()), ());
            }
            if claimants.first().map(|(_, name)| name) != owner.as_ref() {
                contested_ports.extend(claim.as_node_port());
                touched.extend(claimants.keys().map(|(_, claimant)| claimant.clone()).chain(owner));
            }
            if claimants.is_empty() {
                self.0.remove(claim);
            }
        }
        // An address of the node that is named goes before a node port there.
        for port in contested_ports {
            touched.extend(self.owner(&port).cloned());
        }
        touched.remove(name);
        touched
    }
}

impl Claim {
    /// The node port of the same number.
    fn as_node_port(self) -> Option<Self> {
        match self {
            Self::Address(_, port, protocol) => {
                NodePort::new(port.get()).map(|port| Self::NodePort(port, protocol))
            }
            Self::NodePort(..) => None,
        }
    }
}

fn age(service: &Service) -> i64 {
    service.created.unwrap_or(i64::MAX)
}

fn claims(service: &Service) -> BTreeSet<Claim> {
    service.ports.iter().flat_map(|port| port_claims(service, port)).collect()
}

/// A Service without a cluster IP of a family is not served in it, and claims no address of it.
fn port_claims<'a>(service: &'a Service, port: &'a ServicePort) -> impl Iterator<Item = Claim> + 'a {
    let served = |ip: &&IpAddr| service.cluster_ips.iter().any(|own| Family::of(*own).has(ip));
    let addresses = service.cluster_ips.iter().chain(&service.external_ips).chain(&service.load_balancer_ips);
    addresses
        .filter(served)
        .map(|ip| Claim::Address(*ip, port.port, port.protocol))
        .chain(port.node_port.map(|node_port| Claim::NodePort(node_port, port.protocol)))
}
