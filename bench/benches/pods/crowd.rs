//! Many pods, and what is left of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use bench::figure::{Figure, Figures, Goal};
use kernel_io::link::Links;
use kernel_io::netns::Netns;
use tempfile::TempDir;

use crate::Programs;
use crate::contenders::{names, output};

const PODS: usize = 200;

/// Pods of `fairlead pod`, each with a container that sleeps.
pub(crate) struct Crowd {
    program: std::path::PathBuf,
    directory: TempDir,
    netns: Netns,
}

impl Crowd {
    pub(crate) fn new(programs: &Programs) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let image = directory.path().join("image");
        fs::create_dir(&image)?;
        testkit::images::busybox_root(&image);
        let netns = Netns::new()?;
        Links::of(&netns)?.add_address("lo", "192.0.2.1/32".parse()?)?;
        Ok(Self { program: programs.shipped("fairlead"), directory, netns })
    }

    pub(crate) fn fairlead(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(["pod", "--root"]).arg(self.directory.path().join("root")).args(words);
        self.netns.run(|| output(&mut command))?
    }

    pub(crate) fn run(&self, count: usize) -> Result<()> {
        let image = self.directory.path().join("image");
        let pod = |name: &String| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: a, image: \
                 'rootfs:{}', command: [sleep, '100000']}}]}}\n",
                image.display()
            )
        };
        let manifest = self.directory.path().join("pods.yaml");
        fs::write(&manifest, names(count).iter().map(pod).collect::<String>())?;
        let networks = self.directory.path().join("no-cni");
        let words = ["run", "-f", &manifest.to_string_lossy(), "--cni-conf-dir", &networks.to_string_lossy()];
        self.fairlead(&words).map(drop)
    }

    pub(crate) fn remove(&self, count: usize) -> Result<()> {
        let names = names(count);
        let mut words = vec!["stop", "--grace", "0"];
        words.extend(names.iter().map(String::as_str));
        self.fairlead(&words)?;
        words.splice(..3, ["rm"]);
        self.fairlead(&words).map(drop)
    }

    /// What there is of each kind.
    fn machine(&self) -> Result<[(&'static str, BTreeSet<String>); 5]> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mut namespaces = BTreeSet::new();
        let mut processes = BTreeSet::new();
        for process in fs::read_dir("/proc")?.flatten().map(|entry| entry.path()) {
            let Ok(kinds) = fs::read_dir(process.join("ns")) else { continue };
            let comm = fs::read_to_string(process.join("comm")).unwrap_or_default();
            processes.insert(format!("{} {}", process.display(), comm.trim_end()));
            let links = kinds.flatten().filter_map(|kind| fs::read_link(kind.path()).ok());
            namespaces.extend(links.map(|link| link.display().to_string()));
        }
        // The root of a mounted namespace is its name.
        let roots = mounts.lines().filter_map(|line| line.split(' ').nth(3));
        namespaces.extend(roots.filter(|root| root.contains(":[")).map(str::to_owned));
        // Links, addresses and routes.
        let network = |file| self.netns.run(|| fs::read_to_string(format!("/proc/thread-self/net/{file}")));
        let mut addresses = BTreeSet::new();
        for file in ["dev", "fib_trie", "if_inet6"] {
            let text = network(file)??;
            let words = text.lines().filter_map(|line| {
                // Counters are behind the name of a link.
                line.split(':').next().map(|words| format!("{file} {}", words.trim()))
            });
            addresses.extend(words);
        }
        let pool = fs::read_dir(self.directory.path().join("root/pool"))?.flatten();
        addresses.extend(pool.map(|taken| taken.path().display().to_string()));
        let mut cgroups = BTreeSet::new();
        below(Path::new("/sys/fs/cgroup"), &mut cgroups)?;
        let own = self.directory.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        cgroups.retain(|path| path.contains(&own));
        let mounts = mounts.lines().map(str::to_owned).collect();
        Ok([
            ("namespaces", namespaces),
            ("mounts", mounts),
            ("cgroups", cgroups),
            ("processes", processes),
            ("addresses", addresses),
        ])
    }
}

pub(super) fn measure(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let crowd = Crowd::new(programs)?;
    crowd.run(1)?; // what is made once for all
    crowd.remove(1)?;
    let before = crowd.machine()?;
    let start = Instant::now();
    crowd.run(PODS)?;
    let (ready, start) = (start.elapsed(), Instant::now());
    let stood = crowd.machine()?;
    crowd.remove(PODS)?;
    let removed = start.elapsed();
    figures.add(Figure::new("200 pods with a container, ready", "s", ready.as_secs_f64()))?;
    figures.add(Figure::new("200 pods with a container, removed", "s", removed.as_secs_f64()))?;
    sleep(Duration::from_millis(200));
    for (((kind, before), (_, stood)), (_, after)) in before.iter().zip(&stood).zip(&crowd.machine()?) {
        let left: Vec<_> = after.difference(before).chain(before.difference(after)).collect();
        if !left.is_empty() {
            figures.remark(format!("{kind}: {left:?}"));
        }
        #[expect(clippy::cast_precision_loss, reason = "few things")]
        let (left, made) = (left.len() as f64, stood.len().saturating_sub(before.len()) as f64);
        let name = format!("200 pods removed: {kind} left, of {made}");
        figures.add(Figure::new(name, "", left).goal(Goal::Exactly(0.0)))?;
    }
    Ok(())
}

/// All directories below one.
fn below(directory: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        if entry.file_type()?.is_dir() {
            found.insert(entry.path().display().to_string());
            // It may be somebody else's, and gone by now.
            let _ = below(&entry.path(), found);
        }
    }
    Ok(())
}
