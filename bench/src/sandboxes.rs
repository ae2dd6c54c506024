//! Sandboxes of ours: many by one process that stays, or one by a process that ends, as other runtimes are used.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use pod_sandbox::{Adopted, Node, NodeSettings, PidSharing, PodName, Sandbox, SandboxSpec};

/// A process that makes sandboxes in the network namespace that it is started in.
#[derive(Args)]
pub(crate) struct Sandboxes {
    /// Where they are kept
    #[arg(long)]
    root: PathBuf,
    /// Below which cgroup
    #[arg(long)]
    cgroup: String,
    /// The directory of the CNI configuration; without one, the built-in network
    #[arg(long)]
    cni: PathBuf,
    /// The directory of the plugins
    #[arg(long)]
    plugins: PathBuf,
    /// What holds them
    #[arg(long, value_enum, default_value = "files")]
    holder: Holder,
    #[command(subcommand)]
    what: What,
}

/// What holds a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Holder {
    /// Nobody: its namespaces are files, and each container has a PID namespace
    Files,
    /// A process: its containers share their PID namespace
    Pause,
}

#[derive(Subcommand)]
enum What {
    /// Makes one
    Make { name: String },
    /// Removes one
    Remove { name: String },
    /// Makes many, prints for each how many ms it took, and removes them
    Many { count: usize, at_once: usize },
}

impl Sandboxes {
    pub(crate) fn run(self) -> Result<()> {
        let mut settings = NodeSettings::at(&self.root);
        settings.cgroup.clone_from(&self.cgroup);
        settings.cni.configurations.clone_from(&self.cni);
        settings.cni.plugins = vec![self.plugins.clone()];
        settings.ranges = vec!["10.1.0.0/16".parse()?];
        let node = Node::open(settings)?;
        match &self.what {
            What::Make { name } => Sandbox::create(&self.spec(name), &node).map(drop).map_err(told),
            What::Remove { name } => match Sandbox::adopt(name, &node)? {
                Adopted::Standing(mut sandbox) => Ok(sandbox.remove()?),
                Adopted::Removed(broken) => bail!("sandbox {name} did not stand: {broken}"),
            },
            What::Many { count, at_once } => {
                let (times, made) = self.many(&node, *count, *at_once)?;
                let mut out = io::stdout().lock();
                times.iter().try_for_each(|time| writeln!(out, "{time}"))?;
                made.into_iter().try_for_each(|mut sandbox| Ok(sandbox.remove()?))
            }
        }
    }

    fn spec(&self, name: &str) -> SandboxSpec {
        let pod = PodName { namespace: "default".to_owned(), name: name.to_owned(), uid: name.to_owned() };
        let pids = match self.holder {
            Holder::Files => PidSharing::Container,
            Holder::Pause => PidSharing::Pod,
        };
        SandboxSpec { pids, ..SandboxSpec::new(name, pod) }
    }

    fn many(&self, node: &Node, count: usize, at_once: usize) -> Result<(Vec<f64>, Vec<Sandbox>)> {
        let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let lane = || {
            while let number = next.fetch_add(1, Ordering::Relaxed)
                && number < count
            {
                let spec = self.spec(&format!("pod-{number}"));
                let start = Instant::now();
                let sandbox = Sandbox::create(&spec, node);
                let took = start.elapsed().as_secs_f64() * 1000.0;
                made.lock().expect("nobody panics").push((took, sandbox));
            }
        };
        thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(lane))));
        let (mut times, mut sandboxes) = (Vec::new(), Vec::new());
        for (took, sandbox) in made.into_inner().map_err(|_| anyhow!("a thread panicked"))? {
            times.push(took);
            sandboxes.push(sandbox.map_err(told)?);
        }
        Ok((times, sandboxes))
    }
}

fn told(error: pod_sandbox::CreateError) -> anyhow::Error {
    anyhow::Error::new(error).context("make a sandbox")
}
