//! Steps on the real kernel.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kernel_io::cgroup::{Cgroup, Cgroups};
use kernel_io::link::{self, LinkError, Links};
use kernel_io::namespaces::{Namespace, Namespaces};
use kernel_io::netns::Netns;
use kernel_io::process::{Launch, Process, Signal};
use kernel_io::sysctl;

use crate::kernel::{Kernel, StepError};
use crate::spec::PidSharing;
use crate::steps::{Side, Step};

/// How long a link may take to run after both ends are up, and a killed process to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The real kernel, and what has been made in it for one sandbox.
#[derive(Debug)]
pub struct Linux {
    node: Netns,
    cgroups: Cgroups,
    cgroup: Option<Cgroup>,
    node_links: Option<Links>,
    pod: Option<Pod>,
}

/// What is there from the moment that `pause` runs.
#[derive(Debug)]
struct Pod {
    pause: Process,
    new: Vec<Namespace>,
    pids: PidSharing,
    /// Kept apart from `pause`, so that what it held can be undone even if it has ended.
    netns: Netns,
    links: Option<Links>,
}

impl Linux {
    /// A door to a kernel in which nothing is made yet. `node` is where the node's ends of links are.
    pub fn new(node: Netns, cgroups: Cgroups) -> Self {
        Self { node, cgroups, cgroup: None, node_links: None, pod: None }
    }

    /// The process that holds the pod, from [`Step::StartPause`] on.
    pub fn pause(&self) -> Option<&Process> {
        self.pod.as_ref().map(|pod| &pod.pause)
    }

    /// The pod's cgroup, from [`Step::MakeCgroup`] on.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// The pod's network namespace, from [`Step::StartPause`] on.
    pub fn netns(&self) -> Option<&Netns> {
        self.pod.as_ref().map(|pod| &pod.netns)
    }

    /// A command made ready to start inside the pod: in its namespaces and cgroup, ending with us.
    pub fn launch(&self, command: Command) -> Result<Launch, StepError> {
        let (pod, cgroup) = (self.pod_made()?, self.cgroup_made()?);
        let launch = Launch::new(command).in_cgroup(cgroup.entrances()?).dying_with_us();
        Ok(match pod.pids {
            PidSharing::Pod | PidSharing::Node => launch.joining(pod.namespaces(&pod.new)?),
            PidSharing::Container => {
                let alone = [Namespace::Pid, Namespace::Mount];
                let shared: Vec<_> = pod.new.iter().copied().filter(|kind| !alone.contains(kind)).collect();
                launch.joining(pod.namespaces(&shared)?).in_new(&alone).with_own_proc()
            }
        })
    }

    fn start_pause(&mut self, program: &Path, new: &[Namespace], pids: PidSharing) -> Result<(), StepError> {
        let cgroup = self.cgroup_made()?;
        let mut command = Command::new(program);
        command.env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut launch =
            Launch::new(command).in_new(new).in_cgroup(cgroup.entrances()?).in_own_session().dying_with_us();
        if new.contains(&Namespace::Pid) {
            launch = launch.with_own_proc();
        }
        if !new.contains(&Namespace::Net) {
            launch = launch.joining(Namespaces::network(&self.node)?);
        }
        let pause = launch.start()?.process;
        match Netns::of_process(pause.pid()) {
            Ok(netns) => {
                self.pod = Some(Pod { pause, new: new.to_vec(), pids, netns, links: None });
                Ok(())
            }
            Err(error) => {
                end(&pause)?;
                Err(error.into())
            }
        }
    }

    fn stop_pause(&mut self) -> Result<(), StepError> {
        // Whoever does not end with `pause` ends now, so that nobody lives on in half a pod.
        let killed = self.cgroup.as_ref().map_or(Ok(()), Cgroup::kill_all);
        if let Some(pod) = &self.pod {
            end(&pod.pause)?;
        }
        self.pod = None;
        Ok(killed?)
    }

    fn links(&mut self, side: Side) -> Result<&mut Links, StepError> {
        let (netns, links) = match side {
            Side::Node => (&self.node, &mut self.node_links),
            Side::Pod => {
                let pod = self.pod.as_mut().ok_or(NO_PAUSE)?;
                (&pod.netns, &mut pod.links)
            }
        };
        Ok(match links {
            Some(links) => links,
            None => links.insert(Links::of(netns)?),
        })
    }

    fn cgroup_made(&self) -> Result<&Cgroup, StepError> {
        self.cgroup.as_ref().ok_or(NO_CGROUP)
    }

    fn pod_made(&self) -> Result<&Pod, StepError> {
        self.pod.as_ref().ok_or(NO_PAUSE)
    }
}

impl Kernel for Linux {
    fn apply(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::MakeCgroup { name } => self.cgroup = Some(self.cgroups.create(name)?),
            Step::LimitMemory { bytes } => self.cgroup_made()?.limit_memory(*bytes)?,
            Step::LimitPids { count } => self.cgroup_made()?.limit_pids(*count)?,
            Step::StartPause { program, new, pids } => self.start_pause(program, new, *pids)?,
            Step::SetHostname { hostname } => {
                self.pod_made()?.namespaces(&[Namespace::Uts])?.set_hostname(hostname)?;
            }
            Step::AddVeth { pod, node } => {
                let (pod_netns, node_netns) = (self.pod_made()?.netns.clone(), self.node.clone());
                self.links(Side::Pod)?.create_veth(
                    link::VethEnd { name: &pod.name, netns: &pod_netns, mac: Some(pod.mac) },
                    link::VethEnd { name: &node.name, netns: &node_netns, mac: Some(node.mac) },
                )?;
            }
            Step::SetLinkUp { side, link } => self.links(*side)?.set_up(link)?,
            Step::AwaitLink { side, link } => self.links(*side)?.wait_running(link, PATIENCE)?,
            Step::AddAddress { side, link, address } => {
                let links = self.links(*side)?;
                links.add_address(link, *address)?;
                links.wait_local(address.addr(), PATIENCE)?;
            }
            Step::AddNeighbour { side, link, address, mac } => {
                self.links(*side)?.add_neighbour(link, *address, *mac)?;
            }
            Step::AddRoute { side, route } => self.links(*side)?.add_route(route)?,
            Step::SetSysctl { name, value } => {
                let pod = self.pod_made()?;
                let own = namespace_of(name).filter(|kind| pod.new.contains(kind));
                let kind = own.ok_or_else(|| StepError::NotThePods { name: name.clone() })?;
                pod.namespaces(&[kind])?.run(|| sysctl::write(name, value))??;
            }
        }
        Ok(())
    }

    fn undo(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::MakeCgroup { .. } => {
                if let Some(cgroup) = &self.cgroup {
                    cgroup.kill_all()?;
                    cgroup.remove()?;
                }
                self.cgroup = None;
            }
            Step::StartPause { .. } => self.stop_pause()?,
            Step::AddVeth { node, .. } => absent_is_fine(self.links(Side::Node)?.delete(&node.name))?,
            Step::AddRoute { side: Side::Node, route } => {
                absent_is_fine(self.links(Side::Node)?.delete_route(route))?;
            }
            // These go with the cgroup, the namespaces or the links that they were set on.
            Step::LimitMemory { .. }
            | Step::LimitPids { .. }
            | Step::SetHostname { .. }
            | Step::SetLinkUp { .. }
            | Step::AwaitLink { .. }
            | Step::AddAddress { .. }
            | Step::AddNeighbour { .. }
            | Step::AddRoute { side: Side::Pod, .. }
            | Step::SetSysctl { .. } => {}
        }
        Ok(())
    }
}

const NO_PAUSE: StepError = StepError::TooEarly { missing: "process that holds the pod" };
const NO_CGROUP: StepError = StepError::TooEarly { missing: "cgroup" };

impl Pod {
    fn namespaces(&self, kinds: &[Namespace]) -> Result<Namespaces, StepError> {
        Ok(Namespaces::of_process(self.pause.pid(), kinds)?)
    }
}

/// The namespace that a setting belongs to; none if all of the machine share it.
fn namespace_of(sysctl: &str) -> Option<Namespace> {
    const IPC: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    let name = sysctl.replace('/', ".");
    match name.as_str() {
        "kernel.hostname" | "kernel.domainname" => Some(Namespace::Uts),
        name if name.starts_with("net.") => Some(Namespace::Net),
        name if IPC.iter().any(|prefix| name.starts_with(prefix)) => Some(Namespace::Ipc),
        _ => None,
    }
}

fn end(process: &Process) -> Result<(), StepError> {
    process.signal(Signal::KILL)?;
    match process.wait_for(PATIENCE) {
        Some(_) => Ok(()),
        None => Err(StepError::DoesNotEnd { pid: process.pid() }),
    }
}

fn absent_is_fine(outcome: Result<(), LinkError>) -> Result<(), StepError> {
    match outcome {
        Err(error) if !error.is_absence() => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
