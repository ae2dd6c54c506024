//! Volumes, and what refers to objects and fields.

use std::path::{Component, Path, PathBuf};

use super::label;
use crate::fields::Fields;
use crate::quantity;
use crate::volume::{
    FieldRef, HostPathKind, Item, Medium, Need, Projection, ResourceRef, Volume, VolumeSource,
};

/// The permissions of files that nobody says anything about.
const USUAL_MODE: u32 = 0o644;

pub(super) fn volumes(fields: &mut Fields<'_>) -> Vec<Volume> {
    let mut volumes: Vec<Volume> = Vec::new();
    for mut volume in fields.objects("volumes") {
        let name = label(&mut volume, "name");
        if volumes.iter().any(|earlier| earlier.name == name) {
            volume.refuse("name", format!("{name:?} is the name of an earlier volume"));
        }
        let source = source(&mut volume);
        volumes.extend(source.map(|source| Volume { name, source }));
        volume.finish();
    }
    volumes
}

fn source(volume: &mut Fields<'_>) -> Option<VolumeSource> {
    let known = ["emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected"];
    let set = known.iter().filter(|kind| volume.has(kind)).count();
    let others = volume.others(&known);
    if !others.is_empty() {
        volume.cannot(
            &others.iter().map(String::as_str).collect::<Vec<_>>(),
            "volumes of this kind are not supported",
        );
        return None;
    }
    if set > 1 {
        volume.refuse("name", "is the name of a volume of more than one kind");
    }
    let found = known.into_iter().find_map(|kind| Some((kind, volume.object(kind)?)));
    let Some((kind, mut fields)) = found else { return Some(empty_dir(None)) };
    let source = match kind {
        "emptyDir" => empty_dir(Some(&mut fields)),
        "hostPath" => host_path(&mut fields),
        "configMap" | "secret" => {
            let mode = mode(&mut fields, "defaultMode").unwrap_or(USUAL_MODE);
            VolumeSource::Projected { sources: vec![object_files(kind, &mut fields)], mode }
        }
        "downwardAPI" => {
            let mode = mode(&mut fields, "defaultMode").unwrap_or(USUAL_MODE);
            VolumeSource::Projected { sources: downward(&mut fields), mode }
        }
        _ => projected(&mut fields),
    };
    fields.finish();
    Some(source)
}

fn empty_dir(fields: Option<&mut Fields<'_>>) -> VolumeSource {
    let (mut medium, mut limit) = (Medium::Disk, None);
    if let Some(fields) = fields {
        let words = [("", Medium::Disk), ("Memory", Medium::Memory)];
        medium = fields.choice("medium", &words).unwrap_or(Medium::Disk);
        limit = bytes(fields, "sizeLimit");
        if limit.is_some() && medium == Medium::Disk {
            fields.remark("sizeLimit", "is kept on memory alone");
        }
    }
    VolumeSource::EmptyDir { medium, limit }
}

fn host_path(fields: &mut Fields<'_>) -> VolumeSource {
    let path = PathBuf::from(fields.needed("path"));
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        fields.refuse("path", format!("{} is not an absolute path without \"..\"", path.display()));
    }
    let words = [
        ("", HostPathKind::Anything),
        ("DirectoryOrCreate", HostPathKind::DirectoryOrCreate),
        ("Directory", HostPathKind::Directory),
        ("FileOrCreate", HostPathKind::FileOrCreate),
        ("File", HostPathKind::File),
        ("Socket", HostPathKind::Socket),
        ("CharDevice", HostPathKind::CharDevice),
        ("BlockDevice", HostPathKind::BlockDevice),
    ];
    VolumeSource::HostPath { path, kind: fields.choice("type", &words).unwrap_or(HostPathKind::Anything) }
}

fn projected(fields: &mut Fields<'_>) -> VolumeSource {
    let usual = mode(fields, "defaultMode").unwrap_or(USUAL_MODE);
    let mut sources = Vec::new();
    for mut source in fields.objects("sources") {
        for kind in ["configMap", "secret"] {
            if let Some(mut fields) = source.object(kind) {
                sources.push(object_files(kind, &mut fields));
                fields.finish();
            }
        }
        if let Some(mut fields) = source.object("downwardAPI") {
            sources.extend(downward(&mut fields));
            fields.finish();
        }
        source.pass_over(
            &["serviceAccountToken", "clusterTrustBundle", "podCertificate"],
            "there is no API server",
        );
        source.finish();
    }
    VolumeSource::Projected { sources, mode: usual }
}

fn object_files(kind: &str, fields: &mut Fields<'_>) -> Projection {
    // Of all places that name a Secret, a volume alone calls the name secretName.
    let name = if kind == "secret" && fields.has("secretName") { "secretName" } else { "name" };
    let name = fields.needed(name);
    let need = need(fields);
    let items = fields
        .objects("items")
        .into_iter()
        .map(|mut fields| {
            let source = fields.needed("key");
            item(fields, source)
        })
        .collect();
    match kind {
        "secret" => Projection::Secret { name, items, need },
        _ => Projection::ConfigMap { name, items, need },
    }
}

fn downward(fields: &mut Fields<'_>) -> Vec<Projection> {
    let mut files = Vec::new();
    for mut fields in fields.objects("items") {
        if let Some(reference) = fields.object("resourceFieldRef") {
            let source = resource_ref(reference);
            files.push(Projection::Resource(item(fields, source)));
        } else if let Some(reference) = fields.object("fieldRef") {
            let Some(source) = field_ref(reference, Place::File) else { continue };
            files.push(Projection::Field(item(fields, source)));
        } else {
            fields.refuse("fieldRef", "is missing");
        }
    }
    files
}

fn item<S>(mut fields: Fields<'_>, source: S) -> Item<S> {
    let path = PathBuf::from(fields.needed("path"));
    if !is_inside(&path) {
        fields.refuse("path", format!("{} does not lead to a place inside the volume", path.display()));
    }
    let item = Item { source, path, mode: mode(&mut fields, "mode") };
    fields.finish();
    item
}

/// Whether a path stays below where it starts.
pub(super) fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

pub(super) fn need(fields: &mut Fields<'_>) -> Need {
    if fields.is_set("optional") { Need::Optional } else { Need::Required }
}

fn mode(fields: &mut Fields<'_>, name: &str) -> Option<u32> {
    let mode = fields.number::<u32>(name)?;
    if mode > 0o777 {
        fields.refuse(name, format!("{mode} is not within 0 and 0777 (511)"));
    }
    Some(mode & 0o777)
}

pub(super) fn bytes(fields: &mut Fields<'_>, name: &str) -> Option<u64> {
    quantity_of(fields, name, quantity::units)
}

/// A quantity, which may be written as a number as well.
pub(super) fn quantity_of(fields: &mut Fields<'_>, name: &str, read: fn(&str) -> Option<u64>) -> Option<u64> {
    let at = fields.take(name)?;
    let text = at.value().as_str().map_or_else(|| at.value().to_string(), str::to_owned);
    read(&text).or_else(|| at.wrong("a quantity"))
}

/// Where a field of the pod is asked for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// In a file of a volume.
    File,
    /// In a variable.
    Variable,
}

pub(super) fn field_ref(mut fields: Fields<'_>, place: Place) -> Option<FieldRef> {
    let version = fields.text("apiVersion");
    if version.as_deref().is_some_and(|version| version != "v1") {
        fields.refuse("apiVersion", "is not v1");
    }
    let path = fields.needed("fieldPath");
    let keyed =
        |name: &str| path.strip_prefix(name)?.strip_prefix("['")?.strip_suffix("']").map(str::to_owned);
    let found = match path.as_str() {
        "metadata.name" => Some(FieldRef::Name),
        "metadata.namespace" => Some(FieldRef::Namespace),
        "metadata.uid" => Some(FieldRef::Uid),
        "metadata.labels" if place == Place::File => Some(FieldRef::Labels),
        "metadata.annotations" if place == Place::File => Some(FieldRef::Annotations),
        "spec.nodeName" => Some(FieldRef::NodeName),
        "spec.serviceAccountName" => Some(FieldRef::ServiceAccount),
        "status.hostIP" if place == Place::Variable => Some(FieldRef::HostIp),
        "status.hostIPs" if place == Place::Variable => Some(FieldRef::HostIps),
        "status.podIP" if place == Place::Variable => Some(FieldRef::PodIp),
        "status.podIPs" if place == Place::Variable => Some(FieldRef::PodIps),
        _ => keyed("metadata.labels")
            .map(FieldRef::Label)
            .or_else(|| keyed("metadata.annotations").map(FieldRef::Annotation)),
    };
    if found.is_none() && !path.is_empty() {
        fields.refuse("fieldPath", format!("{path:?} is not a field that can be told here"));
    }
    fields.finish();
    found
}

pub(super) fn resource_ref(mut fields: Fields<'_>) -> ResourceRef {
    let resource = fields.needed("resource");
    let known = ["limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    if !known.contains(&resource.as_str()) && !resource.is_empty() {
        fields.refuse("resource", format!("{resource:?} is not one of {}", known.join(", ")));
    }
    let cpu = resource.split_once('.').is_some_and(|(_, kind)| kind == "cpu");
    let read = if cpu { quantity::thousandths } else { quantity::units };
    let divisor = quantity_of(&mut fields, "divisor", read).filter(|divisor| *divisor > 0);
    let reference = ResourceRef {
        container: fields.text("containerName"),
        resource,
        divisor: divisor.unwrap_or(if cpu { 1000 } else { 1 }),
    };
    fields.finish();
    reference
}
