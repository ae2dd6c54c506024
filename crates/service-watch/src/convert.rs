//! From the wire to facts: read once, here, and never again. Pure.
//!
//! What is wrong with an object goes to [`Findings`], with the path of the field; all of it, not just the
//! first. A field that upstream drops with a log line is dropped with a remark; any other wrong field refuses
//! the object.

mod annotations;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use manifest_documents::Findings;
use service_plan::{
    EndpointSlice, Family, Health, Hints, NodePort, Policy, Port, Protocol, Seconds, Service, ServiceKind,
    ServiceName, ServicePort, SliceEndpoint, SlicePort,
};

use crate::lenient;
use crate::shared_names::shared;
use crate::wire::{self, Label};
use crate::{Eligibility, NodeObject};

/// What an object means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    /// This.
    Ours(T),
    /// Nothing, and why.
    NotOurs(&'static str),
}

/// Whether a text can name an object. Names reach comments of kernel rules, so nothing else may pass.
pub(crate) fn name(text: &str) -> Result<(), String> {
    let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if (1..=253).contains(&text.len()) && text.bytes().all(known) {
        Ok(())
    } else {
        Err(format!("{text:?} is not a name (lower-case letters, digits, \"-\" and \".\")"))
    }
}

/// A Service; none if it was refused.
pub(crate) fn service(wire: &wire::Service, findings: &mut Findings) -> Option<Answer<Service>> {
    let spec = &wire.spec;
    if let Some(reason) = service_is_not_ours(wire, findings) {
        return findings.unless_refused(Answer::NotOurs(reason));
    }
    let service = Service {
        created: created(&wire.metadata, findings),
        kind: findings
            .check(format_args!("spec.type"), kind(spec.kind.as_deref()))
            .unwrap_or(ServiceKind::ClusterIp),
        cluster_ips: cluster_ips(spec, findings),
        ports: service_ports(&spec.ports, findings),
        external_ips: external_ips(&spec.external_ips, findings),
        load_balancer_ips: load_balancer_ips(&wire.status.load_balancer.ingress, findings),
        source_ranges: ranges(&spec.load_balancer_source_ranges, "spec.loadBalancerSourceRanges", findings),
        affinity: affinity(spec, findings),
        external_policy: findings
            .check(
                format_args!("spec.externalTrafficPolicy"),
                policy(spec.external_traffic_policy.as_deref()),
            )
            .unwrap_or_default(),
        internal_policy: findings
            .check(
                format_args!("spec.internalTrafficPolicy"),
                policy(spec.internal_traffic_policy.as_deref()),
            )
            .unwrap_or_default(),
        health_check_node_port: findings
            .check(format_args!("spec.healthCheckNodePort"), node_port(spec.health_check_node_port))
            .flatten(),
        weights: annotations::weights_by_name(&wire.metadata.annotations, findings),
        scheduler: annotations::scheduler(&wire.metadata.annotations, findings),
        header: annotations::header(&wire.metadata.annotations, findings),
    };
    findings.unless_refused(Answer::Ours(service))
}

/// An `EndpointSlice` of a namespace; none if it was refused.
pub(crate) fn endpoint_slice(
    namespace: &str,
    wire: &wire::EndpointSlice,
    findings: &mut Findings,
) -> Option<Answer<EndpointSlice>> {
    let labels = &wire.metadata.labels;
    if labels.headless == Label::Present {
        return findings.unless_refused(Answer::NotOurs("of a headless Service"));
    }
    let Some(owner) = labels.service_name.as_deref().filter(|owner| !owner.is_empty()) else {
        return findings.unless_refused(Answer::NotOurs("no label kubernetes.io/service-name"));
    };
    let family = match wire.address_type.as_deref() {
        Some("IPv4") => Family::V4,
        Some("IPv6") => Family::V6,
        Some("FQDN") => return findings.unless_refused(Answer::NotOurs("host names, not addresses")),
        other => {
            findings.refuse(format_args!("addressType"), unknown(other, "IPv4, IPv6 or FQDN"));
            return None;
        }
    };
    findings.check(format_args!("metadata.labels[kubernetes.io/service-name]"), name(owner));
    let slice = EndpointSlice {
        service: ServiceName::new(namespace, owner),
        family,
        ports: slice_ports(&wire.ports, findings),
        endpoints: annotations::weighted(
            slice_endpoints(&wire.endpoints, family, findings),
            &wire.metadata.annotations,
            findings,
        ),
    };
    findings.unless_refused(Answer::Ours(slice))
}

/// A Node; none if it was refused. Addresses that cannot be read are passed over, as upstream does.
pub(crate) fn node(wire: &wire::Node, findings: &mut Findings) -> Option<NodeObject> {
    let mut pod_ranges = ranges(&wire.spec.pod_cidrs, "spec.podCIDRs", findings);
    if let (true, Some(text)) = (pod_ranges.is_empty(), non_empty(wire.spec.pod_cidr.as_deref())) {
        pod_ranges.extend(findings.check(format_args!("spec.podCIDR"), range(text)));
    }
    let node = NodeObject {
        zone: wire.metadata.labels.zone.as_deref().unwrap_or_default().into(),
        ips: node_ips(&wire.status.addresses, findings),
        pod_ranges,
        eligibility: eligibility(wire),
    };
    findings.unless_refused(node)
}

/// A cordon or any other taint says nothing of what already runs there.
fn eligibility(wire: &wire::Node) -> Eligibility {
    const LEAVES: &str = "ToBeDeletedByClusterAutoscaler";
    let leaves = wire.metadata.deletion_timestamp.is_some()
        || wire.spec.taints.iter().any(|taint| taint.key == LEAVES);
    if leaves { Eligibility::Leaving } else { Eligibility::Eligible }
}

/// The ranges of a `ServiceCIDR`; none if it was refused.
pub(crate) fn service_cidr(wire: &wire::ServiceCidr, findings: &mut Findings) -> Option<Vec<IpNet>> {
    let ranges = ranges(&wire.spec.cidrs, "spec.cidrs", findings);
    findings.unless_refused(ranges)
}

fn service_is_not_ours(wire: &wire::Service, findings: &mut Findings) -> Option<&'static str> {
    if wire.metadata.labels.service_proxy_name == Label::Present {
        return Some("another proxy serves it, by label");
    }
    // Before the address: a Service that became an ExternalName may have kept its own.
    if wire.spec.kind.as_deref() == Some("ExternalName") {
        return Some("an ExternalName");
    }
    match non_empty(wire.spec.cluster_ip.as_deref()) {
        Some("None") => Some("headless"),
        Some(_) => None,
        None => {
            // An API server would have allocated one. In a manifest it was forgotten.
            findings.remark(
                "spec.clusterIP",
                "is missing, so the Service is not served (None says so on purpose)",
            );
            Some("no cluster IP")
        }
    }
}

/// One of each family at most. The families say which address is meant for which; without them only the
/// first address counts.
fn cluster_ips(spec: &wire::ServiceSpec, findings: &mut Findings) -> Vec<IpAddr> {
    let first = findings.check(
        format_args!("spec.clusterIP"),
        spec.cluster_ip.as_deref().map_or(Err("is missing".to_owned()), ip),
    );
    let all: Vec<_> = spec
        .cluster_ips
        .iter()
        .enumerate()
        .filter_map(|(index, text)| findings.check(format_args!("spec.clusterIPs[{index}]"), ip(text)))
        .collect();
    let families: Vec<_> = spec
        .ip_families
        .iter()
        .enumerate()
        .filter_map(|(index, text)| findings.check(format_args!("spec.ipFamilies[{index}]"), family(text)))
        .collect();
    let (Some(first), true, true) =
        (first, all.len() == spec.cluster_ips.len(), families.len() == spec.ip_families.len())
    else {
        return Vec::new();
    };
    disagreement(first, &all, &families, findings);
    if all.is_empty() || families.is_empty() {
        return vec![first];
    }
    all.into_iter().zip(families).map(|(ip, _)| ip).collect()
}

/// Reports what cannot all be true of the fields that name cluster IPs.
fn disagreement(first: IpAddr, all: &[IpAddr], families: &[Family], findings: &mut Findings) {
    for (index, ip) in all.iter().enumerate() {
        let path = format_args!("spec.clusterIPs[{index}]").to_string();
        if index == 0 && *ip != first {
            findings.refuse(path, format!("{ip} is not spec.clusterIP, which is {first}"));
        } else if all.iter().take(index).any(|before| Family::of(*before).has(ip)) {
            findings.refuse(path, format!("{ip} is a second {} address", Family::of(*ip)));
        } else if let Some(family) = families.get(index).filter(|family| !family.has(ip)) {
            findings
                .refuse(path, format!("{ip} is not an {family} address, as spec.ipFamilies[{index}] says"));
        }
    }
    if let (true, Some(family)) = (all.is_empty(), families.first().filter(|family| !family.has(&first))) {
        findings.refuse(
            "spec.clusterIP",
            format!("{first} is not an {family} address, as spec.ipFamilies[0] says"),
        );
    }
}

fn service_ports(wire: &[wire::ServicePort], findings: &mut Findings) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = Vec::with_capacity(wire.len());
    for (index, wire) in wire.iter().enumerate() {
        let name = wire.name.as_deref().unwrap_or_default();
        findings.check(format_args!("spec.ports[{index}].name"), port_name(name));
        let protocol =
            findings.check(format_args!("spec.ports[{index}].protocol"), protocol(wire.protocol.as_deref()));
        let number = findings.check(
            format_args!("spec.ports[{index}].port"),
            wire.port.map_or(Err("is missing".to_owned()), port),
        );
        let node_port =
            findings.check(format_args!("spec.ports[{index}].nodePort"), node_port(wire.node_port)).flatten();
        let (Some(protocol), Some(number)) = (protocol, number) else { continue };
        let same_protocol = || ports.iter().filter(|other| other.protocol == protocol);
        if same_protocol().any(|other| *other.name == *name) {
            let path = format_args!("spec.ports[{index}].name").to_string();
            findings.refuse(path, format!("{name:?} is the name of an earlier {protocol} port"));
        } else if same_protocol().any(|other| other.port == number) {
            let path = format_args!("spec.ports[{index}].port").to_string();
            findings.refuse(path, format!("{number} is the number of an earlier {protocol} port"));
        }
        ports.push(ServicePort { name: name.into(), protocol, port: number, node_port });
    }
    ports
}

fn external_ips(wire: &[String], findings: &mut Findings) -> Vec<IpAddr> {
    let written = wire.iter().enumerate().filter(|(_, text)| !text.trim().is_empty());
    written
        .filter_map(|(index, text)| {
            dropped_unless_ip(text, format_args!("spec.externalIPs[{index}]"), findings)
        })
        .collect()
}

/// Addresses that are ours to answer: those of load balancers that proxy are not.
fn load_balancer_ips(wire: &[wire::Ingress], findings: &mut Findings) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    for (index, ingress) in wire.iter().enumerate() {
        let path = format_args!("status.loadBalancer.ingress[{index}].ip");
        if let (Some(text), "VIP") =
            (non_empty(ingress.ip.as_deref()), ingress.ip_mode.as_deref().unwrap_or("VIP"))
        {
            ips.extend(dropped_unless_ip(text, path, findings));
        }
    }
    ips
}

fn dropped_unless_ip(text: &str, path: fmt::Arguments<'_>, findings: &mut Findings) -> Option<IpAddr> {
    ip(text).map_err(|message| findings.remark(path, format!("{message}, and is passed over"))).ok()
}

fn affinity(spec: &wire::ServiceSpec, findings: &mut Findings) -> Option<Seconds> {
    const DAY: i64 = 86_400;
    let seconds = spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(3 * 3_600);
    match non_empty(spec.session_affinity.as_deref()) {
        None | Some("None") => None,
        Some("ClientIP") => findings.check(
            format_args!("spec.sessionAffinityConfig.clientIP.timeoutSeconds"),
            match u32::try_from(seconds) {
                Ok(whole) if (1..=DAY).contains(&seconds) => Ok(Seconds(whole)),
                _ => Err(format!("{seconds} is not between 1 and {DAY}")),
            },
        ),
        other => {
            findings.refuse("spec.sessionAffinity", unknown(other, "None or ClientIP"));
            None
        }
    }
}

fn slice_ports(wire: &[wire::SlicePort], findings: &mut Findings) -> Vec<SlicePort> {
    let mut ports = Vec::with_capacity(wire.len());
    for (index, wire) in wire.iter().enumerate() {
        let (Some(name), Some(number)) = (&wire.name, wire.port.filter(|number| *number != 0)) else {
            continue;
        };
        findings.check(format_args!("ports[{index}].name"), port_name(name));
        let number = findings.check(format_args!("ports[{index}].port"), port(number));
        let protocol =
            findings.check(format_args!("ports[{index}].protocol"), protocol(wire.protocol.as_deref()));
        if let (Some(port), Some(protocol)) = (number, protocol) {
            ports.push(SlicePort { name: name.as_str().into(), protocol, port });
        }
    }
    ports
}

fn slice_endpoints(
    wire: &[wire::SliceEndpoint],
    family: Family,
    findings: &mut Findings,
) -> Vec<SliceEndpoint> {
    let mut endpoints = Vec::with_capacity(wire.len());
    for (index, wire) in wire.iter().enumerate() {
        let Some(text) = wire.addresses.first() else { continue };
        let address = ip(text).and_then(|ip| {
            family.has(&ip).then_some(ip).ok_or_else(|| format!("{ip} is not an {family} address"))
        });
        let address = findings.check(format_args!("endpoints[{index}].addresses[0]"), address);
        let Some(address) = address else { continue };
        endpoints.push(SliceEndpoint {
            address,
            health: health(&wire.conditions),
            node: non_empty(wire.node_name.as_deref()).map(shared),
            zone: non_empty(wire.zone.as_deref()).map(shared),
            weight: None,
            hints: hints(&wire.hints),
        });
    }
    endpoints
}

/// What nobody said: ready yes, serving yes, terminating no.
fn health(conditions: &wire::Conditions) -> Health {
    let serving = conditions.serving.unwrap_or(true);
    let terminating = conditions.terminating.unwrap_or(false);
    if conditions.ready.unwrap_or(true) {
        Health::Ready
    } else if serving && terminating {
        Health::Terminating
    } else {
        Health::Unready
    }
}

fn hints(wire: &wire::Hints) -> Option<Box<Hints>> {
    let names = |hints: &[wire::Hint]| hints.iter().map(|hint| hint.name.as_str().into()).collect();
    let hints = Hints { zones: names(&wire.for_zones), nodes: names(&wire.for_nodes) };
    (hints != Hints::default()).then(|| Box::new(hints))
}

/// The first of all, and the first of the other family.
fn node_ips(wire: &[wire::NodeAddress], findings: &mut Findings) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for kind in ["InternalIP", "ExternalIP"] {
        for (index, address) in wire.iter().enumerate().filter(|(_, address)| address.kind == kind) {
            let path = format_args!("status.addresses[{index}].address");
            let ip = dropped_unless_ip(&address.address, path, findings);
            ips.extend(ip.filter(|ip| ips.iter().all(|known| Family::of(*known) != Family::of(*ip))));
        }
    }
    ips
}

fn ranges(wire: &[String], path: &str, findings: &mut Findings) -> Vec<IpNet> {
    let read =
        |(index, text): (usize, &String)| findings.check(format_args!("{path}[{index}]"), range(text.trim()));
    wire.iter().enumerate().filter_map(read).collect()
}

fn created(metadata: &wire::Metadata, findings: &mut Findings) -> Option<i64> {
    let text = metadata.creation_timestamp.as_deref()?;
    findings.check(
        format_args!("metadata.creationTimestamp"),
        lenient::timestamp(text).ok_or_else(|| format!("{text:?} is not a time like 2006-01-02T15:04:05Z")),
    )
}

fn kind(text: Option<&str>) -> Result<ServiceKind, String> {
    match non_empty(text) {
        None | Some("ClusterIP") => Ok(ServiceKind::ClusterIp),
        Some("NodePort") => Ok(ServiceKind::NodePort),
        Some("LoadBalancer") => Ok(ServiceKind::LoadBalancer),
        other => Err(unknown(other, "ClusterIP, NodePort, LoadBalancer or ExternalName")),
    }
}

fn policy(text: Option<&str>) -> Result<Policy, String> {
    match non_empty(text) {
        None | Some("Cluster") => Ok(Policy::Cluster),
        Some("Local") => Ok(Policy::Local),
        other => Err(unknown(other, "Cluster or Local")),
    }
}

fn protocol(text: Option<&str>) -> Result<Protocol, String> {
    match non_empty(text) {
        None | Some("TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        other => Err(unknown(other, "TCP, UDP or SCTP")),
    }
}

fn family(text: &str) -> Result<Family, String> {
    match text {
        "IPv4" => Ok(Family::V4),
        "IPv6" => Ok(Family::V6),
        other => Err(unknown(Some(other), "IPv4 or IPv6")),
    }
}

fn port(number: i64) -> Result<Port, String> {
    let port = u16::try_from(number).ok().and_then(Port::new);
    port.ok_or_else(|| not_a_port(number))
}

/// None and 0 both say that there is none.
fn node_port(number: Option<i64>) -> Result<Option<NodePort>, String> {
    let Some(number) = number.filter(|number| *number != 0) else { return Ok(None) };
    let port = u16::try_from(number).ok().and_then(NodePort::new);
    port.map(Some).ok_or_else(|| not_a_port(number))
}

/// Empty is the name of an only port.
fn port_name(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { name(text) }
}

fn ip(text: &str) -> Result<IpAddr, String> {
    lenient::ip(text).ok_or_else(|| format!("{text:?} is not an IP address"))
}

fn range(text: &str) -> Result<IpNet, String> {
    lenient::range(text).ok_or_else(|| format!("{text:?} is not a range like 10.0.0.0/8"))
}

fn not_a_port(number: i64) -> String {
    format!("{number} is not a port (1 to 65535)")
}

fn unknown(text: Option<&str>, known: &str) -> String {
    match text {
        Some(text) => format!("{text:?} is not known; it can be {known}"),
        None => format!("is missing; it can be {known}"),
    }
}

fn non_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
