//! From a document to what it states about an object, with everything that is wrong with it.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};
use service_plan::{EndpointSlice, Service, ServiceName, SliceName};
use tracing::debug;

use crate::NodeObject;
use crate::convert::{self, Answer};
use manifest_documents::{Document, FieldError, Findings, Position};

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Service(ServiceName),
    EndpointSlice(SliceName),
    Node(Arc<str>),
    ServiceCidr(Arc<str>),
}

/// An object, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    Node(Arc<NodeObject>),
    ServiceCidr(Arc<[IpNet]>),
}

/// What a document says.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) position: Position,
    pub(crate) about: About,
    pub(crate) problems: Vec<FieldError>,
}

/// Whether a document speaks of an object.
#[derive(Debug)]
pub(crate) enum About {
    /// Of this one.
    Object(Key, Claim),
    /// Of none that can be told.
    Nothing,
}

/// What is said of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is this.
    Is(Fact),
    /// It is none of our business.
    NotOurs,
    /// It is wrong, so it is what it was.
    Refused,
}

impl From<Document> for Statement {
    fn from(document: Document) -> Self {
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
                Self { position, about: About::Nothing, problems: Vec::new() }
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
