//! The `EndpointSlices` of a Service, as the controller of a cluster would make them. Pure: pods in, slices out.
//!
//! Shapes: discovery.k8s.io/v1 EndpointSlice; KEP-1672 (terminating endpoints), KEP-752 (slices).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use service_plan::{
    EndpointSlice, Family, Health, Port, Protocol, ServiceName, SliceEndpoint, SliceName, SlicePort,
};

use crate::services::{Service, Target, Unready};

/// So many endpoints a slice has at most.
pub(crate) const LARGEST: usize = 100;

/// A pod, as far as Services see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ips: Vec<IpAddr>,
    /// The ports of its containers that have names.
    pub(crate) ports: Vec<NamedPort>,
    pub(crate) serving: Serving,
    pub(crate) life: Life,
}

/// A container port that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPort {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) number: u16,
}

/// Whether a pod passes its readiness probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serving {
    Yes,
    No,
}

/// Whether a pod was told to stop, or is about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Stays,
    Terminates,
}

/// Where all of the pods are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) node: Arc<str>,
    pub(crate) zone: Option<Arc<str>>,
}

/// The ports of a Service as they are in a pod.
type Ports = Vec<(Arc<str>, Protocol, Port)>;

/// The slices of a Service, of these families. Pods in which its named ports have other numbers have slices of their own.
pub(crate) fn slices(
    name: &ServiceName,
    service: &Service,
    families: &[Family],
    backends: &[Backend],
    place: &Place,
) -> BTreeMap<SliceName, EndpointSlice> {
    let mut slices = BTreeMap::new();
    if service.selector.is_empty() {
        return slices;
    }
    for family in families {
        let mut by_ports: BTreeMap<Ports, Vec<SliceEndpoint>> = BTreeMap::new();
        for backend in backends.iter().filter(|backend| backend.is_meant_by(name, service)) {
            let Some(address) = backend.ips.iter().copied().find(|ip| family.has(ip)) else { continue };
            let endpoint = SliceEndpoint {
                address,
                health: health(service.unready, backend),
                node: Some(Arc::clone(&place.node)),
                zone: place.zone.clone(),
                weight: None,
                hints: None,
            };
            by_ports.entry(backend.ports_of(service)).or_default().push(endpoint);
        }
        let mut number = 0;
        for (ports, mut endpoints) in by_ports {
            endpoints.sort_by_key(|endpoint| endpoint.address);
            for part in endpoints.chunks(LARGEST) {
                number += 1;
                let letter = if *family == Family::V4 { "v4" } else { "v6" };
                let port = |(name, protocol, port): &(Arc<str>, _, _)| SlicePort {
                    name: Arc::clone(name),
                    protocol: *protocol,
                    port: *port,
                };
                let slice = EndpointSlice {
                    service: name.clone(),
                    family: *family,
                    ports: ports.iter().map(port).collect(),
                    endpoints: part.to_vec(),
                };
                let called = SliceName::new(&name.namespace, &format!("{}-{letter}-{number}", name.name));
                slices.insert(called, slice);
            }
        }
    }
    slices
}

impl Backend {
    fn is_meant_by(&self, name: &ServiceName, service: &Service) -> bool {
        let mut wanted = service.selector.iter();
        self.namespace == *name.namespace
            && wanted.all(|(label, value)| self.labels.get(label) == Some(value))
    }

    /// The ports of a Service as they are in this pod; one whose name no container has is left out.
    fn ports_of(&self, service: &Service) -> Ports {
        let number = |target: &Target, protocol| match target {
            Target::Number(number) => Some(*number),
            Target::Named(name) => {
                let mut ports = self.ports.iter();
                ports.find(|port| port.name == *name && port.protocol == protocol).map(|port| port.number)
            }
        };
        let ports = service.ports.iter();
        ports
            .filter_map(|port| {
                let number = number(&port.target, port.protocol).and_then(Port::new)?;
                Some((Arc::clone(&port.name), port.protocol, number))
            })
            .collect()
    }
}

fn health(unready: Unready, backend: &Backend) -> Health {
    match (unready, backend.serving, backend.life) {
        (Unready::Published, ..) | (Unready::Withheld, Serving::Yes, Life::Stays) => Health::Ready,
        (Unready::Withheld, Serving::Yes, Life::Terminates) => Health::Terminating,
        (Unready::Withheld, Serving::No, _) => Health::Unready,
    }
}

#[cfg(test)]
mod tests;
