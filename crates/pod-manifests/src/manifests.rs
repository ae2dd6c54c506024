//! Texts of manifests, and what was found in them.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE64;
use manifest_documents::{Document, FieldError, Syntax, SyntaxError, chunks};
use serde_json::{Map, Value, json};

use crate::fields::{Fields, Notes};
use crate::pod::Pod;
use crate::read;

/// The name of an object, and the namespace that it is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// What manifests say about pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifests {
    /// The Pods, in the order in which they were written.
    pub pods: Vec<Pod>,
    /// The Deployments.
    pub deployments: Vec<Deployment>,
    /// The entries of `ConfigMaps`.
    pub config_maps: BTreeMap<ObjectName, BTreeMap<String, Vec<u8>>>,
    /// The entries of Secrets.
    pub secrets: BTreeMap<ObjectName, BTreeMap<String, Vec<u8>>>,
    /// What refuses objects; they are not among the others.
    pub refused: Vec<FieldError>,
    /// What was passed over in objects that are among the others.
    pub remarks: Vec<FieldError>,
}

/// Pods that are kept in number.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// Its namespace and name.
    pub name: ObjectName,
    /// How many pods.
    pub replicas: u32,
    /// How long a pod must be ready before it counts, in seconds.
    pub min_ready: u32,
    /// What each shall be; its name is the Deployment's, to be replaced by [`Pod::named`].
    pub template: Pod,
}

/// One object.
enum Object {
    Pod(Box<Pod>),
    Deployment(Box<Deployment>),
    ConfigMap(ObjectName, BTreeMap<String, Vec<u8>>),
    Secret(ObjectName, BTreeMap<String, Vec<u8>>),
}

impl Manifests {
    /// Adds what a text says. Objects of other kinds are passed over; of two of one name the first stays.
    pub fn read(&mut self, syntax: Syntax, text: &str) -> Result<(), SyntaxError> {
        let documents: Result<Vec<Vec<Document>>, _> =
            chunks(syntax, text).into_iter().map(|chunk| manifest_documents::read(syntax, chunk)).collect();
        for document in documents?.into_iter().flatten() {
            self.add(document.fields);
        }
        Ok(())
    }

    /// Adds an object.
    pub fn add(&mut self, object: Map<String, Value>) {
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let convert: Convert = match (api_version.as_str(), kind.as_str()) {
            ("v1", "Pod") => pod,
            ("apps/v1", "Deployment") => deployment,
            ("v1", "ConfigMap") => config_map,
            ("v1", "Secret") => secret,
            ("", "Pod" | "Deployment" | "ConfigMap" | "Secret") => {
                let (object, path) = (kind, "apiVersion".to_owned());
                self.refused.push(FieldError { object, path, message: "is missing".to_owned() });
                return;
            }
            _ => return,
        };
        let notes = Notes::default();
        let name = name_of(&object, &notes);
        let shown = || format!("{kind} {name}");
        let converted = convert(object, name.clone(), &notes);
        let Notes { refused, remarks } = notes;
        let accepted = refused.borrow().unless_refused(());
        self.refused.extend(refused.into_inner().into_errors(shown));
        if accepted.is_some() {
            self.remarks.extend(remarks.into_inner().into_errors(shown));
            self.keep(converted, shown());
        }
    }

    /// The `ConfigMaps` and Secrets of a namespace, as objects that can be read again.
    pub fn values_of(&self, namespace: &str) -> Vec<Value> {
        let written =
            |kind: &str, field: &str, (name, entries): (&ObjectName, &BTreeMap<String, Vec<u8>>)| {
                let entries: Map<_, _> =
                    entries.iter().map(|(key, value)| (key.clone(), BASE64.encode(value).into())).collect();
                json!({
                    "apiVersion": "v1",
                    "kind": kind,
                    "metadata": {"namespace": name.namespace, "name": name.name},
                    field: entries,
                })
            };
        let of_it = |(name, _): &(&ObjectName, _)| name.namespace == namespace;
        let maps = self.config_maps.iter().filter(of_it).map(|one| written("ConfigMap", "binaryData", one));
        maps.chain(self.secrets.iter().filter(of_it).map(|one| written("Secret", "data", one))).collect()
    }

    fn keep(&mut self, object: Object, shown: String) {
        let known = match &object {
            Object::Pod(pod) => self.pods.iter().any(|other| other.name == pod.name),
            Object::Deployment(new) => self.deployments.iter().any(|other| other.name == new.name),
            Object::ConfigMap(name, _) => self.config_maps.contains_key(name),
            Object::Secret(name, _) => self.secrets.contains_key(name),
        };
        if known {
            let (path, message) = ("metadata.name".to_owned(), "is the name of an earlier object".to_owned());
            self.refused.push(FieldError { object: shown, path, message });
            return;
        }
        match object {
            Object::Pod(pod) => self.pods.push(*pod),
            Object::Deployment(deployment) => self.deployments.push(*deployment),
            Object::ConfigMap(name, entries) => drop(self.config_maps.insert(name, entries)),
            Object::Secret(name, entries) => drop(self.secrets.insert(name, entries)),
        }
    }
}

type Convert = fn(Map<String, Value>, ObjectName, &Notes) -> Object;

fn name_of(object: &Map<String, Value>, notes: &Notes) -> ObjectName {
    let text = |field: &str| {
        let text = object.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let (namespace, name) = (text("namespace"), text("name"));
    for (field, text) in [("namespace", namespace.as_deref()), ("name", name.as_deref())] {
        if let Some(text) = text.filter(|text| !is_name(text)) {
            let message = format!(
                "{text:?} is not a name (at most 253 lower-case letters, digits, \"-\" and \".\", a letter or digit at either end)"
            );
            notes.refuse(format_args!("metadata.{field}"), message);
        }
    }
    if name.is_none() {
        notes.refuse("metadata.name", "is missing, or not text");
    }
    ObjectName {
        namespace: namespace.unwrap_or_else(|| "default".to_owned()),
        name: name.unwrap_or_else(|| "without a name".to_owned()),
    }
}

/// Whether a text can name an object. Names become parts of paths, so nothing else may pass.
pub(crate) fn is_name(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| alphanumeric(byte) || byte == b'-' || byte == b'.')
        && ends.into_iter().flatten().all(alphanumeric)
        && !text.contains("..")
}

fn pod(object: Map<String, Value>, name: ObjectName, notes: &Notes) -> Object {
    Object::Pod(Box::new(read::pod(object, name, notes)))
}

fn deployment(object: Map<String, Value>, name: ObjectName, notes: &Notes) -> Object {
    let template = object.get("spec").and_then(|spec| spec.get("template")).and_then(Value::as_object);
    let mut manifest = template.cloned().unwrap_or_default();
    manifest.insert("apiVersion".to_owned(), "v1".into());
    manifest.insert("kind".to_owned(), "Pod".into());
    let mut fields = head(object, notes);
    let mut spec = fields.needed_object("spec");
    let deployment = Deployment {
        template: read::template(spec.needed_object("template"), manifest, name.clone()),
        name,
        replicas: spec.number("replicas").unwrap_or(1),
        min_ready: spec.number("minReadySeconds").unwrap_or(0),
    };
    selects(&mut spec, &deployment.template);
    let why = "pods are replaced as manifests change";
    spec.pass_over(&["revisionHistoryLimit", "progressDeadlineSeconds", "strategy"], why);
    spec.cannot(&["paused"], "is not honoured");
    spec.finish();
    fields.finish();
    Object::Deployment(Box::new(deployment))
}

/// A Deployment must select the pods that it makes.
fn selects(spec: &mut Fields<'_>, template: &Pod) {
    let mut selector = spec.needed_object("selector");
    for (key, value) in selector.texts_by_name("matchLabels") {
        if template.labels.get(&key) != Some(&value) {
            let message = format!("selects {key}={value}, which the template's labels do not have");
            selector.refuse("matchLabels", message);
        }
    }
    selector.pass_over(&["matchExpressions"], "pods are known by their owner");
    selector.finish();
}

fn config_map(object: Map<String, Value>, name: ObjectName, notes: &Notes) -> Object {
    let mut fields = head(object, notes);
    let mut entries = bytes(fields.texts_by_name("data"));
    entries.extend(decoded(&mut fields, "binaryData", notes));
    fields.pass_over(&["immutable"], "files can be changed");
    fields.finish();
    Object::ConfigMap(name, entries)
}

fn secret(object: Map<String, Value>, name: ObjectName, notes: &Notes) -> Object {
    let mut fields = head(object, notes);
    let mut entries = decoded(&mut fields, "data", notes);
    entries.extend(bytes(fields.texts_by_name("stringData")));
    drop(fields.take("type"));
    fields.pass_over(&["immutable"], "files can be changed");
    fields.finish();
    Object::Secret(name, entries)
}

/// The fields of an object without those that each has.
fn head(object: Map<String, Value>, notes: &Notes) -> Fields<'_> {
    let mut fields = Fields::of(object, notes);
    drop((fields.take("apiVersion"), fields.take("kind"), fields.take("metadata"), fields.take("status")));
    fields
}

fn bytes(texts: BTreeMap<String, String>) -> BTreeMap<String, Vec<u8>> {
    texts.into_iter().map(|(key, text)| (key, text.into_bytes())).collect()
}

fn decoded(fields: &mut Fields<'_>, name: &str, notes: &Notes) -> BTreeMap<String, Vec<u8>> {
    let Some(entries) = fields.object(name) else { return BTreeMap::new() };
    let mut decoded = BTreeMap::new();
    for (key, at) in entries.each() {
        let path = at.path.clone();
        let Some(text) = at.text() else { continue };
        let plain: String = text.split_whitespace().collect();
        match BASE64.decode(plain.as_bytes()) {
            Ok(value) => drop(decoded.insert(key, value)),
            Err(error) => notes.refuse(path, format!("is not base64: {error}")), // the value may be a secret
        }
    }
    decoded
}

impl fmt::Display for ObjectName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;
