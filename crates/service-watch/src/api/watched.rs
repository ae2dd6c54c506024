//! What is watched: the paths and selectors of the API, and how each object is understood.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;

use crate::convert::{self, Answer};
use crate::objects::{Fact, Key, Statement, nothing, stated};
use crate::wire;
use manifest_documents::{Findings, Position};
use service_plan::{ServiceName, SliceName};

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Node,
    Services,
    EndpointSlices,
    ServiceCidrs,
}

/// Whether the proxy can do without a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Necessity {
    Needed,
    /// A server may be too old for it, or not let us see it.
    Spared,
}

/// The one Node that is watched.
#[derive(Clone, Debug)]
pub(super) struct NodeSelector(pub(super) Arc<str>);

/// An object of the API, in its wire shape.
pub(super) trait Watched: DeserializeOwned {
    fn metadata(&self) -> &wire::Metadata;

    /// What it means.
    fn statement(&self) -> Statement;

    /// Which one it is, if it has a name.
    fn key(&self) -> Option<Key>;

    /// When that happened for whose sake it changed, if somebody says so.
    fn trigger(&self) -> Option<SystemTime> {
        None
    }
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Node, Self::Services, Self::EndpointSlices, Self::ServiceCidrs];

    /// As the API calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Node => "nodes",
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::ServiceCidrs => "servicecidrs",
        }
    }

    pub(super) fn necessity(self) -> Necessity {
        match self {
            Self::Node | Self::ServiceCidrs => Necessity::Spared,
            Self::Services | Self::EndpointSlices => Necessity::Needed,
        }
    }

    /// Path and selector, to which more parameters can be added.
    pub(super) fn path(self, node: &NodeSelector) -> String {
        let (path, selector) = match self {
            Self::Node => ("/api/v1/nodes", format!("fieldSelector=metadata.name%3D{}", encoded(&node.0))),
            Self::Services => (
                "/api/v1/services",
                "labelSelector=%21service.kubernetes.io%2Fservice-proxy-name\
                 &fieldSelector=spec.clusterIP%21%3DNone"
                    .to_owned(),
            ),
            Self::EndpointSlices => (
                "/apis/discovery.k8s.io/v1/endpointslices",
                "labelSelector=%21service.kubernetes.io%2Fheadless".to_owned(),
            ),
            // It takes any selector of nothing.
            Self::ServiceCidrs => ("/apis/networking.k8s.io/v1/servicecidrs", "labelSelector=".to_owned()),
        };
        format!("{path}?{selector}")
    }
}

/// A text as a part of a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
        out
    })
}

impl Watched for wire::Service {
    fn metadata(&self) -> &wire::Metadata {
        &self.metadata
    }

    fn statement(&self) -> Statement {
        let mut findings = Findings::default();
        let Some((namespace, name)) = names(&self.metadata, &mut findings) else {
            return nothing("Service", Position::Unknown, findings);
        };
        let answer = convert::service(self, &mut findings);
        let key = Key::Service(ServiceName::new(namespace, name));
        stated(key, Position::Unknown, answer, |service| Fact::Service(Arc::new(service)), findings)
    }

    fn key(&self) -> Option<Key> {
        let (namespace, name) = names(&self.metadata, &mut Findings::default())?;
        Some(Key::Service(ServiceName::new(namespace, name)))
    }
}

impl Watched for wire::EndpointSlice {
    fn metadata(&self) -> &wire::Metadata {
        &self.metadata
    }

    fn statement(&self) -> Statement {
        let mut findings = Findings::default();
        let Some((namespace, name)) = names(&self.metadata, &mut findings) else {
            return nothing("EndpointSlice", Position::Unknown, findings);
        };
        let answer = convert::endpoint_slice(namespace, self, &mut findings);
        let key = Key::EndpointSlice(SliceName::new(namespace, name));
        stated(key, Position::Unknown, answer, |slice| Fact::EndpointSlice(Arc::new(slice)), findings)
    }

    fn key(&self) -> Option<Key> {
        let (namespace, name) = names(&self.metadata, &mut Findings::default())?;
        Some(Key::EndpointSlice(SliceName::new(namespace, name)))
    }

    fn trigger(&self) -> Option<SystemTime> {
        let text = self.metadata.annotations.last_change_trigger_time.as_deref()?;
        text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
    }
}

impl Watched for wire::Node {
    fn metadata(&self) -> &wire::Metadata {
        &self.metadata
    }

    fn statement(&self) -> Statement {
        let mut findings = Findings::default();
        let Some(name) = own_name(&self.metadata, &mut findings) else {
            return nothing("Node", Position::Unknown, findings);
        };
        let key = Key::Node(name.into());
        let answer = convert::node(self, &mut findings).map(Answer::Ours);
        stated(key, Position::Unknown, answer, |node| Fact::Node(Arc::new(node)), findings)
    }

    fn key(&self) -> Option<Key> {
        own_name(&self.metadata, &mut Findings::default()).map(|name| Key::Node(name.into()))
    }
}

impl Watched for wire::ServiceCidr {
    fn metadata(&self) -> &wire::Metadata {
        &self.metadata
    }

    fn statement(&self) -> Statement {
        let mut findings = Findings::default();
        let Some(name) = own_name(&self.metadata, &mut findings) else {
            return nothing("ServiceCIDR", Position::Unknown, findings);
        };
        let key = Key::ServiceCidr(name.into());
        let answer = convert::service_cidr(self, &mut findings).map(Answer::Ours);
        stated(key, Position::Unknown, answer, |ranges| Fact::ServiceCidr(ranges.into()), findings)
    }

    fn key(&self) -> Option<Key> {
        own_name(&self.metadata, &mut Findings::default()).map(|name| Key::ServiceCidr(name.into()))
    }
}

fn names<'a>(metadata: &'a wire::Metadata, findings: &mut Findings) -> Option<(&'a str, &'a str)> {
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    let checked = convert::name(namespace).map_err(|message| findings.refuse("metadata.namespace", message));
    let name = own_name(metadata, findings)?;
    checked.ok().map(|()| (namespace, name))
}

fn own_name<'a>(metadata: &'a wire::Metadata, findings: &mut Findings) -> Option<&'a str> {
    let name = metadata.name.as_deref().unwrap_or_default();
    convert::name(name).map_err(|message| findings.refuse("metadata.name", message)).ok().map(|()| name)
}

#[cfg(test)]
mod tests;
