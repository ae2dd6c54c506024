//! Which endpoints a service port uses on this node.
//!
//! Shapes: discovery.k8s.io/v1 EndpointSlice; KEP-2433 (hints), KEP-1669 (terminating endpoints),
//! KEP-3015 (same zone, same node).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::facts::{EndpointSlice, Health, Node, SliceEndpoint};
use crate::names::{Family, ServicePortName, Weight};
use crate::plan::{Endpoint, Locality, Pool};

/// The pools that a service port's entrances ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uses {
    Cluster,
    Local,
    Both,
}

/// The endpoints that serve, on this node.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Those for traffic with a Cluster policy; empty if none has it.
    pub(crate) cluster: Pool,
    /// Those on this node, for traffic with a Local policy; empty if none has it.
    pub(crate) local: Pool,
    /// Whether there is an endpoint that serves anywhere: no endpoints means reject, none here means drop.
    pub(crate) anywhere: Anywhere,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Anywhere {
    Some,
    #[default]
    None,
}

/// A merged endpoint of one service port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    at: SocketAddr,
    endpoint: &'a SliceEndpoint,
    locality: Locality,
    weight: Weight,
}

impl Candidate<'_> {
    fn serves(&self) -> bool {
        self.endpoint.health != Health::Unready
    }
}

/// Merges the slices of a Service to the endpoints of one of its ports, in upstream's order: by their text.
pub(crate) fn candidates<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    name: &ServicePortName,
    family: Family,
    node: &Node,
    weights: &BTreeMap<Arc<str>, Weight>,
) -> Vec<Candidate<'a>> {
    let mut merged: BTreeMap<SocketAddr, &SliceEndpoint> = BTreeMap::new();
    for slice in slices.filter(|slice| slice.family == family) {
        for port in slice.ports.iter().filter(|port| port.name == name.port && port.protocol == name.protocol)
        {
            for endpoint in slice.endpoints.iter().filter(|endpoint| family.has(&endpoint.address)) {
                let at = SocketAddr::new(endpoint.address, port.port.get());
                // A reused pod IP is both terminating and ready for a while: the healthier one counts.
                let known = merged.entry(at).or_insert(endpoint);
                if endpoint.health < known.health {
                    *known = endpoint;
                }
            }
        }
    }
    let mut candidates: Vec<_> = merged
        .into_iter()
        .map(|(at, endpoint)| Candidate {
            at,
            endpoint,
            locality: locality(endpoint, node),
            weight: weight(endpoint, weights),
        })
        .collect();
    candidates.sort_by_cached_key(|candidate| candidate.at.to_string());
    candidates
}

/// All that serve, sorted.
pub(crate) fn serving(candidates: &[Candidate<'_>]) -> Vec<SocketAddr> {
    let serving = candidates.iter().filter(|candidate| candidate.serves());
    let serving: BTreeSet<_> = serving.map(|candidate| candidate.at).collect();
    serving.into_iter().collect()
}

/// Selects among the endpoints of a service port.
pub(crate) fn select(candidates: &[Candidate<'_>], uses: Uses, node: &Node) -> Selection {
    let cluster = match uses {
        Uses::Cluster | Uses::Both => cluster_pool(candidates, node),
        Uses::Local => Pool::new(),
    };
    let local = match uses {
        Uses::Local | Uses::Both => {
            first_serving(candidates, |candidate| candidate.locality == Locality::Local)
        }
        Uses::Cluster => Pool::new(),
    };
    let anywhere = if candidates.iter().any(Candidate::serves) { Anywhere::Some } else { Anywhere::None };
    Selection { cluster, local, anywhere }
}

/// Local ready endpoints, counted by address over all ports of a Service: what a load balancer is told.
pub(crate) fn is_local_and_ready(endpoint: &SliceEndpoint, node: &Node) -> bool {
    endpoint.health == Health::Ready && locality(endpoint, node) == Locality::Local
}

fn cluster_pool(candidates: &[Candidate<'_>], node: &Node) -> Pool {
    // Where no endpoint is ready there is no topology, so hints never narrow the terminating ones.
    let topology = Topology::of(candidates, node);
    first_serving(candidates, |candidate| topology.admits(candidate.endpoint, node))
}

/// The ready ones of those admitted, or where none is, the terminating ones of those admitted.
fn first_serving(candidates: &[Candidate<'_>], admitted: impl Fn(&Candidate<'_>) -> bool) -> Pool {
    let with_health = |health: Health| -> Pool {
        candidates
            .iter()
            .filter(|candidate| candidate.endpoint.health == health && admitted(candidate))
            .map(|candidate| Endpoint {
                at: candidate.at,
                locality: candidate.locality,
                weight: candidate.weight,
            })
            .collect()
    };
    let ready = with_health(Health::Ready);
    weighted(if ready.is_empty() { with_health(Health::Terminating) } else { ready })
}

/// Without those of weight 0. Where all have that, they are alike: a weight never takes the last endpoint away.
fn weighted(mut pool: Pool) -> Pool {
    if pool.iter().all(|endpoint| endpoint.weight == Weight::ZERO) {
        for endpoint in &mut pool {
            endpoint.weight = Weight::ONE;
        }
    }
    pool.retain(|endpoint| endpoint.weight != Weight::ZERO);
    pool
}

/// What its slice says counts before what the Service says of its node, and that before what it says of its zone.
fn weight(endpoint: &SliceEndpoint, weights: &BTreeMap<Arc<str>, Weight>) -> Weight {
    let named = |name: &Option<Arc<str>>| name.as_ref().and_then(|name| weights.get(name)).copied();
    endpoint.weight.or_else(|| named(&endpoint.node)).or_else(|| named(&endpoint.zone)).unwrap_or(Weight::ONE)
}

fn locality(endpoint: &SliceEndpoint, node: &Node) -> Locality {
    match &endpoint.node {
        Some(name) if !node.name.is_empty() && *name == node.name => Locality::Local,
        Some(_) | None => Locality::Remote,
    }
}

/// How hints narrow the ready endpoints. One ready endpoint without a hint switches a level off for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    SameNode,
    SameZone,
    Anywhere,
}

impl Topology {
    fn of(candidates: &[Candidate<'_>], node: &Node) -> Self {
        let all_hint_and_one_admits = |level: Self| {
            let mut ready = candidates
                .iter()
                .map(|candidate| candidate.endpoint)
                .filter(|endpoint| endpoint.health == Health::Ready);
            ready.clone().all(|endpoint| level.hinted(endpoint))
                && ready.any(|endpoint| level.admits(endpoint, node))
        };
        [Self::SameNode, Self::SameZone]
            .into_iter()
            .find(|level| all_hint_and_one_admits(*level))
            .unwrap_or(Self::Anywhere)
    }

    fn hinted(self, endpoint: &SliceEndpoint) -> bool {
        let hints = endpoint.hints.as_deref();
        match self {
            Self::SameNode => hints.is_some_and(|hints| !hints.nodes.is_empty()),
            Self::SameZone => hints.is_some_and(|hints| !hints.zones.is_empty()),
            Self::Anywhere => true,
        }
    }

    fn admits(self, endpoint: &SliceEndpoint, node: &Node) -> bool {
        let hints = endpoint.hints.as_deref();
        match self {
            Self::SameNode => hints.is_some_and(|hints| hints.nodes.contains(&node.name)),
            Self::SameZone => hints.is_some_and(|hints| hints.zones.contains(&node.zone)),
            Self::Anywhere => true,
        }
    }
}

#[cfg(test)]
mod tests;
