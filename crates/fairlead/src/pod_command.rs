//! `fairlead pod`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use manifest_documents::Syntax;
use pod_manifests::{Manifests, ObjectName};
use pod_runtime::{NodeFacts, PodError, PodStatus, Root, State, Stream};

use crate::logging;
use crate::table::table;

/// How often a file is looked at that another process writes.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(crate) struct PodCommand {
    /// Where everything about pods is kept.
    #[arg(long, global = true, default_value = "/run/fairlead", value_name = "DIRECTORY")]
    root: PathBuf,
    /// The namespace of pods that are named without one.
    #[arg(long, short, global = true, default_value = "default", value_name = "NAMESPACE")]
    namespace: String,
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Runs the Pods of manifests, and returns when they are ready.
    ///
    /// For example: fairlead pod run -f examples/pods/two-containers.yaml
    Run(Run),
    /// Lists pods.
    List(Output),
    /// Shows what a pod is doing.
    Inspect {
        /// The pod: NAME or NAMESPACE/NAME.
        pod: String,
        #[command(flatten)]
        output: Output,
    },
    /// Runs a program in a container, with the exit code of the program.
    ///
    /// For example: fairlead pod exec web -c server -- cat /etc/hosts
    Exec {
        /// The pod: NAME or NAMESPACE/NAME.
        pod: String,
        /// The container; the pod's only one if none is named.
        #[arg(long, short)]
        container: Option<String>,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Prints what a container has printed.
    Logs {
        /// The pod: NAME or NAMESPACE/NAME.
        pod: String,
        /// The container; the pod's only one if none is named.
        #[arg(long, short)]
        container: Option<String>,
        /// Goes on until the pod is over.
        #[arg(long, short)]
        follow: bool,
        /// Begins each line with its time.
        #[arg(long)]
        timestamps: bool,
    },
    /// Stops pods: each container's preStop hook, its signal, and after the grace KILL.
    Stop {
        /// The pods: NAME or NAMESPACE/NAME.
        #[arg(required = true)]
        pods: Vec<String>,
        /// How long it may take, in seconds; the Pod's own terminationGracePeriodSeconds if not given.
        #[arg(long, value_name = "SECONDS")]
        grace: Option<u32>,
    },
    /// Removes pods that run no more, with their logs.
    Rm {
        /// The pods: NAME or NAMESPACE/NAME.
        #[arg(required = true)]
        pods: Vec<String>,
        /// Stops those that run.
        #[arg(long, short)]
        force: bool,
    },
    /// Holds a pod; started by the others.
    #[command(hide = true)]
    Hold {
        /// The root.
        directory: PathBuf,
        /// The pod's place in it.
        pod: String,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// A manifest, or - for standard input; several are read as one.
    #[arg(long = "filename", short = 'f', required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Stays, prints what the containers print, and stops the pod when it is interrupted.
    #[arg(long)]
    attach: bool,
    /// What makes containers: crun, runc, or the path of such a program; the first that is found if not given.
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<String>,
    /// The ranges from which pods have their addresses, one of a family; without CNI configuration.
    #[arg(long, value_delimiter = ',', default_value = "10.244.0.0/24", value_name = "RANGE")]
    pod_cidr: Vec<IpNet>,
    /// The directory of CNI configurations.
    #[arg(long, default_value = "/etc/cni/net.d", value_name = "DIRECTORY")]
    cni_conf_dir: PathBuf,
    /// The node's name, as pods are told.
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Gives up after so many seconds, and leaves the pod as it is.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

#[derive(Debug, Args)]
struct Output {
    /// For programs.
    #[arg(long, short, value_enum)]
    output: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
}

impl PodCommand {
    pub(crate) fn run(self) -> Result<()> {
        let name = |pod: &str| named(pod, &self.namespace);
        match self.command {
            Subcommands::Hold { directory, pod } => {
                let _verbosity = logging::start(logging::Format::Text, 2);
                Ok(pod_runtime::hold(&directory, &pod).map_err(told)?)
            }
            Subcommands::Run(run) => run.run(&self.root),
            Subcommands::List(output) => list(&open(&self.root, NodeFacts::default())?, &output),
            Subcommands::Inspect { pod, output } => {
                let status = open(&self.root, NodeFacts::default())?.status(&name(&pod)).map_err(told)?;
                inspect(&status, &output)
            }
            Subcommands::Exec { pod, container, command } => {
                let root = open(&self.root, NodeFacts::default())?;
                let mut command = root.exec(&name(&pod), container.as_deref(), &command).map_err(told)?;
                Err(anyhow!(command.exec()).context("start the runtime"))
            }
            Subcommands::Logs { pod, container, follow, timestamps } => {
                let root = open(&self.root, NodeFacts::default())?;
                let wish = Wish { container, follow, timestamps };
                logs(&root, &name(&pod), &wish)
            }
            Subcommands::Stop { pods, grace } => {
                let root = open(&self.root, NodeFacts::default())?;
                each(&pods, |pod| root.stop(&name(pod), grace))
            }
            Subcommands::Rm { pods, force } => {
                let root = open(&self.root, NodeFacts::default())?;
                each(&pods, |pod| {
                    if force {
                        root.stop(&name(pod), None)?;
                    }
                    root.remove(&name(pod))
                })
            }
        }
    }
}

impl Run {
    fn run(self, root: &Path) -> Result<()> {
        let manifests = self.manifests()?;
        let node = NodeFacts {
            name: self.node_name.clone().unwrap_or_else(hostname),
            ranges: self.pod_cidr.clone(),
            cni: self.cni_conf_dir.clone(),
        };
        let root = open(root, node)?;
        for pod in &manifests.pods {
            root.run(pod, &manifests, self.runtime.as_deref()).map_err(told)?;
        }
        for pod in &manifests.pods {
            let ready = root.await_ready(&pod.name, self.timeout.map(Duration::from_secs));
            ready.map_err(told)?;
            eprintln!("pod {} is ready", pod.name);
        }
        if self.attach {
            let names: Vec<_> = manifests.pods.iter().map(|pod| pod.name.clone()).collect();
            return attach(&root, &names);
        }
        Ok(())
    }

    fn manifests(&self) -> Result<Manifests> {
        let mut manifests = Manifests::default();
        for path in &self.files {
            let (text, syntax) = read(path)?;
            manifests.read(syntax, &text).map_err(|error| match error.at {
                Some((line, column)) => anyhow!("{}:{line}:{column}: {}", path.display(), error.message),
                None => anyhow!("{}: {}", path.display(), error.message),
            })?;
        }
        for remark in &manifests.remarks {
            eprintln!("{remark}");
        }
        if let [errors @ .., last] = manifests.refused.as_slice() {
            for error in errors {
                eprintln!("error: {error}");
            }
            bail!("{last}");
        }
        if manifests.pods.is_empty() {
            bail!(
                "there is no Pod in {}",
                self.files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(manifests)
    }
}

fn read(path: &Path) -> Result<(String, Syntax)> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("read standard input")?;
        return Ok((text, Syntax::Yaml));
    }
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok((text, Syntax::of(path.as_os_str().as_encoded_bytes()).unwrap_or(Syntax::Yaml)))
}

/// The command line that holds a pod.
pub(crate) fn holder() -> Result<Vec<OsString>> {
    let program = std::env::current_exe().context("find this program")?;
    Ok(vec![program.into_os_string(), OsString::from("pod"), OsString::from("hold")])
}

/// Opens the root, and gives pods whose holders have died others.
fn open(root: &Path, node: NodeFacts) -> Result<Root> {
    let root = Root::open(root, holder()?, node).map_err(told)?;
    for adoption in root.adopt().map_err(told)? {
        match adoption.outcome {
            Ok(()) => eprintln!("pod {}: its holder had died; another goes on with it", adoption.pod),
            Err(message) => {
                eprintln!("pod {}: its holder had died, and it is removed: {message}", adoption.pod);
            }
        }
    }
    Ok(root)
}

fn list(root: &Root, output: &Output) -> Result<()> {
    let pods = root.pods().map_err(told)?;
    let mut out = io::stdout().lock();
    if output.output == Some(Format::Json) {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&pods)?)?);
    }
    let mut rows = vec![["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "IP"].map(str::to_owned)];
    for pod in &pods {
        let ready = pod.containers.iter().filter(|container| container.ready).count();
        let restarts: u32 = pod.containers.iter().map(|container| container.restarts).sum();
        rows.push([
            pod.namespace.clone(),
            pod.name.clone(),
            format!(
                "{ready}/{}",
                pod.containers.iter().filter(|one| one.kind != pod_runtime::ContainerKind::Init).count()
            ),
            pod.in_a_word(),
            restarts.to_string(),
            pod.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        ]);
    }
    Ok(write!(out, "{}", table(&rows))?)
}

fn inspect(pod: &PodStatus, output: &Output) -> Result<()> {
    let mut out = io::stdout().lock();
    if output.output == Some(Format::Json) {
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(pod)?)?);
    }
    let ips: Vec<_> = pod.ips.iter().map(ToString::to_string).collect();
    writeln!(out, "Name:      {}\nUID:       {}\nStatus:    {:?}", pod.full_name(), pod.uid, pod.phase)?;
    writeln!(out, "Ready:     {}\nIPs:       {}", pod.ready, ips.join(", "))?;
    writeln!(
        out,
        "Created:   {}\nHolder:    process {}\nRuntime:   {}",
        pod.created, pod.holder, pod.runtime
    )?;
    if !pod.message.is_empty() {
        writeln!(out, "Message:   {}: {}", pod.reason, pod.message)?;
    }
    for container in &pod.containers {
        writeln!(
            out,
            "{}:\n  Kind:      {:?}\n  Image:     {}",
            container.name, container.kind, container.image
        )?;
        writeln!(out, "  State:     {}", container.state.told())?;
        if let State::Running { pid, since, .. } = &container.state {
            writeln!(out, "  Process:   {pid}, since {since}")?;
        }
        if let State::Terminated(ended) = &container.state {
            writeln!(out, "  Ended:     {}{}", ended.at, with_message(&ended.message))?;
        }
        if let Some(last) = &container.last {
            writeln!(
                out,
                "  Before:    {} ({}), {}{}",
                last.reason,
                last.exit_code,
                last.at,
                with_message(&last.message)
            )?;
        }
        writeln!(out, "  Ready:     {}\n  Restarts:  {}", container.ready, container.restarts)?;
    }
    Ok(())
}

fn with_message(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(", {message}") }
}

struct Wish {
    container: Option<String>,
    follow: bool,
    timestamps: bool,
}

fn logs(root: &Root, pod: &ObjectName, wish: &Wish) -> Result<()> {
    let mut follow = root.log(pod, wish.container.as_deref()).map_err(told)?;
    loop {
        let over = !wish.follow || root.log_is_over(pod);
        while let Some(line) = follow.line()? {
            print(&line, wish)?;
        }
        if over {
            return Ok(());
        }
        thread::sleep(LOOK);
    }
}

fn print(line: &pod_runtime::Line, wish: &Wish) -> io::Result<()> {
    let text =
        if wish.timestamps { [line.time.as_bytes(), b" ", &line.text].concat() } else { line.text.clone() };
    match line.stream {
        Stream::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(&text)?;
            out.flush()
        }
        Stream::Stderr => io::stderr().write_all(&text),
    }
}

/// Prints what the containers print until their pods are over; an interrupt stops them.
fn attach(root: &Root, pods: &[ObjectName]) -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([libc_signal::INT, libc_signal::TERM])?;
    let mut printed = Vec::new();
    for pod in pods {
        for container in root.status(pod).map_err(told)?.containers {
            printed.push((pod, root.log(pod, Some(&container.name)).map_err(told)?));
        }
    }
    let wish = Wish { container: None, follow: true, timestamps: false };
    loop {
        let over = pods.iter().all(|pod| root.log_is_over(pod));
        for (_, follow) in &mut printed {
            while let Some(line) = follow.line()? {
                print(&line, &wish)?;
            }
        }
        if over {
            return concluded(root, pods);
        }
        if signals.pending().next().is_some() {
            let (root, pods) = (root.clone(), pods.to_vec());
            thread::spawn(move || pods.iter().for_each(|pod| drop(root.stop(pod, None))));
        }
        thread::sleep(LOOK);
    }
}

fn concluded(root: &Root, pods: &[ObjectName]) -> Result<()> {
    for pod in pods {
        let status = root.status(pod).map_err(told)?;
        if status.phase == pod_runtime::Phase::Failed {
            bail!("pod {pod} failed {}", status.message);
        }
    }
    Ok(())
}

/// Does something with each pod, and fails with the last that failed, having told of the others.
fn each(pods: &[String], mut act: impl FnMut(&str) -> Result<(), PodError>) -> Result<()> {
    let mut failed = None;
    for pod in pods {
        if let Err(error) = act(pod)
            && let Some(earlier) = failed.replace(error)
        {
            eprintln!("error: {}", earlier.told());
        }
    }
    failed.map_or(Ok(()), |error| Err(told(error)))
}

fn named(text: &str, namespace: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    ObjectName { namespace: namespace.to_owned(), name: name.to_owned() }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn told(error: PodError) -> anyhow::Error {
    anyhow!(error.told())
}

pub(crate) fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// The signals that end us.
mod libc_signal {
    pub(super) use signal_hook::consts::{SIGINT as INT, SIGTERM as TERM};
}
