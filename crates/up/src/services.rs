//! What a Service says beyond what a proxy reads of it: which pods it means, and what it leaves to be given.

use std::collections::BTreeMap;
use std::sync::Arc;

use manifest_documents::{Document, FieldError, Findings};
use serde_json::{Map, Value};
use service_plan::{Family, Policy, Protocol, ServiceKind};
use service_watch::{About, Claim, Fact, Key, Services, Statement, Vocabulary};

/// A Service of the directory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    /// What the proxy is told, once everything is given that it leaves open; nothing if the proxy has nothing to do.
    pub(crate) served: Option<Arc<service_plan::Service>>,
    /// spec.selector; without one it has only the endpoints that the files give it.
    pub(crate) selector: BTreeMap<String, String>,
    /// spec.ports
    pub(crate) ports: Vec<PodPort>,
    /// spec.publishNotReadyAddresses
    pub(crate) unready: Unready,
    /// The families of its endpoints, the first of which it has its first address of; the node's if it says none.
    pub(crate) families: Families,
    /// Whether addresses and node ports are to be given.
    pub(crate) wants: Wants,
}

/// Where a port of a Service leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodPort {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) target: Target,
}

/// spec.ports[].targetPort
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// This one.
    Number(u16),
    /// The container port of that name, which may be another in each pod.
    Named(String),
}

/// spec.publishNotReadyAddresses
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unready {
    /// They count as ready.
    Published,
    /// They get no requests.
    Withheld,
}

/// spec.ipFamilies and spec.ipFamilyPolicy
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// These.
    Given(Vec<Family>),
    /// The node's first.
    First,
    /// All that the node has.
    All,
}

/// What is to be given to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// An address of each of its families, and node ports where it has none.
    Addresses,
    /// Node ports where it has none.
    NodePorts,
    /// Nothing: it is headless, or none of the proxy's business.
    Nothing,
}

/// Stands for an address that is to be given, while the Service is read.
const OPEN: &str = "0.0.0.0";

/// A document that is a Service.
pub(crate) fn statement(document: Document) -> Statement<Key, Service> {
    let Document { position, mut fields } = document;
    let mut findings = Findings::default();
    let spec = fields.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
    let headless = text(&spec, "clusterIP") == Some("None");
    let external = text(&spec, "type") == Some("ExternalName");
    let open = text(&spec, "clusterIP").is_none() && !external;
    let families = families(&spec, &mut findings);
    if open && let Some(Value::Object(spec)) = fields.get_mut("spec") {
        spec.insert("clusterIP".to_owned(), OPEN.into());
        spec.remove("clusterIPs");
        spec.remove("ipFamilies");
    }
    let Statement { position, about, mut problems } = Services::statement(Document { position, fields });
    let (key, claim) = match about {
        About::Object(key, claim) => (key, claim),
        About::Nothing => return Statement { position, about: About::Nothing, problems },
    };
    let selector = selector(&spec, &mut findings);
    let ports = ports(&spec, &mut findings);
    let selects = |labels: &Value| labels.as_object().is_none_or(|labels| !labels.is_empty());
    if !external && !spec.get("selector").is_some_and(selects) {
        findings.remark("spec.selector", "is missing, so it has only endpoints that EndpointSlices give it");
    }
    let accepted = findings.unless_refused(());
    problems.extend(findings.into_errors(|| key.to_string()));
    let (served, wants) = match claim {
        Claim::Refused => return Statement { position, about: About::Object(key, Claim::Refused), problems },
        Claim::Is(Fact::Service(service)) if open => {
            let mut service = (*service).clone();
            service.cluster_ips.clear();
            (Some(Arc::new(service)), Wants::Addresses)
        }
        Claim::Is(Fact::Service(service)) => (Some(service), Wants::NodePorts),
        Claim::NotOurs | Claim::Is(Fact::EndpointSlice(_) | Fact::Node(_) | Fact::ServiceCidr(_)) => {
            (None, Wants::Nothing)
        }
    };
    let of_addresses = |service: &Arc<service_plan::Service>| {
        service.cluster_ips.iter().map(|ip| Family::of(*ip)).collect::<Vec<_>>()
    };
    let families = match (&served, headless, open) {
        (Some(service), false, false) => Families::Given(of_addresses(service)),
        _ => families,
    };
    let unready = match spec.get("publishNotReadyAddresses").and_then(Value::as_bool) {
        Some(true) => Unready::Published,
        Some(false) | None => Unready::Withheld,
    };
    let claim = match accepted {
        Some(()) => Claim::Is(Service { served, selector, ports, unready, families, wants }),
        None => Claim::Refused,
    };
    Statement { position, about: About::Object(key, claim), problems }
}

impl Service {
    /// The families that it is to have, of those that the node has.
    pub(crate) fn families<'a>(&'a self, node: &'a [Family]) -> &'a [Family] {
        match &self.families {
            Families::Given(families) => families,
            Families::First => node.get(..1).unwrap_or(node),
            Families::All => node,
        }
    }

    /// Whether every node opens ports for it.
    pub(crate) fn has_node_ports(service: &service_plan::Service) -> bool {
        matches!(service.kind, ServiceKind::NodePort | ServiceKind::LoadBalancer)
    }

    /// Whether every node answers whether it has an endpoint.
    pub(crate) fn has_health_check(service: &service_plan::Service) -> bool {
        service.kind == ServiceKind::LoadBalancer && service.external_policy == Policy::Local
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn families(spec: &Map<String, Value>, findings: &mut Findings) -> Families {
    let mut given = Vec::new();
    for (index, family) in spec.get("ipFamilies").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        match family.as_str() {
            Some("IPv4") if !given.contains(&Family::V4) => given.push(Family::V4),
            Some("IPv6") if !given.contains(&Family::V6) => given.push(Family::V6),
            _ => findings.refuse(
                format_args!("spec.ipFamilies[{index}]"),
                format!("{family} is neither IPv4 nor IPv6, or is there already"),
            ),
        }
    }
    match text(spec, "ipFamilyPolicy") {
        _ if !given.is_empty() => Families::Given(given),
        Some("PreferDualStack" | "RequireDualStack") => Families::All,
        Some("SingleStack") | None => Families::First,
        Some(other) => {
            findings.refuse(
                "spec.ipFamilyPolicy",
                format!("{other:?} is not SingleStack, PreferDualStack or RequireDualStack"),
            );
            Families::First
        }
    }
}

fn selector(spec: &Map<String, Value>, findings: &mut Findings) -> BTreeMap<String, String> {
    let mut selector = BTreeMap::new();
    match spec.get("selector") {
        None | Some(Value::Null) => {}
        Some(Value::Object(labels)) => {
            for (label, value) in labels {
                match value.as_str() {
                    Some(value) => drop(selector.insert(label.clone(), value.to_owned())),
                    None => findings.refuse(format_args!("spec.selector.{label}"), "is not text"),
                }
            }
        }
        Some(_) => findings.refuse("spec.selector", "is not a mapping"),
    }
    selector
}

/// Names, numbers and protocols are judged where the proxy's part is read.
fn ports(spec: &Map<String, Value>, findings: &mut Findings) -> Vec<PodPort> {
    let mut ports = Vec::new();
    for (index, port) in spec.get("ports").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let Some(port) = port.as_object() else { continue };
        let own = port.get("port").and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
        let target = match port.get("targetPort") {
            None | Some(Value::Null) => own.map(Target::Number),
            Some(Value::String(name)) if !name.is_empty() => Some(match name.parse() {
                Ok(number) => Target::Number(number),
                Err(_) => Target::Named(name.clone()),
            }),
            Some(value) => {
                let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
                number.filter(|number| *number > 0).map(Target::Number)
            }
        };
        let protocol = match text(port, "protocol") {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(_) | None => Protocol::Tcp,
        };
        match target {
            Some(target) => {
                ports.push(PodPort { name: text(port, "name").unwrap_or_default().into(), protocol, target });
            }
            None => findings.refuse(
                format_args!("spec.ports[{index}].targetPort"),
                "is neither a port (1 to 65535) nor a name",
            ),
        }
    }
    ports
}

/// A problem of a Service that shows only together with others.
pub(crate) fn problem(object: &str, path: impl Into<String>, message: String) -> FieldError {
    FieldError { object: object.to_owned(), path: path.into(), message }
}

#[cfg(test)]
pub(crate) mod tests;
