//! The Services and endpoints that there are, as files, and what a client may meet at each.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::random::Random;
use crate::field::{ENDPOINT_PORT, NODE};

/// The number of a change: later ones are greater.
pub(super) type Change = u64;

/// Everything that changes.
pub(super) struct World {
    folder: PathBuf,
    pub(super) random: Random,
    pub(super) slots: Vec<Slot>,
    /// The change that is made next.
    pub(super) next: Change,
    /// What was written before this change is in the rules.
    pub(super) settled: Change,
}

/// The place of a Service, which may be empty.
pub(super) struct Slot {
    number: u16,
    pub(super) service: Option<Service>,
    pub(super) endpoints: Option<Vec<Endpoint>>,
    history: VecDeque<(Change, Outlook)>,
}

/// What changes of a Service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) kind: Kind,
    pub(super) internal: Policy,
    pub(super) external: Policy,
    pub(super) affinity: Affinity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Inner,
    WithNodePort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Cluster,
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affinity {
    None,
    Client,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) ip: Ipv4Addr,
    pub(super) health: Health,
    pub(super) place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Ready,
    Unready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    ThisNode,
    Elsewhere,
}

/// Where a client comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ClusterIp,
    NodePort,
}

/// Whom a client may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outlook {
    by_cluster_ip: BTreeSet<Ipv4Addr>,
    by_node_port: BTreeSet<Ipv4Addr>,
}

/// What is remembered of a Service; a connection lasts much shorter than so many changes of one.
const REMEMBERED: usize = 200;

/// How many Services in a hundred have a node port.
const NODE_PORTS: u16 = 25;

impl World {
    pub(super) fn new(folder: &Path, slots: u16, seed: u64) -> Result<Self> {
        for kind in ["services", "slices"] {
            fs::create_dir_all(folder.join(kind))?;
        }
        let mut random = Random::new(seed);
        let mut world = Self {
            folder: folder.to_owned(),
            random: random.clone(),
            slots: Vec::new(),
            next: 1,
            settled: 0,
        };
        for number in 0..slots {
            let mut slot = Slot::empty(number);
            slot.service = Some(Service::random(&mut random, number));
            slot.endpoints = Some(Endpoint::random_pool(&mut random));
            slot.history.push_back((0, slot.outlook()));
            world.slots.push(slot);
            world.write_service(usize::from(number))?;
            world.write_slice(usize::from(number))?;
        }
        world.random = random;
        Ok(world)
    }

    /// Writes a Service as it now is, or removes its file.
    pub(super) fn write_service(&mut self, slot: usize) -> Result<()> {
        let (name, service) = (self.slots[slot].name(), self.slots[slot].service_object());
        self.remember(slot);
        self.replace("services", &name, service)
    }

    /// Writes a Service's endpoints as they now are, or removes their file.
    pub(super) fn write_slice(&mut self, slot: usize) -> Result<()> {
        let (name, slice) = (self.slots[slot].name(), self.slots[slot].slice_object());
        self.remember(slot);
        self.replace("slices", &name, slice)
    }

    /// Replaces a file whole, so that nobody reads half of it.
    pub(super) fn replace(&mut self, kind: &str, name: &str, object: Option<Value>) -> Result<()> {
        self.next += 1;
        let file = self.folder.join(kind).join(format!("{name}.json"));
        let Some(object) = object else {
            return Ok(fs::remove_file(file)?);
        };
        let fresh = self.folder.join(kind).join(format!(".{name}"));
        fs::write(&fresh, object.to_string())?;
        Ok(fs::rename(&fresh, &file)?)
    }

    /// Before it is written: from now on it may be met.
    fn remember(&mut self, slot: usize) {
        let change = self.next;
        let slot = &mut self.slots[slot];
        let outlook = slot.outlook();
        slot.history.push_back((change, outlook));
        while slot.history.len() > REMEMBERED {
            slot.history.pop_front();
        }
    }
}

impl Slot {
    fn empty(number: u16) -> Self {
        Self { number, service: None, endpoints: None, history: VecDeque::new() }
    }

    /// Every outlook that a client may meet who knows that all before a change is in the rules.
    pub(super) fn outlooks(&self, settled: Change) -> impl Iterator<Item = &Outlook> {
        let first = self.history.iter().rposition(|(change, _)| *change < settled).unwrap_or_default();
        self.history.iter().skip(first).map(|(_, outlook)| outlook)
    }

    /// The last states in words: when, and how many endpoints there were for a client.
    pub(super) fn past(&self, way: Way) -> String {
        let past = self.history.iter().rev().take(5);
        let told = past.map(|(change, outlook)| format!("{} since change {change}", outlook.by(way).len()));
        format!("{} endpoints; now {:?}", told.collect::<Vec<_>>().join(", before that "), self.service)
    }

    pub(super) fn at(&self, way: Way) -> SocketAddr {
        match way {
            Way::ClusterIp => SocketAddr::from((cluster_ip(self.number), 80)),
            Way::NodePort => SocketAddr::from((NODE, node_port(self.number))),
        }
    }

    pub(super) fn name(&self) -> String {
        format!("service-{}", self.number)
    }

    fn outlook(&self) -> Outlook {
        let (Some(service), Some(endpoints)) = (&self.service, &self.endpoints) else {
            return Outlook::default();
        };
        let usable = |policy: Policy| -> BTreeSet<Ipv4Addr> {
            let usable = |endpoint: &&Endpoint| {
                endpoint.health == Health::Ready
                    && (policy == Policy::Cluster || endpoint.place == Place::ThisNode)
            };
            endpoints.iter().filter(usable).map(|endpoint| endpoint.ip).collect()
        };
        Outlook {
            by_cluster_ip: usable(service.internal),
            by_node_port: match service.kind {
                Kind::Inner => BTreeSet::new(),
                Kind::WithNodePort => usable(service.external),
            },
        }
    }

    fn service_object(&self) -> Option<Value> {
        let service = self.service.as_ref()?;
        let mut spec = json!({
            "type": "ClusterIP",
            "clusterIP": cluster_ip(self.number),
            "clusterIPs": [cluster_ip(self.number)],
            "ipFamilies": ["IPv4"],
            "internalTrafficPolicy": service.internal.name(),
            "ports": [{ "name": "web", "protocol": "TCP", "port": 80, "targetPort": ENDPOINT_PORT }],
        });
        if service.kind == Kind::WithNodePort {
            spec["type"] = "NodePort".into();
            spec["externalTrafficPolicy"] = service.external.name().into();
            spec["ports"][0]["nodePort"] = node_port(self.number).into();
        }
        if service.affinity == Affinity::Client {
            spec["sessionAffinity"] = "ClientIP".into();
        }
        Some(service_object(&self.name(), &spec))
    }

    fn slice_object(&self) -> Option<Value> {
        let endpoints = self.endpoints.as_ref()?;
        Some(slice_object(&self.name(), endpoints))
    }
}

/// A Service as the API has it.
pub(super) fn service_object(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": spec,
    })
}

/// The endpoints of a Service as the API has them.
pub(super) fn slice_object(service: &str, endpoints: &[Endpoint]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|endpoint| {
            let ready = endpoint.health == Health::Ready;
            json!({
                "addresses": [endpoint.ip],
                "conditions": { "ready": ready, "serving": ready, "terminating": false },
                "nodeName": if endpoint.place == Place::ThisNode { "node-1" } else { "node-2" },
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-a"),
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "web", "protocol": "TCP", "port": ENDPOINT_PORT }],
        "endpoints": endpoints,
    })
}

impl Service {
    pub(super) fn random(random: &mut Random, number: u16) -> Self {
        let kind = if number % 100 < NODE_PORTS { Kind::WithNodePort } else { Kind::Inner };
        let affinity = if random.percent(10) { Affinity::Client } else { Affinity::None };
        Self { kind, internal: Policy::random(random), external: Policy::random(random), affinity }
    }
}

impl Policy {
    pub(super) fn random(random: &mut Random) -> Self {
        if random.percent(25) { Self::Local } else { Self::Cluster }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

impl Endpoint {
    pub(super) fn random(random: &mut Random) -> Self {
        // So few that Services share some, and that one that went comes again.
        let number = random.below(3000);
        let [high, low] = u16::try_from(number).unwrap_or_default().to_be_bytes();
        Self {
            ip: Ipv4Addr::new(10, 180, high, low),
            health: if random.percent(85) { Health::Ready } else { Health::Unready },
            place: if random.percent(50) { Place::ThisNode } else { Place::Elsewhere },
        }
    }

    /// Up to twelve, seldom none.
    pub(super) fn random_pool(random: &mut Random) -> Vec<Self> {
        let size = if random.percent(5) { 0 } else { 1 + random.below(12) };
        let mut pool: Vec<Self> = Vec::new();
        for _ in 0..size {
            let endpoint = Self::random(random);
            if pool.iter().all(|other| other.ip != endpoint.ip) {
                pool.push(endpoint);
            }
        }
        pool
    }
}

impl Outlook {
    pub(super) fn by(&self, way: Way) -> &BTreeSet<Ipv4Addr> {
        match way {
            Way::ClusterIp => &self.by_cluster_ip,
            Way::NodePort => &self.by_node_port,
        }
    }
}

fn cluster_ip(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 96, high, low)
}

fn node_port(number: u16) -> u16 {
    30_000 + number
}
