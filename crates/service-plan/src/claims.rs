//! Who owns an address and port, when several Services name the same.
//!
//! The API server never allocates a cluster IP or a node port twice, but external IPs and load balancer IPs
//! are free text, and manifests come from people. The oldest Service keeps what it has; of two of the same
//! age the first by name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::facts::{Service, ServicePort};
use crate::names::{NodePort, Port, Protocol, ServiceName};

/// Something that one Service alone can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    Address(IpAddr, Port, Protocol),
    NodePort(NodePort, Protocol),
}

/// One that names a claim: its age first, so that the smallest is the owner. An unknown age is the youngest.
type Claimant = (i64, ServiceName);

#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<Claim, BTreeSet<Claimant>>);

impl Claims {
    /// The Service that may use this claim.
    pub(crate) fn owner(&self, claim: &Claim) -> Option<&ServiceName> {
        self.0.get(claim)?.first().map(|(_, name)| name)
    }

    /// Replaces what a Service claims; answers the Services whose own claims won or lost by it.
    pub(crate) fn replace(
        &mut self,
        name: &ServiceName,
        before: Option<&Service>,
        after: Option<&Service>,
    ) -> BTreeSet<ServiceName> {
        let mut touched = BTreeSet::new();
        let old = before.map(claims).unwrap_or_default();
        let new = after.map(claims).unwrap_or_default();
        if let Some(service) = before {
            for claim in &old {
                self.release(*claim, &(age(service), name.clone()), &mut touched);
            }
        }
        if let Some(service) = after {
            for claim in new {
                let claimants = self.0.entry(claim).or_default();
                touched.extend(claimants.first().map(|(_, owner)| owner.clone()));
                claimants.insert((age(service), name.clone()));
            }
        }
        touched.remove(name);
        touched
    }

    fn release(&mut self, claim: Claim, claimant: &Claimant, touched: &mut BTreeSet<ServiceName>) {
        let Some(claimants) = self.0.get_mut(&claim) else { return };
        claimants.remove(claimant);
        touched.extend(claimants.first().map(|(_, owner)| owner.clone()));
        if claimants.is_empty() {
            self.0.remove(&claim);
        }
    }
}

fn age(service: &Service) -> i64 {
    service.created.unwrap_or(i64::MAX)
}

fn claims(service: &Service) -> BTreeSet<Claim> {
    service.ports.iter().flat_map(|port| port_claims(service, port)).collect()
}

fn port_claims<'a>(service: &'a Service, port: &'a ServicePort) -> impl Iterator<Item = Claim> + 'a {
    let addresses = service.cluster_ips.iter().chain(&service.external_ips).chain(&service.load_balancer_ips);
    addresses
        .map(|ip| Claim::Address(*ip, port.port, port.protocol))
        .chain(port.node_port.map(|node_port| Claim::NodePort(node_port, port.protocol)))
}
