//! A container in the words of the OCI runtime specification: `config.json`.

mod seccomp;
mod users;

use std::path::{Path, PathBuf};

use kernel_io::namespaces::IdRange;
use pod_images::Config;
use pod_manifests::{Container, Leave, Privileges, Seccomp, Security};
use serde_json::{Value, json};

use crate::error::PodError;

pub(crate) use users::User;

/// What a container is made of, beside its manifest.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) container: &'a Container,
    pub(crate) image: &'a Config,
    /// Its files.
    pub(crate) rootfs: &'a Path,
    /// Its variables, over the image's.
    pub(crate) environment: Vec<(String, String)>,
    /// Its command line.
    pub(crate) arguments: Vec<String>,
    /// Its kinds of namespace, each with the file of the one to join, or a new one.
    pub(crate) namespaces: Vec<(&'static str, Option<PathBuf>)>,
    /// Where its cgroup is, in the words of the runtime.
    pub(crate) cgroup: String,
    /// What is mounted, beside what every container has.
    pub(crate) mounts: Vec<Bind>,
    /// What its user numbers are outside, if its pod has its own.
    pub(crate) ids: Option<IdRange>,
}

/// Something of the node that a container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
    pub(crate) writing: Leave,
}

/// What every container may do, if its manifest says nothing else: what containerd gives.
const CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// All that there are.
const ALL_CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a walled-in container does not see of /proc and /sys.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];

/// What a walled-in container sees and cannot change.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The configuration of a container.
pub(crate) fn config(parts: &Parts<'_>) -> Result<Value, PodError> {
    let container = parts.container;
    let impossible = |message: String| PodError::Impossible { container: container.name.clone(), message };
    let security = &container.security;
    let user = User::of(security, &parts.image.user, parts.rootfs).map_err(impossible)?;
    let walled = security.privileges == Privileges::Usual;
    let capabilities = capabilities(security).map_err(impossible)?;
    let (masked, readonly): (&[_], &[_]) = if walled { (&MASKED, &READONLY) } else { (&[], &[]) };
    let kinds = parts.namespaces.iter().map(|(kind, path)| match path {
        Some(path) => json!({"type": kind, "path": path}),
        None => json!({"type": kind}),
    });
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
            "args": parts.arguments,
            "env": variables(parts),
            "cwd": working_dir(parts),
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "noNewPrivileges": security.escalation == Leave::Refused,
        },
        "root": {"path": parts.rootfs, "readonly": security.root_fs == Leave::Refused},
        "mounts": mounts(parts),
        "linux": {
            "namespaces": kinds.collect::<Vec<_>>(),
            "cgroupsPath": parts.cgroup,
            "resources": resources(container),
            "maskedPaths": masked,
            "readonlyPaths": readonly,
        },
    });
    let linux = &mut config["linux"];
    if let Some(profile) = filter(security).map_err(impossible)? {
        linux["seccomp"] = profile;
    }
    if let Some(ids) = parts.ids {
        let map = json!([{"containerID": 0, "hostID": ids.first, "size": ids.count}]);
        (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
    }
    Ok(config)
}

/// The command line: the manifest's, else the image's.
pub(crate) fn arguments(
    container: &Container,
    image: &Config,
    environment: &[(String, String)],
) -> Result<Vec<String>, PodError> {
    let expanded = |words: &[String]| -> Vec<String> {
        words.iter().map(|word| pod_manifests::expanded(word, environment)).collect()
    };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let arguments = match (command.is_empty(), args.is_empty()) {
        (true, true) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
        (true, false) => [image.entrypoint.clone(), args].concat(),
        (false, _) => [command, args].concat(),
    };
    if arguments.is_empty() {
        let message = "neither the manifest nor the image says what to run (command)".to_owned();
        return Err(PodError::Impossible { container: container.name.clone(), message });
    }
    Ok(arguments)
}

/// The manifest's, else the image's, else the root.
fn working_dir<'a>(parts: &'a Parts<'_>) -> &'a Path {
    let image = Some(Path::new(&parts.image.working_dir)).filter(|path| path.is_absolute());
    parts.container.working_dir.as_deref().or(image).unwrap_or(Path::new("/"))
}

fn variables(parts: &Parts<'_>) -> Vec<String> {
    let mut variables: Vec<(&str, &str)> =
        vec![("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")];
    let image = parts.image.env.iter().filter_map(|variable| variable.split_once('='));
    let own = parts.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in image.chain(own) {
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => variables.push((name, value)),
        }
    }
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn capabilities(security: &Security) -> Result<Vec<String>, String> {
    let named = |names: &[&str]| names.iter().map(|name| format!("CAP_{name}")).collect::<Vec<_>>();
    if security.privileges == Privileges::All {
        return Ok(named(&held()));
    }
    let known = |name: &String| {
        let known = name == "ALL" || ALL_CAPABILITIES.contains(&name.as_str());
        if known {
            Ok(())
        } else {
            Err(format!("securityContext.capabilities: there is no capability {name:?}"))
        }
    };
    security.capabilities.add.iter().chain(&security.capabilities.drop).try_for_each(known)?;
    let all = |list: &[String]| list.iter().any(|name| name == "ALL");
    let has = |list: &[String], name: &str| list.iter().any(|other| other == name);
    let (add, drop) = (&security.capabilities.add, &security.capabilities.drop);
    let kept = held().into_iter().filter(|name| {
        let usual = CAPABILITIES.contains(name) && !all(drop);
        has(add, name) || (usual || all(add)) && !has(drop, name)
    });
    Ok(named(&kept.collect::<Vec<_>>()))
}

/// Those that this process could give away: what its own bounds leave out, no runtime can give.
fn held() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bound = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bound = bound.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(u64::MAX);
    let numbered = ALL_CAPABILITIES.into_iter().enumerate();
    numbered.filter(|(number, _)| bound >> number & 1 == 1).map(|(_, name)| name).collect()
}

fn filter(security: &Security) -> Result<Option<Value>, String> {
    match &security.seccomp {
        Seccomp::RuntimeDefault if security.privileges == Privileges::All => Ok(None),
        Seccomp::RuntimeDefault => Ok(Some(seccomp::usual(&capabilities(security)?))),
        Seccomp::Unconfined => Ok(None),
        Seccomp::File(path) => {
            let failed = |why: String| format!("seccomp profile {}: {why}", path.display());
            let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.to_string()))
        }
    }
}

fn resources(container: &Container) -> Value {
    const PERIOD: u64 = 100_000;
    let wanted = &container.resources;
    let mut resources = json!({"devices": devices(&container.security)});
    if let Some(bytes) = wanted.memory_limit {
        resources["memory"] = json!({"limit": bytes, "swap": bytes});
    }
    let mut cpu = json!({});
    if let Some(limit) = wanted.cpu_limit.filter(|limit| *limit > 0) {
        cpu["quota"] = (limit * PERIOD / 1000).max(1000).into();
        cpu["period"] = PERIOD.into();
    }
    if let Some(request) = wanted.cpu_request {
        cpu["shares"] = (request * 1024 / 1000).clamp(2, 262_144).into();
    }
    if cpu.as_object().is_some_and(|cpu| !cpu.is_empty()) {
        resources["cpu"] = cpu;
    }
    resources
}

fn devices(security: &Security) -> Value {
    match security.privileges {
        Privileges::Usual => json!([{"allow": false, "access": "rwm"}]),
        Privileges::All => json!([{"allow": true, "access": "rwm"}]),
    }
}

fn mounts(parts: &Parts<'_>) -> Vec<Value> {
    let walled = parts.container.security.privileges == Privileges::Usual;
    let access = if walled { "ro" } else { "rw" };
    let mount = |to: &str, kind: &str, from: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": from, "options": options});
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ];
    // A mount must come after what it is inside of.
    let mut binds: Vec<_> = parts.mounts.iter().collect();
    binds.sort_by_key(|bind| bind.to.components().count());
    mounts.extend(binds.into_iter().map(|bind| {
        let access = if bind.writing == Leave::Refused { "ro" } else { "rw" };
        json!({"destination": bind.to, "type": "bind", "source": bind.from, "options": ["rbind", "rprivate", access]})
    }));
    mounts
}

#[cfg(test)]
mod tests;
