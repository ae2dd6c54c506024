//! Volumes, made before the first container starts.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use kernel_io::mounts::{mount_for_users, mount_memory, unmount_all};
use pod_manifests::{
    Container, HostPathKind, Leave, Medium, Pod, Values, Volume, VolumeFile, VolumeSource, expanded,
};

use crate::bundle::Bind;
use crate::error::{PodError, file};
use crate::holder::OwnUsers;
use crate::oci::told;
use crate::order::{PodDirectory, make_directory};

/// Where volumes are on the node.
pub(crate) type Places = BTreeMap<String, Place>;

/// Where a volume is, and whether anybody may write to it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// Where a pod with user numbers of its own finds it.
    view: Option<PathBuf>,
    writing: Leave,
}

/// What the memory of a volume is limited to, if nobody says.
const MEMORY: u64 = 1 << 30;

/// Makes the volumes of a pod, or finds again those that were made.
pub(crate) fn make(
    values: Values<'_>,
    directory: &PodDirectory,
    users: Option<&OwnUsers>,
) -> Result<Places, PodError> {
    let made = |volume: &Volume| {
        let mut place = place(volume, values, directory)?;
        if let Some(users) = users {
            let view = directory.view(&volume.name);
            viewed(&place.path, &view, users)
                .map_err(|message| PodError::Volume { volume: volume.name.clone(), message })?;
            place.view = Some(view);
        }
        Ok((volume.name.clone(), place))
    };
    values.pod.spec.volumes.iter().map(made).collect()
}

/// Lets a volume be seen with the numbers of the pod's own users. An earlier view stays in the containers that have it.
fn viewed(path: &Path, view: &Path, users: &OwnUsers) -> Result<(), String> {
    let refused = |error: std::io::Error| format!("make {}: {error}", view.display());
    unmount_all(view).map_err(|error| told(&error))?;
    if path.is_dir() {
        fs::create_dir_all(view).map_err(refused)?;
    } else {
        fs::create_dir_all(view.parent().unwrap_or(Path::new("/"))).map_err(refused)?;
        OpenOptions::new().create(true).append(true).open(view).map_err(refused)?;
    }
    mount_for_users(path, view, &users.namespace).map_err(|error| told(&error))
}

/// What a container mounts of them.
pub(crate) fn binds(
    container: &Container,
    places: &Places,
    environment: &[(String, String)],
) -> Result<Vec<Bind>, PodError> {
    let mut binds = Vec::new();
    for mount in &container.mounts {
        let Some(place) = places.get(&mount.volume) else { continue };
        let from = match &mount.sub_path {
            None => place.seen(Path::new("")),
            Some(path) => below(&mount.volume, place, &expanded(path, environment))?,
        };
        let writing = if place.writing == Leave::Refused { Leave::Refused } else { mount.writing };
        binds.push(Bind { from, to: mount.path.clone(), writing });
    }
    Ok(binds)
}

impl Place {
    /// Where containers find what is at a path below it.
    fn seen(&self, below: &Path) -> PathBuf {
        let top = self.view.as_ref().unwrap_or(&self.path);
        if below.as_os_str().is_empty() { top.clone() } else { top.join(below) }
    }
}

fn place(volume: &Volume, values: Values<'_>, directory: &PodDirectory) -> Result<Place, PodError> {
    let path = directory.volume(&volume.name);
    match &volume.source {
        VolumeSource::EmptyDir { medium, limit } => {
            if !path.exists() {
                empty(&path, *medium, limit.unwrap_or(MEMORY), values.pod)
                    .map_err(|message| PodError::Volume { volume: volume.name.clone(), message })?;
            }
            Ok(Place { path, view: None, writing: Leave::Given })
        }
        VolumeSource::HostPath { path, kind } => {
            host_path(path, *kind)
                .map_err(|message| PodError::Volume { volume: volume.name.clone(), message })?;
            Ok(Place { path: path.clone(), view: None, writing: Leave::Given })
        }
        VolumeSource::Projected { sources, mode } => {
            let files = values.files(&volume.name, sources)?;
            make_directory(&path, 0o755)?;
            for entry in &files {
                write_file(&path, entry, *mode, values.pod)?;
            }
            Ok(Place { path, view: None, writing: Leave::Refused })
        }
    }
}

fn empty(path: &Path, medium: Medium, bytes: u64, pod: &Pod) -> Result<(), String> {
    let refused = |error: std::io::Error| format!("make {}: {error}", path.display());
    fs::create_dir_all(path).map_err(refused)?;
    if medium == Medium::Memory {
        mount_memory(path, bytes, 0).map_err(|error| told(&error))?;
    }
    // Whoever a container runs as may write to it, as in a kubelet's.
    let mode = if pod.spec.fs_group.is_some() { 0o2777 } else { 0o777 };
    chown(path, None, pod.spec.fs_group).map_err(refused)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(refused)
}

fn host_path(path: &Path, kind: HostPathKind) -> Result<(), String> {
    let refused = |error: std::io::Error| format!("hostPath {}: {error}", path.display());
    let found = fs::metadata(path);
    match (kind, &found) {
        (HostPathKind::Anything | HostPathKind::DirectoryOrCreate, Err(_)) => {
            return fs::create_dir_all(path).map_err(refused);
        }
        (HostPathKind::FileOrCreate, Err(_)) => {
            return OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o644)
                .open(path)
                .map(drop)
                .map_err(refused);
        }
        _ => {}
    }
    let kind_of = found.map_err(refused)?.file_type();
    let (is, wanted) = match kind {
        HostPathKind::Anything => (true, ""),
        HostPathKind::Directory | HostPathKind::DirectoryOrCreate => (kind_of.is_dir(), "a directory"),
        HostPathKind::File | HostPathKind::FileOrCreate => (kind_of.is_file(), "a file"),
        HostPathKind::Socket => (kind_of.is_socket(), "a socket"),
        HostPathKind::CharDevice => (kind_of.is_char_device(), "a character device"),
        HostPathKind::BlockDevice => (kind_of.is_block_device(), "a block device"),
    };
    if is { Ok(()) } else { Err(format!("hostPath {} is not {wanted}", path.display())) }
}

fn write_file(volume: &Path, entry: &VolumeFile, usual: u32, pod: &Pod) -> Result<(), PodError> {
    let path = volume.join(&entry.path);
    if let Some(parent) = path.parent() {
        make_directory(parent, 0o755)?;
    }
    let mut mode = entry.mode.unwrap_or(usual);
    if pod.spec.fs_group.is_some() {
        mode |= 0o040 | (mode & 0o100) >> 3;
    }
    let written = fs::write(&path, &entry.content)
        .and_then(|()| chown(&path, None, pod.spec.fs_group))
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)));
    written.map_err(file("write", &path))
}

/// A place inside a volume. Links may lead about in it, but not out of it.
fn below(volume: &str, place: &Place, path: &str) -> Result<PathBuf, PodError> {
    let failed = |message: String| PodError::Volume { volume: volume.to_owned(), message };
    let normal = |part| matches!(part, std::path::Component::Normal(_));
    if path.is_empty() || !Path::new(path).components().all(normal) {
        return Err(failed(format!("{path:?} does not lead to a place inside it")));
    }
    let full = place.path.join(path);
    if !full.exists() && place.writing == Leave::Given {
        fs::create_dir_all(&full).map_err(|error| failed(format!("make {path}: {error}")))?;
    }
    let resolved =
        |path: &Path| fs::canonicalize(path).map_err(|error| failed(format!("{}: {error}", path.display())));
    let (full, root) = (resolved(&full)?, resolved(&place.path)?);
    let below = full.strip_prefix(&root).map_err(|_| failed(format!("{path} leads out of it")))?;
    Ok(place.seen(below))
}
