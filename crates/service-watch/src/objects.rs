//! From a document to what it states about an object, with everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};
use service_plan::{EndpointSlice, Service, ServiceName, SliceName};
use tracing::debug;

use crate::convert::{self, Answer};
use crate::vocabulary::{self, About, Claim, Vocabulary};
use crate::{Batch, Changes, Event, NodeObject};
use manifest_documents::{Document, Findings, Position};

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A Service.
    Service(ServiceName),
    /// An `EndpointSlice`.
    EndpointSlice(SliceName),
    /// A Node.
    Node(Arc<str>),
    /// A `ServiceCIDR`.
    ServiceCidr(Arc<str>),
}

/// An object, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A Service.
    Service(Arc<Service>),
    /// An `EndpointSlice`.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Node.
    Node(Arc<NodeObject>),
    /// The ranges of a `ServiceCIDR`.
    ServiceCidr(Arc<[IpNet]>),
}

/// What a document says.
pub(crate) type Statement = vocabulary::Statement<Key, Fact>;

/// What a proxy reads: Services, `EndpointSlices`, its own Node and `ServiceCIDRs`.
#[derive(Debug)]
pub struct Services {
    /// Of all Node objects that of this name counts.
    node_name: Arc<str>,
    service_cidrs: BTreeMap<Arc<str>, Arc<[IpNet]>>,
    /// Those of all, as they were last told.
    pub(crate) service_ranges: Vec<IpNet>,
}

impl Services {
    /// Those of a node.
    pub(crate) fn of(node_name: &str) -> Self {
        let node_name = node_name.trim().to_lowercase().into();
        Self { node_name, service_cidrs: BTreeMap::new(), service_ranges: Vec::new() }
    }

    /// Answers nothing for the range of a `ServiceCIDR`, since ranges are told together.
    fn event(&mut self, key: Key, fact: Option<Fact>) -> Option<Event> {
        match (key, fact) {
            (Key::Service(name), Some(Fact::Service(service))) => Some(Event::Service(name, Some(service))),
            (Key::Service(name), _) => Some(Event::Service(name, None)),
            (Key::EndpointSlice(name), Some(Fact::EndpointSlice(slice))) => {
                Some(Event::EndpointSlice(name, Some(slice)))
            }
            (Key::EndpointSlice(name), _) => Some(Event::EndpointSlice(name, None)),
            (Key::Node(_), Some(Fact::Node(node))) => Some(Event::Node(Some((*node).clone()))),
            (Key::Node(_), _) => Some(Event::Node(None)),
            (Key::ServiceCidr(name), Some(Fact::ServiceCidr(ranges))) => {
                self.service_cidrs.insert(name, ranges);
                None
            }
            (Key::ServiceCidr(name), _) => {
                self.service_cidrs.remove(&name);
                None
            }
        }
    }

    /// The ranges of all `ServiceCIDR` objects, if they are others than before.
    fn changed_ranges(&mut self) -> Option<Event> {
        let ranges: BTreeSet<_> =
            self.service_cidrs.values().flat_map(|ranges| ranges.iter().copied()).collect();
        let ranges: Vec<_> = ranges.into_iter().collect();
        (std::mem::replace(&mut self.service_ranges, ranges.clone()) != ranges)
            .then_some(Event::ServiceRanges(ranges))
    }
}

impl Vocabulary for Services {
    type Key = Key;
    type Fact = Fact;
    type News = Batch;

    fn concerns(&self, key: &Key) -> bool {
        !matches!(key, Key::Node(name) if *name != self.node_name)
    }

    fn news(&mut self, changes: Changes<Key, Fact>) -> Batch {
        let Changes { objects, reports, lists, received } = changes;
        let mut events: Vec<_> =
            objects.into_iter().filter_map(|(key, fact)| self.event(key, fact)).collect();
        events.extend(self.changed_ranges());
        events.extend(lists.is_first().then_some(Event::Listed));
        Batch { events, reports, received }
    }

    fn statement(document: Document) -> Statement {
        let Document { position, fields } = document;
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        match (text("apiVersion"), text("kind")) {
            ("v1", "Service") => service(position, fields),
            ("discovery.k8s.io/v1", "EndpointSlice") => endpoint_slice(position, fields),
            ("v1", "Node") => node(position, fields),
            ("networking.k8s.io/v1", "ServiceCIDR") => service_cidr(position, fields),
            ("", kind @ ("Service" | "EndpointSlice" | "Node" | "ServiceCIDR")) => {
                let mut findings = Findings::default();
                findings.refuse("apiVersion", "is missing");
                nothing(kind, position, findings)
            }
            (api_version, kind) => {
                debug!(api_version, kind, ?position, "object of another kind passed over");
                Statement { position, about: About::Nothing, problems: Vec::new() }
            }
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(out, "Service {name}"),
            Self::EndpointSlice(name) => write!(out, "EndpointSlice {name}"),
            Self::Node(name) => write!(out, "Node {name}"),
            Self::ServiceCidr(name) => write!(out, "ServiceCIDR {name}"),
        }
    }
}

fn service(position: Position, fields: Map<String, Value>) -> Statement {
    let mut findings = Findings::default();
    let Some((namespace, name)) = namespace_and_name(&fields, &mut findings) else {
        return nothing("Service", position, findings);
    };
    let key = Key::Service(ServiceName::new(&namespace, &name));
    let wire = decoded(fields, &mut findings);
    let answer = wire.and_then(|wire| convert::service(&wire, &mut findings));
    stated(key, position, answer, |service| Fact::Service(Arc::new(service)), findings)
}

fn endpoint_slice(position: Position, fields: Map<String, Value>) -> Statement {
    let mut findings = Findings::default();
    let Some((namespace, name)) = namespace_and_name(&fields, &mut findings) else {
        return nothing("EndpointSlice", position, findings);
    };
    let key = Key::EndpointSlice(SliceName::new(&namespace, &name));
    let wire = decoded(fields, &mut findings);
    let answer = wire.and_then(|wire| convert::endpoint_slice(&namespace, &wire, &mut findings));
    stated(key, position, answer, |slice| Fact::EndpointSlice(Arc::new(slice)), findings)
}

fn node(position: Position, fields: Map<String, Value>) -> Statement {
    let mut findings = Findings::default();
    let Some(name) = name(&fields, &mut findings) else { return nothing("Node", position, findings) };
    let wire = decoded(fields, &mut findings);
    let answer = wire.and_then(|wire| convert::node(&wire, &mut findings)).map(Answer::Ours);
    stated(Key::Node(name.into()), position, answer, |node| Fact::Node(Arc::new(node)), findings)
}

fn service_cidr(position: Position, fields: Map<String, Value>) -> Statement {
    let mut findings = Findings::default();
    let Some(name) = name(&fields, &mut findings) else {
        return nothing("ServiceCIDR", position, findings);
    };
    let wire = decoded(fields, &mut findings);
    let answer = wire.and_then(|wire| convert::service_cidr(&wire, &mut findings)).map(Answer::Ours);
    stated(
        Key::ServiceCidr(name.into()),
        position,
        answer,
        |ranges| Fact::ServiceCidr(ranges.into()),
        findings,
    )
}

/// What was read of an object, as a statement about it.
pub(crate) fn stated<T>(
    key: Key,
    position: Position,
    answer: Option<Answer<T>>,
    fact: fn(T) -> Fact,
    findings: Findings,
) -> Statement {
    let claim = match answer {
        Some(Answer::Ours(value)) => Claim::Is(fact(value)),
        Some(Answer::NotOurs(reason)) => {
            debug!(object = %key, reason, "object passed over");
            Claim::NotOurs
        }
        None => Claim::Refused,
    };
    let problems = findings.into_errors(|| key.to_string());
    Statement { position, about: About::Object(key, claim), problems }
}

/// A statement about an object that has no name.
pub(crate) fn nothing(kind: &str, position: Position, findings: Findings) -> Statement {
    let object = || match position {
        Position::Item(index) => format!("{kind} in items[{index}]"),
        Position::Line(_) | Position::Unknown => kind.to_owned(),
    };
    Statement { position, about: About::Nothing, problems: findings.into_errors(object) }
}

fn namespace_and_name(fields: &Map<String, Value>, findings: &mut Findings) -> Option<(String, String)> {
    let namespace = metadata(fields, "namespace").unwrap_or("default");
    let checked = convert::name(namespace).map_err(|message| findings.refuse("metadata.namespace", message));
    let name = name(fields, findings)?;
    checked.ok().map(|()| (namespace.to_owned(), name))
}

fn name(fields: &Map<String, Value>, findings: &mut Findings) -> Option<String> {
    let Some(name) = metadata(fields, "name") else {
        findings.refuse("metadata.name", "is missing, or not text");
        return None;
    };
    let checked = convert::name(name).map_err(|message| findings.refuse("metadata.name", message));
    checked.ok().map(|()| name.to_owned())
}

fn metadata<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get("metadata")?.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// An object's wire shape. A value of the wrong type is reported and taken for absent, so that those after it
/// are reported as well; none if the document has nothing of that shape.
fn decoded<T: DeserializeOwned>(fields: Map<String, Value>, findings: &mut Findings) -> Option<T> {
    let mut value = Value::Object(fields);
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(wire) => return Some(wire),
            Err(error) => error,
        };
        findings.refuse(error.path(), error.inner().to_string());
        match at_path(&mut value, error.path()) {
            Some(wrong) if !wrong.is_null() => *wrong = Value::Null,
            _ => return None,
        }
    }
}

fn at_path<'a>(value: &'a mut Value, path: &Path) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get_mut(*index),
        Segment::Map { key } => value.get_mut(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    })
}

#[cfg(test)]
mod tests;
