//! A cluster of so many Services with so many endpoints each: as manifests, as an API server keeps it, and as it changes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use crate::field::{ENDPOINT_PORT, NODE};

/// How many Services share a file.
const A_FILE: u32 = 100;

/// The endpoints that are there from the start. Where these do not suffice, Services share all but the first.
const FIRST_ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 180, 0, 1);
const ROOM: u32 = 196_000;
const UNSHARED: u32 = 60_000;

/// Those that come later.
const FRESH: Ipv4Addr = Ipv4Addr::new(10, 183, 0, 1);

/// How large a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) services: u32,
    /// Of each Service.
    pub(super) endpoints: u32,
    /// Of the last one, which is the one that is asked.
    pub(super) of_last: u32,
}

/// So many Services, as they are by now.
pub(super) struct Cluster {
    shape: Shape,
    /// Where endpoints are no longer those of the start.
    moved: BTreeMap<u32, Vec<Ipv4Addr>>,
    changes: u32,
}

/// What draining a node comes to.
pub(super) struct Drained {
    pub(super) slices: Vec<(String, Value)>,
    pub(super) gone: Vec<Ipv4Addr>,
    pub(super) last: Ipv4Addr,
}

impl Shape {
    /// Each Service has as many endpoints as the others.
    pub(super) fn even(services: u32, endpoints: u32) -> Self {
        Self { services, endpoints, of_last: endpoints }
    }

    /// The last Service has one endpoint: each connection tells whether it is the new one.
    pub(super) fn telling(services: u32, endpoints: u32) -> Self {
        Self { services, endpoints, of_last: 1 }
    }

    fn last(self) -> u32 {
        self.services - 1
    }

    fn endpoints(self, number: u32) -> Vec<Ipv4Addr> {
        let count = if number == self.last() { self.of_last } else { self.endpoints };
        let first = number * self.endpoints;
        (first..first + count).map(endpoint).collect()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} x {}", self.services, self.endpoints)
    }
}

impl Cluster {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, moved: BTreeMap::new(), changes: 0 }
    }

    pub(super) fn size(&self) -> u32 {
        self.shape.services
    }

    /// Where the last Service is asked.
    pub(super) fn last(&self) -> SocketAddr {
        SocketAddr::from((cluster_ip(self.shape.last()), 80))
    }

    /// Gives all of it by one rename, but for the endpoints of the last Service. Answers when.
    pub(super) fn appear(&self, folder: &Path) -> Result<Instant> {
        let hidden = folder.join(".cluster");
        fs::create_dir(&hidden)?;
        for first in (0..self.shape.services).step_by(usize::try_from(A_FILE)?) {
            let numbers = first..self.shape.services.min(first + A_FILE);
            let slices = numbers.clone().filter(|number| *number < self.shape.last());
            let slices = slices.map(|number| self.slice(number));
            let items: Vec<Value> = numbers.map(service).chain(slices).collect();
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
            fs::write(hidden.join(format!("{first}.json")), list.to_string())?;
        }
        let start = Instant::now();
        fs::rename(hidden, folder.join("cluster"))?;
        Ok(start)
    }

    /// Gives the endpoints of the last Service, which have a file of their own. Answers when.
    pub(super) fn write_last(&self, folder: &Path) -> Result<Instant> {
        let fresh = folder.join(".last.json");
        fs::write(&fresh, self.slice(self.shape.last()).to_string())?;
        let start = Instant::now();
        fs::rename(fresh, folder.join("last.json"))?;
        Ok(start)
    }

    /// All of it, by the keys under which an API server keeps it.
    pub(super) fn objects(&self) -> impl Iterator<Item = (String, Value)> {
        (0..self.shape.services).flat_map(|number| [stored_service(number), self.stored_slice(number)])
    }

    /// Replaces one endpoint of the last Service. Answers by which.
    pub(super) fn replace_endpoint(&mut self) -> Ipv4Addr {
        let last = self.shape.last();
        self.replace(last).1
    }

    /// The slice of the last Service with one endpoint replaced, by its key as in `objects`.
    pub(super) fn changed_object(&mut self) -> (String, Value) {
        self.replace_endpoint();
        self.stored_slice(self.shape.last())
    }

    /// A node is drained: so many Services, and then the last, have one of their endpoints elsewhere. Answers the slices
    /// by their keys, which endpoints are gone, and by which the last Service answers then.
    pub(super) fn drain(&mut self, count: u32) -> Drained {
        let last = self.shape.last();
        let numbers: Vec<u32> = (0..count.min(last)).chain([last]).collect();
        let replaced: Vec<(Ipv4Addr, Ipv4Addr)> =
            numbers.iter().map(|number| self.replace(*number)).collect();
        let slices = numbers.iter().map(|number| self.stored_slice(*number)).collect();
        let last = replaced.last().map_or(FRESH, |(_, fresh)| *fresh);
        Drained { slices, gone: replaced.into_iter().map(|(gone, _)| gone).collect(), last }
    }

    /// The first Service has as many endpoints as it had, or one less, in turns. Its slice.
    pub(super) fn resize_first(&mut self) -> Value {
        let mut endpoints = self.endpoints(0);
        if endpoints.len() == self.shape.endpoints as usize {
            endpoints.pop();
        } else {
            endpoints = self.shape.endpoints(0);
        }
        self.moved.insert(0, endpoints);
        self.slice(0)
    }

    /// The slice of the last Service.
    pub(super) fn last_slice(&self) -> Value {
        self.slice(self.shape.last())
    }

    fn endpoints(&self, number: u32) -> Vec<Ipv4Addr> {
        self.moved.get(&number).cloned().unwrap_or_else(|| self.shape.endpoints(number))
    }

    fn slice(&self, number: u32) -> Value {
        slice(number, &self.endpoints(number))
    }

    fn stored_slice(&self, number: u32) -> (String, Value) {
        let key = format!("/registry/endpointslices/default/{}-a", name(number));
        (key, stored(self.slice(number), 2 * number + 1))
    }

    /// Replaces an endpoint of a Service, each in its turn. Answers which, and by which.
    fn replace(&mut self, number: u32) -> (Ipv4Addr, Ipv4Addr) {
        let mut endpoints = self.endpoints(number);
        let fresh = Ipv4Addr::from(u32::from(FRESH) + self.changes);
        let place = self.changes as usize % endpoints.len();
        self.changes += 1;
        let gone = std::mem::replace(&mut endpoints[place], fresh);
        self.moved.insert(number, endpoints);
        (gone, fresh)
    }
}

/// The node on which the proxy runs.
pub(super) fn node_object() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": "node-1" },
        "status": { "addresses": [{ "type": "InternalIP", "address": NODE }] },
    })
}

/// An object as it is once a server has accepted it.
fn stored(mut object: Value, number: u32) -> Value {
    let metadata = &mut object["metadata"];
    metadata["uid"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
    metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    object
}

/// Where the first Service of any cluster is asked.
pub(super) fn first() -> SocketAddr {
    SocketAddr::from((cluster_ip(0), 80))
}

/// Where an endpoint of it is.
pub(super) fn endpoint_of_first() -> SocketAddr {
    SocketAddr::from((FIRST_ENDPOINT, ENDPOINT_PORT))
}

fn stored_service(number: u32) -> (String, Value) {
    (format!("/registry/services/specs/default/{}", name(number)), stored(service(number), 2 * number))
}

fn cluster_ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 10)) + number)
}

fn endpoint(place: u32) -> Ipv4Addr {
    let place = if place < ROOM { place } else { UNSHARED + (place - ROOM) % (ROOM - UNSHARED) };
    Ipv4Addr::from(u32::from(FIRST_ENDPOINT) + place)
}

/// Named so that the last one is the last in any order.
fn name(number: u32) -> String {
    format!("service-{number:05}")
}

fn service(number: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name(number), "namespace": "default" },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip(number),
            "clusterIPs": [cluster_ip(number)],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
            "ports": [{ "name": "web", "protocol": "TCP", "port": 80, "targetPort": ENDPOINT_PORT }],
        },
    })
}

fn slice(number: u32, endpoints: &[Ipv4Addr]) -> Value {
    let endpoint = |ip: &Ipv4Addr| {
        json!({
            "addresses": [ip],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": "node-2",
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-a", name(number)),
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": name(number) },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "web", "protocol": "TCP", "port": ENDPOINT_PORT }],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}
