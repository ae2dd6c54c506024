//! Makes many sandboxes, so many at once, removes them, and looks whether the machine is as before.
//!
//! As root: `cargo run --release -p pod-sandbox --example crowd -- 200 8`. Links are made in a network namespace of its
//! own, everything else is kept under a temporary directory.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kernel_io::netns::Netns;
use pod_sandbox::{Node, NodeSettings, PidSharing, PodName, Sandbox, SandboxSpec};

fn main() -> Result<(), Box<dyn Error>> {
    let number = |place| std::env::args().nth(place).map_or(Ok(1), |word| word.parse::<usize>());
    let (count, at_once) = (number(1)?, number(2)?);
    let root = std::env::temp_dir().join(format!("crowd-{}", std::process::id()));
    fs::create_dir(&root)?;
    let mut settings = NodeSettings::at(&root);
    settings.cgroup = format!("fairlead-crowd-{}", std::process::id());
    settings.ranges = vec!["10.1.0.0/16".parse()?, "fd00:1::/64".parse()?];
    settings.cni.configurations = root.join("no-cni");
    let netns = Netns::new()?;
    let node = netns.run(|| Node::open(settings))??;
    for pids in [PidSharing::Pod, PidSharing::Container] {
        let before = machine(&netns)?;
        let (made, start) = crowd(&node, count, at_once, pids)?;
        let removing = Instant::now();
        for mut sandbox in made {
            sandbox.remove()?;
        }
        let removed = removing.elapsed();
        let after = machine(&netns)?;
        writeln!(
            io::stdout(),
            "{pids:?}: {count} sandboxes, {at_once} at once: ready p50 {:?} p99 {:?}, removed in {:?} each; mounts, \
             cgroups, processes, links {before:?} before and {after:?} after",
            start[start.len() / 2],
            start[start.len() * 99 / 100],
            removed / u32::try_from(count)?
        )?;
    }
    fs::remove_dir_all(&root)?;
    Ok(())
}

/// Makes them. Answers how long each took, in order.
fn crowd(
    node: &Node,
    count: usize,
    at_once: usize,
    pids: PidSharing,
) -> Result<(Vec<Sandbox>, Vec<Duration>), Box<dyn Error>> {
    let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let number @ 0.. = next.fetch_add(1, Ordering::Relaxed)
                    && number < count
                {
                    let spec = SandboxSpec {
                        pids,
                        ..SandboxSpec::new(&format!("pod-{number}"), PodName::default())
                    };
                    let spec = SandboxSpec {
                        hostname: pod_sandbox::Hostname { name: "pod".to_owned(), ..spec.hostname.clone() },
                        ..spec
                    };
                    let start = Instant::now();
                    let sandbox = Sandbox::create(&spec, node);
                    made.lock().expect("nobody panics").push((start.elapsed(), sandbox));
                }
            });
        }
    });
    let mut times = Vec::new();
    let mut sandboxes = Vec::new();
    for (time, sandbox) in made.into_inner()? {
        times.push(time);
        sandboxes.push(sandbox?);
    }
    times.sort_unstable();
    Ok((sandboxes, times))
}

/// How many mounts, cgroups, processes called pause and links there are.
fn machine(netns: &Netns) -> io::Result<[usize; 4]> {
    let mounts = fs::read_to_string("/proc/self/mounts")?.lines().count();
    let pauses = fs::read_dir("/proc")?.flatten().filter(|process| {
        fs::read_to_string(process.path().join("comm")).is_ok_and(|name| name == "pause\n")
    });
    let links =
        netns.run(|| fs::read_to_string("/proc/thread-self/net/dev").map(|text| text.lines().count()));
    let links = links.map_err(io::Error::other)??;
    Ok([mounts, directories(Path::new("/sys/fs/cgroup")), pauses.count(), links])
}

fn directories(root: &Path) -> usize {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.map(|entry| 1 + directories(&entry.path())).sum()
}
