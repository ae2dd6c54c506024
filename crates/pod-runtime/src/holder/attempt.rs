//! One run of a container, from its files to its process.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use kernel_io::mounts::{mount_for_users, unmount_all};
use kernel_io::namespaces::Namespace;
use kernel_io::overlay::Overlay;
use kernel_io::process::{Birth, Orphan};
use pod_manifests::{Container, Leave, Network, Pids};
use tracing::warn;

use super::{OwnUsers, Shared};
use crate::bundle::{Bind, Parts, arguments, config};
use crate::error::{PodError, file};
use crate::image::Image;
use crate::logs::{Log, Pipes, pump};
use crate::oci::{Creation, told};
use crate::order::make_directory;
use crate::volumes;

/// No more of a container's last words is read.
const LONGEST_MESSAGE: u64 = 4096;

/// A container that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Orphan,
    pub(super) birth: Birth,
    pub(super) pump: JoinHandle<()>,
    pub(super) stop_signal: Option<String>,
}

/// Makes a container and starts it.
pub(super) fn start(shared: &Shared, container: &Container) -> Result<Running, PodError> {
    let directory = shared.directory.container(&container.name);
    let image = image(shared, container)?;
    let id = shared.id(container);
    shared.oci.delete(&container.name, &id)?;
    let users = shared.surroundings.users.as_ref();
    let rootfs = fresh_files(container, image, &directory, users)?;
    let words = directory.join("termination-log");
    fs::write(&words, "").and_then(|()| give(&words, users)).map_err(file("write", &words))?;
    write_config(shared, container, image, &rootfs)?;
    let pipes = Pipes::at(&directory);
    let piped = pipes.make().and_then(|()| Ok((pipes.readers()?, pipes.writers()?)));
    let (readers, output) = piped.map_err(file("make pipes in", &directory))?;
    let pump = pumping(shared, container, readers)?;
    let pid = shared.oci.create(Creation {
        container: &container.name,
        id: &id,
        bundle: &directory,
        output,
        cgroup: Vec::new(),
    })?;
    let lost = || PodError::Impossible {
        container: container.name.clone(),
        message: "it ended before it was started".to_owned(),
    };
    let process = Orphan::left(pid).ok_or_else(lost)?;
    let birth = Birth::of(pid).ok_or_else(lost)?;
    if let Err(error) = shared.oci.start(&container.name, &id) {
        let _ = shared.oci.delete(&container.name, &id); // the first error is the one to tell
        return Err(error);
    }
    Ok(Running { process, birth, pump, stop_signal: image.config.stop_signal.clone() })
}

/// Takes over a container that an earlier holder has started.
pub(super) fn resume(shared: &Shared, container: &Container, pid: u32, birth: Birth) -> Option<Running> {
    let process = Orphan::known(pid, birth)?;
    let pipes = Pipes::at(&shared.directory.container(&container.name));
    let pump = pumping(shared, container, pipes.readers().ok()?).ok()?;
    let stop_signal = image(shared, container).ok().and_then(|image| image.config.stop_signal.clone());
    Some(Running { process, birth, pump, stop_signal })
}

/// What is left of a container when its process has ended: its last words; and lets the rest go.
pub(super) fn clear(shared: &Shared, container: &Container, pump: JoinHandle<()>) -> String {
    let directory = shared.directory.container(&container.name);
    if let Err(error) = shared.oci.delete(&container.name, &shared.id(container)) {
        warn!(error = error.told(), "container not deleted");
    }
    let _ = pump.join(); // all who could write are gone
    if let Err(error) = unmount_all(&directory.join("rootfs")) {
        warn!(error = told(&error), "root file system not unmounted");
    }
    let mut message = Vec::new();
    if let Ok(file) = File::open(directory.join("termination-log")) {
        let _ = file.take(LONGEST_MESSAGE).read_to_end(&mut message); // what cannot be read is not told
    }
    String::from_utf8_lossy(&message).trim_end().to_owned()
}

fn image<'a>(shared: &'a Shared, container: &Container) -> Result<&'a Image, PodError> {
    shared.images.get(&container.image).ok_or_else(|| PodError::Image {
        container: container.name.clone(),
        message: format!("image {} was not fetched", container.image),
    })
}

fn pumping(shared: &Shared, container: &Container, readers: [File; 2]) -> Result<JoinHandle<()>, PodError> {
    let path = shared.directory.log(&container.name);
    let mut log = Log::open(&path).map_err(file("open", &path))?;
    let name = container.name.clone();
    let thread = thread::Builder::new().name("log".to_owned()).stack_size(super::STACK);
    let work = move || {
        if let Err(error) = pump(readers, &mut log) {
            warn!(container = name, %error, "log not written");
        }
    };
    thread.spawn(work).map_err(file("start a thread for", &path))
}

/// Its image with a layer of its own over it, empty at each start.
fn fresh_files(
    container: &Container,
    image: &Image,
    directory: &Path,
    users: Option<&OwnUsers>,
) -> Result<PathBuf, PodError> {
    let (upper, work, rootfs) = (directory.join("upper"), directory.join("work"), directory.join("rootfs"));
    let impossible = |message| PodError::Impossible { container: container.name.clone(), message };
    unmount_all(&rootfs).map_err(|error| impossible(told(&error)))?;
    for path in [&upper, &work] {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file("clear", path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        make_directory(path, 0o755)?;
        give(path, users).map_err(file("give away", path))?;
    }
    make_directory(&rootfs, 0o755)?;
    let lower = match users {
        None => image.layers.clone(),
        Some(users) => layers_for(users, &image.layers, &directory.join("layers")).map_err(impossible)?,
    };
    let overlay = Overlay { lower: &lower, upper: &upper, work: &work };
    let mounted = overlay.mount(&rootfs).map_err(|error| impossible(told(&error)));
    if users.is_some() {
        // The overlay holds what it needs of them.
        lower.iter().try_for_each(|layer| unmount_all(layer)).map_err(|error| impossible(told(&error)))?;
    }
    mounted.map(|()| rootfs)
}

/// The layers of an image, each mounted once more with the numbers of the pod's own users.
fn layers_for(users: &OwnUsers, layers: &[PathBuf], below: &Path) -> Result<Vec<PathBuf>, String> {
    let seen = |(number, layer): (usize, &PathBuf)| {
        let at = below.join(number.to_string());
        unmount_all(&at).map_err(|error| told(&error))?;
        fs::create_dir_all(&at).map_err(|error| format!("make {}: {error}", at.display()))?;
        mount_for_users(layer, &at, &users.namespace).map_err(|error| told(&error))?;
        Ok(at)
    };
    layers.iter().enumerate().map(seen).collect()
}

/// Makes root of the pod's own users the owner, where it has its own.
fn give(path: &Path, users: Option<&OwnUsers>) -> std::io::Result<()> {
    let Some(users) = users else { return Ok(()) };
    chown(path, Some(users.ids.first), Some(users.ids.first))
}

fn write_config(
    shared: &Shared,
    container: &Container,
    image: &Image,
    rootfs: &Path,
) -> Result<(), PodError> {
    let mut environment = shared.values().environment(container)?;
    if environment.iter().all(|(name, _)| name != "HOSTNAME") {
        environment.insert(0, ("HOSTNAME".to_owned(), shared.pod.hostname().to_owned()));
    }
    let arguments = arguments(container, &image.config, &environment)?;
    let mut mounts = usual_mounts(shared, container);
    mounts.extend(volumes::binds(container, &shared.places, &environment)?);
    let cgroup = shared.surroundings.cgroups.get(&container.name).cloned().unwrap_or_default();
    let config = config(&Parts {
        container,
        image: &image.config,
        rootfs,
        arguments,
        environment,
        namespaces: namespaces(shared),
        cgroup: format!("/{}", cgroup.trim_start_matches('/')),
        mounts,
        ids: shared.surroundings.users.as_ref().map(|users| users.ids),
    })?;
    let path = shared.directory.container(&container.name).join("config.json");
    fs::write(&path, config.to_string()).map_err(file("write", &path))
}

fn namespaces(shared: &Shared) -> Vec<(&'static str, Option<PathBuf>)> {
    let word = |kind: Namespace| match kind {
        Namespace::Net => "network",
        Namespace::Ipc => "ipc",
        Namespace::Uts => "uts",
        Namespace::Pid => "pid",
        Namespace::Mount => "mount",
        Namespace::User => "user",
    };
    let joined = shared.surroundings.namespaces.iter().filter(|(kind, _)| *kind != Namespace::Mount);
    let mut kinds: Vec<_> = joined.map(|(kind, path)| (word(*kind), Some(path.clone()))).collect();
    kinds.push(("mount", None));
    if shared.pod.spec.shared.pids == Pids::Container {
        kinds.retain(|(kind, _)| *kind != "pid");
        kinds.push(("pid", None));
    }
    kinds
}

fn usual_mounts(shared: &Shared, container: &Container) -> Vec<Bind> {
    let around = &shared.surroundings;
    let bind =
        |from: &Path, to: &str, writing| Bind { from: from.to_path_buf(), to: PathBuf::from(to), writing };
    let shm = match shared.pod.spec.shared.ipc {
        Network::Pod => around.shm.as_path(),
        Network::Node => Path::new("/dev/shm"),
    };
    let mut mounts = vec![
        bind(shm, "/dev/shm", Leave::Given),
        bind(&around.hosts, "/etc/hosts", Leave::Given),
        bind(&around.hostname, "/etc/hostname", Leave::Given),
        bind(&around.resolv_conf, "/etc/resolv.conf", Leave::Given),
    ];
    let words = shared.directory.container(&container.name).join("termination-log");
    mounts.push(Bind { from: words, to: container.termination_message.clone(), writing: Leave::Given });
    let own = |bind: &Bind| container.mounts.iter().any(|mount| mount.path == bind.to);
    mounts.retain(|bind| !own(bind) && bind.from.exists());
    mounts
}
