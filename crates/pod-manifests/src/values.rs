//! What a manifest leaves to be looked up: environments, arguments, the files of volumes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::container::{Container, EnvSource, Resources};
use crate::manifests::{Manifests, ObjectName};
use crate::pod::Pod;
use crate::volume::{FieldRef, Item, Need, Projection, ResourceRef};

/// What nobody knows before the pod runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The pod's addresses.
    pub pod_ips: Vec<IpAddr>,
    /// The node's addresses.
    pub host_ips: Vec<IpAddr>,
    /// The node's name.
    pub node_name: String,
    /// `metadata.uid`, unless the manifest has one.
    pub uid: String,
    /// The node's memory in bytes and CPUs in thousandths, which are the limits of those who have none.
    pub node: Resources,
}

/// Where values of a pod are looked up.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The objects beside it.
    pub objects: &'a Manifests,
    /// The rest.
    pub facts: &'a Facts,
}

/// Something that must be there and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What asks for it.
    pub asked_by: String,
    /// What is missing.
    pub what: String,
}

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFile {
    /// Where within the volume.
    pub path: PathBuf,
    /// What is in it.
    pub content: Vec<u8>,
    /// Its permissions, if not the volume's.
    pub mode: Option<u32>,
}

impl Values<'_> {
    /// The variables of a container, over those of its image, in the order in which they were written.
    pub fn environment(&self, container: &Container) -> Result<Vec<(String, String)>, Missing> {
        let mut variables: Vec<(String, String)> = Vec::new();
        for source in &container.env_from {
            let asked_by = || format!("container {}: envFrom", container.name);
            let Some(entries) = self.object(source.kind, &source.name, source.need, asked_by)? else {
                continue;
            };
            for (key, value) in entries {
                let name = format!("{}{key}", source.prefix);
                if !name.contains('=') {
                    set(&mut variables, name, String::from_utf8_lossy(value).into_owned());
                }
            }
        }
        for variable in &container.env {
            let asked_by = || format!("container {}: env {}", container.name, variable.name);
            let value = match &variable.source {
                EnvSource::Text(text) => Some(expanded(text, &variables)),
                EnvSource::Field(field) => Some(self.field(field)),
                EnvSource::Resource(reference) => Some(self.resource(reference, container, asked_by)?),
                EnvSource::Key { kind, name, key, need } => self.entry(kind, name, key, *need, asked_by)?,
            };
            if let Some(value) = value {
                set(&mut variables, variable.name.clone(), value);
            }
        }
        Ok(variables)
    }

    /// The files of a volume, a later one over an earlier one of the same path.
    pub fn files(&self, volume: &str, sources: &[Projection]) -> Result<Vec<VolumeFile>, Missing> {
        let mut files: BTreeMap<PathBuf, VolumeFile> = BTreeMap::new();
        for source in sources {
            for file in self.projected(volume, source)? {
                files.insert(file.path.clone(), file);
            }
        }
        Ok(files.into_values().collect())
    }

    fn projected(&self, volume: &str, source: &Projection) -> Result<Vec<VolumeFile>, Missing> {
        let asked_by = || format!("volume {volume}");
        match source {
            Projection::ConfigMap { name, items, need } => {
                self.entries(volume, "ConfigMap", name, items, *need)
            }
            Projection::Secret { name, items, need } => self.entries(volume, "Secret", name, items, *need),
            Projection::Field(item) => Ok(vec![file(item, self.field(&item.source).into_bytes())]),
            Projection::Resource(item) => {
                let named = item.source.container.as_deref();
                let first = self.pod.spec.containers.first().filter(|_| named.is_none());
                let container = named.and_then(|name| self.container(name)).or(first);
                let container = container.ok_or_else(|| Missing {
                    asked_by: asked_by(),
                    what: format!("container {}", named.unwrap_or_default()),
                })?;
                Ok(vec![file(item, self.resource(&item.source, container, asked_by)?.into_bytes())])
            }
        }
    }

    fn entries(
        &self,
        volume: &str,
        kind: &str,
        name: &str,
        items: &[Item<String>],
        need: Need,
    ) -> Result<Vec<VolumeFile>, Missing> {
        let asked_by = || format!("volume {volume}");
        let Some(entries) = self.object(kind, name, need, asked_by)? else { return Ok(Vec::new()) };
        if items.is_empty() {
            let whole = |(key, content): (&String, &Vec<u8>)| VolumeFile {
                path: key.into(),
                content: content.clone(),
                mode: None,
            };
            return Ok(entries.iter().map(whole).collect());
        }
        let mut files = Vec::new();
        for item in items {
            match entries.get(&item.source) {
                Some(content) => files.push(file(item, content.clone())),
                None if need == Need::Optional => {}
                None => {
                    let what = format!("entry {} of {kind} {}/{name}", item.source, self.pod.name.namespace);
                    return Err(Missing { asked_by: asked_by(), what });
                }
            }
        }
        Ok(files)
    }

    fn entry(
        &self,
        kind: &str,
        name: &str,
        key: &str,
        need: Need,
        asked_by: impl Fn() -> String,
    ) -> Result<Option<String>, Missing> {
        let Some(entries) = self.object(kind, name, need, &asked_by)? else { return Ok(None) };
        match entries.get(key) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if need == Need::Optional => Ok(None),
            None => {
                let what = format!("entry {key} of {kind} {}/{name}", self.pod.name.namespace);
                Err(Missing { asked_by: asked_by(), what })
            }
        }
    }

    fn object(
        &self,
        kind: &str,
        name: &str,
        need: Need,
        asked_by: impl Fn() -> String,
    ) -> Result<Option<&BTreeMap<String, Vec<u8>>>, Missing> {
        let key = ObjectName { namespace: self.pod.name.namespace.clone(), name: name.to_owned() };
        let objects = if kind == "Secret" { &self.objects.secrets } else { &self.objects.config_maps };
        match objects.get(&key) {
            Some(entries) => Ok(Some(entries)),
            None if need == Need::Optional => Ok(None),
            None => Err(Missing { asked_by: asked_by(), what: format!("{kind} {key}") }),
        }
    }

    fn field(&self, field: &FieldRef) -> String {
        let Self { pod, facts, .. } = self;
        let joined = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
        let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
        match field {
            FieldRef::Name => pod.name.name.clone(),
            FieldRef::Namespace => pod.name.namespace.clone(),
            FieldRef::Uid => pod.uid.clone().unwrap_or_else(|| facts.uid.clone()),
            FieldRef::Label(key) => pod.labels.get(key).cloned().unwrap_or_default(),
            FieldRef::Annotation(key) => pod.annotations.get(key).cloned().unwrap_or_default(),
            FieldRef::Labels => lines(&pod.labels),
            FieldRef::Annotations => lines(&pod.annotations),
            FieldRef::NodeName => pod.spec.node_name.clone().unwrap_or_else(|| facts.node_name.clone()),
            FieldRef::ServiceAccount => pod.spec.service_account.clone(),
            FieldRef::HostIp => first(&facts.host_ips),
            FieldRef::HostIps => joined(&facts.host_ips),
            FieldRef::PodIp => first(&facts.pod_ips),
            FieldRef::PodIps => joined(&facts.pod_ips),
        }
    }

    fn resource(
        &self,
        reference: &ResourceRef,
        asking: &Container,
        asked_by: impl Fn() -> String,
    ) -> Result<String, Missing> {
        let container = match &reference.container {
            None => asking,
            Some(name) => self
                .container(name)
                .ok_or_else(|| Missing { asked_by: asked_by(), what: format!("container {name}") })?,
        };
        let (own, node) = (&container.resources, &self.facts.node);
        let amount = match reference.resource.as_str() {
            "limits.cpu" => own.cpu_limit.or(node.cpu_limit),
            "limits.memory" => own.memory_limit.or(node.memory_limit),
            "requests.cpu" => own.cpu_request,
            _ => own.memory_request,
        };
        Ok(amount.unwrap_or(0).div_ceil(reference.divisor.max(1)).to_string())
    }

    fn container(&self, name: &str) -> Option<&Container> {
        self.pod.spec.all_containers().find(|container| container.name == name)
    }
}

/// A text with `$(NAME)` replaced by the variable's value; `$$` stands for `$`, and what is unknown stays.
pub fn expanded(text: &str, variables: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        let value = reference.and_then(|(name, _)| variables.iter().find(|(known, _)| known == name));
        if let (Some((_, after)), Some((_, value))) = (reference, value) {
            out.push_str(value);
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out + rest
}

fn set(variables: &mut Vec<(String, String)>, name: String, value: String) {
    match variables.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => variables.push((name, value)),
    }
}

fn file<S>(item: &Item<S>, content: Vec<u8>) -> VolumeFile {
    VolumeFile { path: item.path.clone(), content, mode: item.mode }
}

/// A line each, quoted as the downward API quotes.
fn lines(entries: &BTreeMap<String, String>) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={value:?}");
    entries.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: there is no {}", self.asked_by, self.what)
    }
}

impl std::error::Error for Missing {}
