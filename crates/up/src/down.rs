//! The end of a directory that is up.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use pod_manifests::ObjectName;
use pod_runtime::{NodeFacts, Root};
use proxy::ProxyMode;
use rustix::process::{Pid, Signal, kill_process};
use tracing::info;

use crate::crew::removed;
use crate::made::Made;
use crate::state::{Kept, Lock, Place};
use crate::{Settings, UpError, node, proxying};

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Removes all that `up` made for a directory: its pods, all rules, and what was kept.
pub fn down(settings: &Settings) -> Result<(), UpError> {
    // One that is gone can be taken down as well.
    let directory = std::path::absolute(&settings.directory);
    let directory = fs::canonicalize(&settings.directory)
        .or(directory)
        .map_err(crate::state::failed("find", &settings.directory))?;
    let root = Root::open(&settings.root, settings.holder.clone(), NodeFacts::default())?;
    let place = Place::of(&settings.root);
    let _lock = ended(&place, &settings.root)?;
    let kept = match place.read()? {
        Some(Kept { directory: other, .. }) if other != directory && !other.as_os_str().is_empty() => {
            return Err(UpError::Other { root: settings.root.clone(), other });
        }
        kept => kept.unwrap_or_default(),
    };
    // Whoever has no holder would be killed instead of stopped.
    root.adopt()?;
    let mut pods = Vec::new();
    for status in root.pods()? {
        let name = ObjectName { namespace: status.namespace, name: status.name };
        if root.pod(&name).is_ok_and(|pod| Made::of(pod, &directory).ours.is_some()) {
            pods.push(name);
        }
    }
    let failed = all_removed(&root, &pods);
    info!(pods = pods.len() - failed.len(), "pods removed");
    proxy::clean_up(&proxying::configuration(settings, || ProxyMode::Nftables)?)?;
    node::restored(&kept.sysctls)?;
    if !failed.is_empty() {
        return Err(UpError::Left(failed.join("; ")));
    }
    place.remove()
}

/// Removes pods side by side. Answers what could not be.
fn all_removed(root: &Root, pods: &[ObjectName]) -> Vec<String> {
    thread::scope(|scope| {
        let each: Vec<_> = pods.iter().map(|pod| scope.spawn(|| removed(root, pod))).collect();
        let outcomes = each.into_iter().zip(pods).filter_map(|(thread, pod)| {
            let error = thread.join().ok()?.err()?;
            Some(format!("pod {pod} is not removed: {}", error.told()))
        });
        outcomes.collect()
    })
}

/// Has the process that keeps a root in step end, and takes its place.
fn ended(place: &Place, root: &Path) -> Result<Lock, UpError> {
    let begun = Instant::now();
    let mut told = None;
    loop {
        match place.lock()? {
            Ok(lock) => return Ok(lock),
            Err(pid) if begun.elapsed() > PATIENCE => {
                return Err(UpError::Busy { root: root.to_path_buf(), pid });
            }
            Err(pid) => {
                let process = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| told != Some(pid));
                if let Some(process) = process {
                    let _ = kill_process(process, Signal::TERM); // it may have ended meanwhile
                    told = Some(pid);
                }
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}
