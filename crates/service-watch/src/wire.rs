//! The Kubernetes objects as they are written, with only the fields that matter here.
//!
//! Numbers are wide and words are text, so that a wrong one is reported by its path and not as a failure to
//! decode. Null stands for "left out" everywhere, as in the API.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// core/v1 Service
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    #[serde(deserialize_with = "nullable")]
    pub(crate) metadata: Metadata,
    #[serde(deserialize_with = "nullable")]
    pub(crate) spec: ServiceSpec,
    #[serde(deserialize_with = "nullable")]
    pub(crate) status: ServiceStatus,
}

/// discovery.k8s.io/v1 `EndpointSlice`
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct EndpointSlice {
    #[serde(deserialize_with = "nullable")]
    pub(crate) metadata: Metadata,
    pub(crate) address_type: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ports: Vec<SlicePort>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) endpoints: Vec<SliceEndpoint>,
}

/// core/v1 Node
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    #[serde(deserialize_with = "nullable")]
    pub(crate) metadata: Metadata,
    #[serde(deserialize_with = "nullable")]
    pub(crate) spec: NodeSpec,
    #[serde(deserialize_with = "nullable")]
    pub(crate) status: NodeStatus,
}

/// networking.k8s.io/v1 `ServiceCIDR`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceCidr {
    #[serde(deserialize_with = "nullable")]
    pub(crate) metadata: Metadata,
    #[serde(deserialize_with = "nullable")]
    pub(crate) spec: ServiceCidrSpec,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
pub(crate) enum Line<W> {
    Added(W),
    Modified(W),
    Deleted(W),
    Bookmark(Box<Bookmark>),
    Error(Status),
}

/// How far a watch is, told when nothing else is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Bookmark {
    pub(crate) metadata: Metadata,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "W: Deserialize<'de>"))]
pub(crate) struct List<W> {
    #[serde(default)]
    pub(crate) metadata: ListMetadata,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) items: Vec<W>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ListMetadata {
    pub(crate) resource_version: Option<String>,
    /// What to ask for the next page with.
    #[serde(rename = "continue")]
    pub(crate) next: Option<String>,
}

/// Why the server does not do what was asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) code: u16,
    pub(crate) message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) deletion_timestamp: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) annotations: Annotations,
    pub(crate) creation_timestamp: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: Labels,
}

/// The labels that matter; an object may have any number of others.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Labels {
    #[serde(rename = "kubernetes.io/service-name")]
    pub(crate) service_name: Option<String>,
    #[serde(rename = "topology.kubernetes.io/zone")]
    pub(crate) zone: Option<String>,
    #[serde(rename = "service.kubernetes.io/service-proxy-name")]
    pub(crate) service_proxy_name: Label,
    #[serde(rename = "service.kubernetes.io/headless")]
    pub(crate) headless: Label,
}

/// The annotations that matter.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Annotations {
    /// On a bookmark: all that there was has been told.
    #[serde(rename = "k8s.io/initial-events-end")]
    pub(crate) initial_events_end: Option<String>,
    /// On a slice: when the pods or the Service changed for whose sake it did.
    #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub(crate) last_change_trigger_time: Option<String>,
    /// On an `EndpointSlice` or a Service: shares of new connections, as JSON.
    #[serde(rename = "fairlead.dev/weights")]
    pub(crate) weights: Option<String>,
    /// On a Service: who chooses the endpoint in the ipvs mode.
    #[serde(rename = "fairlead.dev/ipvs-scheduler")]
    pub(crate) scheduler: Option<String>,
    /// On a Service: how its endpoints learn of their clients in the userspace mode.
    #[serde(rename = "fairlead.dev/proxy-protocol")]
    pub(crate) proxy_protocol: Option<String>,
}

/// A label that counts by being there, whatever its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Label {
    #[default]
    Absent,
    Present,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    pub(crate) cluster_ips: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ip_families: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) ports: Vec<ServicePort>,
    #[serde(rename = "externalIPs", deserialize_with = "nullable")]
    pub(crate) external_ips: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) load_balancer_source_ranges: Vec<String>,
    pub(crate) session_affinity: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) session_affinity_config: SessionAffinityConfig,
    pub(crate) external_traffic_policy: Option<String>,
    pub(crate) internal_traffic_policy: Option<String>,
    pub(crate) health_check_node_port: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServicePort {
    pub(crate) name: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) port: Option<i64>,
    pub(crate) node_port: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SessionAffinityConfig {
    #[serde(rename = "clientIP", deserialize_with = "nullable")]
    pub(crate) client_ip: ClientIpConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ClientIpConfig {
    pub(crate) timeout_seconds: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServiceStatus {
    #[serde(deserialize_with = "nullable")]
    pub(crate) load_balancer: LoadBalancerStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LoadBalancerStatus {
    #[serde(deserialize_with = "nullable")]
    pub(crate) ingress: Vec<Ingress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Ingress {
    pub(crate) ip: Option<String>,
    pub(crate) ip_mode: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SlicePort {
    pub(crate) name: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) port: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SliceEndpoint {
    #[serde(deserialize_with = "nullable")]
    pub(crate) addresses: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) conditions: Conditions,
    pub(crate) node_name: Option<String>,
    pub(crate) zone: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) hints: Hints,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Conditions {
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
    pub(crate) terminating: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Hints {
    #[serde(deserialize_with = "nullable")]
    pub(crate) for_zones: Vec<Hint>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) for_nodes: Vec<Hint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Hint {
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub(crate) pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs", deserialize_with = "nullable")]
    pub(crate) pod_cidrs: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) taints: Vec<Taint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Taint {
    #[serde(deserialize_with = "nullable")]
    pub(crate) key: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    #[serde(deserialize_with = "nullable")]
    pub(crate) addresses: Vec<NodeAddress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeAddress {
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceCidrSpec {
    #[serde(deserialize_with = "nullable")]
    pub(crate) cidrs: Vec<String>,
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self::Present)
    }
}

fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
