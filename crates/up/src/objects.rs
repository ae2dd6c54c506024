//! What the files of a directory say, in the words of pods and of the proxy both.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use manifest_documents::{Document, FieldError};
use pod_manifests::{Deployment, Manifests, ObjectName, Pod};
use serde_json::Value;
use service_plan::ServiceName;
use service_watch::{About, Changes, Claim, NodeObject, Report, Services, Statement, Vocabulary};

use crate::revision::{Entries, revision};
use crate::services::{self, Service};

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Pod(ObjectName),
    Deployment(ObjectName),
    ConfigMap(ObjectName),
    Secret(ObjectName),
    /// One that the proxy reads as well.
    Watched(service_watch::Key),
}

/// An object, understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fact {
    Pod(Arc<Pod>),
    Deployment(Arc<Deployment>),
    Entries(Arc<BTreeMap<String, Vec<u8>>>),
    Service(Arc<Service>),
    Watched(service_watch::Fact),
}

/// The words in which the directory is read.
#[derive(Debug)]
pub(crate) struct Words {
    node_name: Arc<str>,
}

/// Everything that the files say.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) pods: BTreeMap<ObjectName, Arc<Pod>>,
    pub(crate) deployments: BTreeMap<ObjectName, Arc<Deployment>>,
    pub(crate) services: BTreeMap<ServiceName, Arc<Service>>,
    /// Slices that the files have themselves, and this node's object.
    pub(crate) watched: BTreeMap<service_watch::Key, service_watch::Fact>,
    entries: Entries,
}

impl Words {
    pub(crate) fn of(node_name: &str) -> Self {
        Self { node_name: node_name.into() }
    }
}

impl Vocabulary for Words {
    type Key = Key;
    type Fact = Fact;
    type News = Changes<Key, Fact>;

    fn concerns(&self, key: &Key) -> bool {
        !matches!(key, Key::Watched(service_watch::Key::Node(name)) if *name != self.node_name)
    }

    fn news(&mut self, changes: Changes<Key, Fact>) -> Changes<Key, Fact> {
        changes
    }

    fn statement(document: Document) -> Statement<Key, Fact> {
        let text = |name: &str| document.fields.get(name).and_then(Value::as_str).unwrap_or_default();
        match (text("apiVersion"), text("kind")) {
            ("v1", "Service") => {
                translated(services::statement(document), |service| Fact::Service(Arc::new(service)))
            }
            ("v1" | "apps/v1" | "", "Pod" | "Deployment" | "ConfigMap" | "Secret") => of_pods(document),
            _ => translated(Services::statement(document), Fact::Watched),
        }
    }
}

/// A statement about an object that the proxy reads.
fn translated<F>(
    statement: Statement<service_watch::Key, F>,
    fact: impl FnOnce(F) -> Fact,
) -> Statement<Key, Fact> {
    let Statement { position, about, problems } = statement;
    let about = match about {
        About::Nothing => About::Nothing,
        About::Object(key, claim) => About::Object(
            Key::Watched(key),
            match claim {
                Claim::Is(value) => Claim::Is(fact(value)),
                Claim::NotOurs => Claim::NotOurs,
                Claim::Refused => Claim::Refused,
            },
        ),
    };
    Statement { position, about, problems }
}

/// A statement about an object that pods are made of.
fn of_pods(document: Document) -> Statement<Key, Fact> {
    let Document { position, fields } = document;
    let kind = fields.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = |part: &str| fields.get("metadata")?.get(part)?.as_str().filter(|text| !text.is_empty());
    let named = name("name").map(|own| ObjectName {
        namespace: name("namespace").unwrap_or("default").to_owned(),
        name: own.to_owned(),
    });
    let mut read = Manifests::default();
    read.add(fields);
    let mut problems = std::mem::take(&mut read.refused);
    problems.append(&mut read.remarks);
    let key = named.and_then(|name| match kind.as_str() {
        "Pod" => Some(Key::Pod(name)),
        "Deployment" => Some(Key::Deployment(name)),
        "ConfigMap" => Some(Key::ConfigMap(name)),
        "Secret" => Some(Key::Secret(name)),
        _ => None,
    });
    let pod = read.pods.pop().map(|pod| Fact::Pod(Arc::new(pod)));
    let deployment = read.deployments.pop().map(|deployment| Fact::Deployment(Arc::new(deployment)));
    let entries = read.config_maps.pop_first().or(read.secrets.pop_first());
    let entries = entries.map(|(_, entries)| Fact::Entries(Arc::new(entries)));
    let about = match (key, pod.or(deployment).or(entries)) {
        (Some(key), Some(fact)) => About::Object(key, Claim::Is(fact)),
        (Some(key), None) if !problems.is_empty() => About::Object(key, Claim::Refused),
        (Some(_), None) | (None, _) => About::Nothing,
    };
    Statement { position, about, problems }
}

impl Objects {
    /// Takes changes in. Answers what a person should read.
    pub(crate) fn take(&mut self, changes: Changes<Key, Fact>) -> Vec<Report> {
        for (key, fact) in changes.objects {
            self.take_one(key, fact);
        }
        changes.reports
    }

    fn take_one(&mut self, key: Key, fact: Option<Fact>) {
        match (key, fact) {
            (Key::Pod(name), Some(Fact::Pod(pod))) => drop(self.pods.insert(name, pod)),
            (Key::Pod(name), _) => drop(self.pods.remove(&name)),
            (Key::Deployment(name), Some(Fact::Deployment(deployment))) => {
                self.deployments.insert(name, deployment);
            }
            (Key::Deployment(name), _) => drop(self.deployments.remove(&name)),
            (Key::ConfigMap(name), fact) => self.take_entries("ConfigMap", name, fact),
            (Key::Secret(name), fact) => self.take_entries("Secret", name, fact),
            (Key::Watched(service_watch::Key::Service(name)), Some(Fact::Service(service))) => {
                self.services.insert(name, service);
            }
            (Key::Watched(service_watch::Key::Service(name)), _) => drop(self.services.remove(&name)),
            (Key::Watched(key), Some(Fact::Watched(fact))) => drop(self.watched.insert(key, fact)),
            (Key::Watched(key), _) => drop(self.watched.remove(&key)),
        }
    }

    fn take_entries(&mut self, kind: &'static str, name: ObjectName, fact: Option<Fact>) {
        match fact {
            Some(Fact::Entries(entries)) => drop(self.entries.insert((kind, name), (*entries).clone())),
            Some(Fact::Pod(_) | Fact::Deployment(_) | Fact::Service(_) | Fact::Watched(_)) | None => {
                self.entries.remove(&(kind, name));
            }
        }
    }

    /// The version that a pod would be made from.
    pub(crate) fn revision(&self, pod: &Pod) -> String {
        revision(pod, &self.entries)
    }

    /// What a pod may ask for.
    pub(crate) fn values(&self) -> Manifests {
        let of = |kind: &str| {
            let entries = self.entries.iter().filter(move |((of, _), _)| *of == kind);
            entries.map(|((_, name), entries)| (name.clone(), entries.clone())).collect()
        };
        Manifests { config_maps: of("ConfigMap"), secrets: of("Secret"), ..Manifests::default() }
    }

    /// This node's object, if the files have one.
    pub(crate) fn node(&self) -> Option<&NodeObject> {
        self.watched.values().find_map(|fact| match fact {
            service_watch::Fact::Node(node) => Some(&**node),
            service_watch::Fact::Service(_)
            | service_watch::Fact::EndpointSlice(_)
            | service_watch::Fact::ServiceCidr(_) => None,
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => write!(out, "Pod {name}"),
            Self::Deployment(name) => write!(out, "Deployment {name}"),
            Self::ConfigMap(name) => write!(out, "ConfigMap {name}"),
            Self::Secret(name) => write!(out, "Secret {name}"),
            Self::Watched(key) => key.fmt(out),
        }
    }
}

/// A problem in one line.
pub(crate) fn told(error: &FieldError) -> String {
    error.to_string().replace(char::is_control, " ")
}
