//! A cluster of so many Services with ten endpoints each, as manifests.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use crate::field::{ENDPOINT_PORT, NODE};

/// The endpoints of each Service.
const ENDPOINTS: u32 = 10;

/// How many Services share a file.
const A_FILE: u32 = 100;

/// So many Services. The last one has its endpoints in a file of their own.
pub(super) struct Cluster {
    size: u32,
    folder: PathBuf,
    last: Vec<Ipv4Addr>,
    changes: u32,
}

impl Cluster {
    /// A folder that has the endpoints of the last Service, and nothing else yet.
    pub(super) fn new(size: u32, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let cluster = Self { size, folder: folder.to_owned(), last: endpoints(size - 1), changes: 0 };
        cluster.replace("last.json", &cluster.last_slice())?;
        Ok(cluster)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the last Service is asked.
    pub(super) fn last(&self) -> SocketAddr {
        SocketAddr::from((cluster_ip(self.size - 1), 80))
    }

    /// Gives all of it by one rename. Answers when.
    pub(super) fn appear(&self) -> Result<Instant> {
        let hidden = self.folder.join(".cluster");
        fs::create_dir(&hidden)?;
        for first in (0..self.size).step_by(usize::try_from(A_FILE)?) {
            let numbers = first..self.size.min(first + A_FILE);
            let slices = numbers.clone().filter(|number| *number < self.size - 1);
            let slices = slices.map(|number| slice(number, &endpoints(number)));
            let items: Vec<Value> = numbers.map(service).chain(slices).collect();
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
            fs::write(hidden.join(format!("{first}.json")), list.to_string())?;
        }
        let start = Instant::now();
        fs::rename(hidden, self.folder.join("cluster"))?;
        Ok(start)
    }

    /// All of it, by the keys under which an API server keeps it.
    pub(super) fn objects(&self) -> impl Iterator<Item = (String, Value)> {
        (0..self.size).flat_map(|number| {
            let key = |kind: &str, suffix: &str| format!("/registry/{kind}/default/{}{suffix}", name(number));
            [
                (key("services/specs", ""), stored(service(number), 2 * number)),
                (key("endpointslices", "-a"), stored(slice(number, &endpoints(number)), 2 * number + 1)),
            ]
        })
    }

    /// Replaces one endpoint of the last Service. Answers when, and by which.
    pub(super) fn replace_endpoint(&mut self) -> Result<(Instant, Ipv4Addr)> {
        let fresh = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 183, 0, 1)) + self.changes);
        let place = usize::try_from(self.changes % ENDPOINTS)?;
        self.changes += 1;
        self.last[place] = fresh;
        Ok((self.replace("last.json", &self.last_slice())?, fresh))
    }

    fn last_slice(&self) -> Value {
        slice(self.size - 1, &self.last)
    }

    /// Replaces a file whole; the time begins with the rename.
    fn replace(&self, name: &str, object: &Value) -> Result<Instant> {
        let fresh = self.folder.join(format!(".{name}"));
        fs::write(&fresh, object.to_string())?;
        let start = Instant::now();
        fs::rename(fresh, self.folder.join(name))?;
        Ok(start)
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
    SocketAddr::from((endpoints(0)[0], ENDPOINT_PORT))
}

fn cluster_ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 10)) + number)
}

fn endpoints(number: u32) -> Vec<Ipv4Addr> {
    let first = u32::from(Ipv4Addr::new(10, 180, 0, 1)) + number * ENDPOINTS;
    (first..first + ENDPOINTS).map(Ipv4Addr::from).collect()
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
