//! Steps on the real kernel.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kernel_io::cgroup::Cgroup;
use kernel_io::link::{self, LinkError, Links};
use kernel_io::mounts;
use kernel_io::namespaces::{Namespace, NamespaceFiles};
use kernel_io::netns::Netns;
use kernel_io::process::{Birth, Found, Launch, Signal};
use kernel_io::sysctl;

use crate::cni::{self, Call, NetworkList};
use crate::files;
use crate::journal::{self, Entry, Journal, Record};
use crate::kernel::{Kernel, StepError};
use crate::node::Node;
use crate::pool;
use crate::ports;
use crate::spec::{HOST_PORT, Network, Problem, SandboxSpec};
use crate::steps::{Side, Step, Trace, Wiring, own_namespaces};
use crate::sysctls;

/// How long a link may take to run after both ends are up, and a killed process to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// The group of pause below the pod's own: one that holds processes may not pass controllers on.
const PAUSE_GROUP: &str = "pause";

/// The real kernel, and one sandbox in it.
#[derive(Debug)]
pub struct Linux {
    node: Node,
    journal: Journal,
    wiring: Wiring,
    node_links: Option<Links>,
    pod_links: Option<Links>,
}

impl Linux {
    /// A sandbox of which nothing is made yet but its journal.
    pub fn begin(spec: &SandboxSpec, node: &Node) -> Result<Self, StepError> {
        let settings = node.settings();
        let wiring = match cni::configured(&settings.cni.configurations)? {
            Some(network) => Wiring::Cni(network),
            None => Wiring::Routed,
        };
        let problems =
            [spec.problems(), sysctls::problems(spec, &settings.unsafe_sysctls), unmapped(spec, &wiring)];
        if let Some(problem) = problems.into_iter().flatten().next() {
            return Err(problem.into());
        }
        Ok(Self::over(node, Journal::create(node, spec)?, wiring))
    }

    /// A sandbox that is there, whole or in part.
    pub(crate) fn over(node: &Node, journal: Journal, wiring: Wiring) -> Self {
        Self { node: node.clone(), journal, wiring, node_links: None, pod_links: None }
    }

    pub(crate) fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Where the sandbox's files are.
    pub(crate) fn directory(&self) -> &Path {
        self.journal.directory()
    }

    /// The files that stand for its namespaces.
    pub(crate) fn namespaces(&self) -> NamespaceFiles {
        NamespaceFiles::at(&self.directory().join("ns"))
    }

    /// The directory that becomes the containers' /dev/shm.
    pub(crate) fn memory(&self) -> PathBuf {
        self.directory().join("shm")
    }

    /// The name of its cgroup, or of one below it.
    pub(crate) fn cgroup_name(&self, below: Option<&str>) -> String {
        let own = [self.node.settings().cgroup.as_str(), self.journal.record.spec.name.as_str()];
        own.into_iter().chain(below).collect::<Vec<_>>().join("/")
    }

    pub(crate) fn cgroup(&self) -> Result<Cgroup, StepError> {
        Ok(self.node.cgroups().group(&self.cgroup_name(None))?)
    }

    /// The process that holds the PID namespace, if it still runs.
    pub(crate) fn pause(&self) -> Option<Found> {
        let record = &self.journal.record;
        let (pid, birth) = record.known.pause.filter(|_| record.boot == journal::boot())?;
        Found::new(pid, birth)
    }

    /// Whether the CNI network, if there is one, says that the pod is still in it as it was added.
    pub(crate) fn check_attachment(&self) -> Result<(), StepError> {
        let Record { traces, known, .. } = &self.journal.record;
        let network = traces.iter().find_map(Trace::attachment);
        let (Some(network), Some(result)) = (network, &known.attachment) else { return Ok(()) };
        let netns = self.namespaces().path(Namespace::Net);
        Ok(self.call(network, Some(&netns)).check(result)?)
    }

    fn start_pause(&mut self) -> Result<(), StepError> {
        let record = &self.journal.record;
        let mut kinds = own_namespaces(&record.spec);
        kinds.extend(record.known.ids.map(|_| Namespace::User));
        let cgroup = self.node.cgroups().ensure(&self.cgroup_name(Some(PAUSE_GROUP)))?;
        let mut command = Command::new("/pause");
        command.env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let launch = Launch::new(command)
            .joining(self.namespaces().open(&kinds)?)
            .in_new(&[Namespace::Pid, Namespace::Mount])
            .in_cgroup(cgroup.entrances()?)
            .with_root(&self.node.pause_root())
            .as_nobody()
            .in_own_session();
        let pause = launch.start()?.process;
        let Some(birth) = Birth::of(pause.pid()) else {
            let status = pause.wait_for(PATIENCE).map(|status| status.to_string()).unwrap_or_default();
            return Err(StepError::Ended { status });
        };
        self.journal.say(Entry::Pause(pause.pid(), birth))?;
        self.namespaces().pin_of_process(Namespace::Pid, pause.pid())?;
        self.learn_namespaces(&[own_namespaces(&self.journal.record.spec), vec![Namespace::Pid]].concat())
    }

    fn stop_pause(&mut self) -> Result<(), StepError> {
        self.namespaces().release(Namespace::Pid)?;
        let Some(pause) = self.pause() else { return Ok(()) };
        pause.signal(Signal::KILL)?;
        // It ends after all others of its namespace, and these after their parents have noticed.
        self.cgroup()?.kill_all()?;
        if pause.ends_within(PATIENCE) { Ok(()) } else { Err(StepError::DoesNotEnd { pid: pause.pid() }) }
    }

    fn make_namespaces(&mut self, kinds: &[Namespace]) -> Result<(), StepError> {
        let directory = self.directory().join("ns");
        fs::create_dir(&directory).map_err(|source| file_error("make", &directory, source))?;
        self.namespaces().make(kinds, self.journal.record.known.ids)?;
        self.learn_namespaces(kinds)
    }

    fn learn_namespaces(&mut self, kinds: &[Namespace]) -> Result<(), StepError> {
        let files = self.namespaces();
        let user = self.journal.record.known.ids.map(|_| Namespace::User);
        let all = kinds.iter().copied().chain(user);
        let identities = all.filter_map(|kind| Some((kind, files.identity(kind)?))).collect();
        Ok(self.journal.say(Entry::Namespaces(identities))?)
    }

    fn attach(&mut self, network: &NetworkList) -> Result<(), StepError> {
        let netns = self.namespaces().path(Namespace::Net);
        let result = self.call(network, Some(&netns)).add()?;
        self.journal.say(Entry::Addresses(cni::addresses(&result)))?;
        Ok(self.journal.say(Entry::Attached(result))?)
    }

    fn detach(&self, network: &NetworkList) -> Result<(), StepError> {
        let netns = self.namespaces().path(Namespace::Net);
        let netns = self.namespaces().identity(Namespace::Net).map(|_| netns.as_path());
        Ok(self.call(network, netns).delete(self.journal.record.known.attachment.as_ref())?)
    }

    fn call<'a>(&'a self, network: &'a NetworkList, netns: Option<&'a Path>) -> Call<'a> {
        Call { node: &self.node, network, spec: &self.journal.record.spec, netns }
    }

    fn mount_memory(&self, bytes: u64) -> Result<(), StepError> {
        let directory = self.memory();
        fs::create_dir(&directory).map_err(|source| file_error("make", &directory, source))?;
        let owner = self.journal.record.known.ids.map_or(0, |ids| ids.first);
        Ok(mounts::mount_memory(&directory, bytes, owner)?)
    }

    fn write_files(&self) -> Result<(), StepError> {
        let Record { spec, known, .. } = &self.journal.record;
        let settings = self.node.settings();
        let hosts = match spec.network {
            Network::Pod(_) => files::hosts(&spec.hostname, &known.addresses, &spec.host_aliases),
            Network::Node => files::hosts_of_node(&text_of(&settings.hosts)?, &spec.host_aliases),
        };
        let hostname = match spec.network {
            Network::Pod(_) => spec.hostname.kernel(),
            Network::Node => sysctl::read("kernel.hostname")?,
        };
        let resolv_conf = files::resolv_conf(spec, &settings.cluster_dns, &text_of(&settings.resolv_conf)?);
        for (name, text) in [("hosts", hosts), ("hostname", hostname + "\n"), ("resolv.conf", resolv_conf)] {
            let path = self.directory().join(name);
            fs::write(&path, text).map_err(|source| file_error("write", &path, source))?;
            // They are the containers' own, to change as they like.
            if let Some(ids) = known.ids {
                chown(&path, Some(ids.first), Some(ids.first))
                    .map_err(|source| file_error("give away", &path, source))?;
            }
        }
        Ok(())
    }

    fn links(&mut self, side: Side) -> Result<&mut Links, StepError> {
        let netns = match side {
            Side::Node => self.node.netns().clone(),
            Side::Pod => self.pod_netns()?,
        };
        let links = match side {
            Side::Node => &mut self.node_links,
            Side::Pod => &mut self.pod_links,
        };
        Ok(match links {
            Some(links) => links,
            None => links.insert(Links::of(&netns)?),
        })
    }

    fn pod_netns(&self) -> Result<Netns, StepError> {
        Ok(self.namespaces().network()?)
    }

    fn set_sysctl(&self, name: &str, value: &str) -> Result<(), StepError> {
        // The caller has seen to it that it is the pod's own.
        let kind = sysctls::namespace_of(name).unwrap_or(Namespace::Net);
        Ok(self.namespaces().open(&[kind])?.run(|| sysctl::write(name, value))??)
    }

    fn release_namespaces(&mut self, kinds: &[Namespace]) -> Result<(), StepError> {
        // A socket inside would keep it.
        self.pod_links = None;
        let all = kinds.iter().chain(&[Namespace::User]);
        Ok(all.copied().try_for_each(|kind| self.namespaces().release(kind))?)
    }
}

impl Kernel for Linux {
    fn record(&self) -> &Record {
        &self.journal.record
    }

    fn wiring(&self) -> Wiring {
        self.wiring.clone()
    }

    fn begin(&mut self, trace: Trace) -> Result<(), StepError> {
        Ok(self.journal.say(Entry::Begun(trace))?)
    }

    fn apply(&mut self, step: &Step) -> Result<(), StepError> {
        let name = self.journal.record.spec.name.clone();
        match step {
            Step::ReserveAddresses => {
                let addresses = match &self.journal.record.spec.network {
                    Network::Pod(network) if !network.addresses.is_empty() => {
                        pool::reserve_these(&self.node, &name, &network.addresses)?;
                        network.addresses.clone()
                    }
                    Network::Pod(_) | Network::Node => pool::reserve_addresses(&self.node, &name)?,
                };
                self.journal.say(Entry::Addresses(addresses))?;
            }
            Step::ReservePorts(ports) => pool::reserve_ports(&self.node, &name, ports)?,
            Step::ReserveIds => {
                let ids = pool::reserve_ids(&self.node, &name)?;
                self.journal.say(Entry::Ids(ids))?;
            }
            Step::MakeCgroup => drop(self.node.cgroups().create(&self.cgroup_name(None))?),
            Step::Limit(resources) => self.cgroup()?.limit(resources)?,
            Step::MakeNamespaces(kinds) => self.make_namespaces(kinds)?,
            Step::SetHostname(hostname) => {
                self.namespaces().open(&[Namespace::Uts])?.set_hostname(hostname)?;
            }
            Step::AddVeth { pod, node } => {
                let (pod_netns, node_netns) = (self.pod_netns()?, self.node.netns().clone());
                self.links(Side::Pod)?.create_veth(
                    link::VethEnd { name: &pod.name, netns: &pod_netns, mac: Some(pod.mac) },
                    link::VethEnd { name: &node.name, netns: &node_netns, mac: Some(node.mac) },
                )?;
            }
            Step::SetLinkUp { side, link } => self.links(*side)?.set_up(link)?,
            Step::AwaitLink { side, link } => self.links(*side)?.wait_running(link, PATIENCE)?,
            Step::AddAddress { link, address } => {
                let links = self.links(Side::Pod)?;
                links.add_address(link, *address)?;
                links.wait_local(address.addr(), PATIENCE)?;
            }
            Step::AddNeighbour { side, link, address, mac } => {
                self.links(*side)?.add_neighbour(link, *address, *mac)?;
            }
            Step::AddRoute { side, route } => self.links(*side)?.add_route(route)?,
            Step::MapPorts { table, ports, addresses } => {
                self.node.netns().run(|| ports::make(table, ports, addresses))??;
            }
            Step::Attach(network) => self.attach(network)?,
            Step::SetSysctl { name, value } => self.set_sysctl(name, value)?,
            Step::MountMemory { bytes } => self.mount_memory(*bytes)?,
            Step::WriteFiles => self.write_files()?,
            Step::AdmitProcesses => {}
            Step::StartPause => self.start_pause()?,
        }
        Ok(())
    }

    fn undo(&mut self, trace: &Trace) -> Result<(), StepError> {
        let name = self.journal.record.spec.name.clone();
        match trace {
            Trace::Addresses => Ok(pool::release_addresses(&self.node, &name)?),
            Trace::Ports => Ok(pool::release_ports(&self.node, &name)?),
            Trace::Ids => Ok(pool::release_ids(&self.node, &name)?),
            Trace::Cgroup => {
                let cgroup = self.cgroup()?;
                cgroup.kill_all()?;
                Ok(cgroup.remove()?)
            }
            Trace::Namespaces(kinds) => self.release_namespaces(kinds),
            Trace::Link(name) => absent_is_fine(self.links(Side::Node)?.delete(name)),
            Trace::PortMap(table) => self.node.netns().run(|| ports::remove(table))?,
            Trace::Attachment(network) => self.detach(network),
            Trace::Memory => Ok(mounts::unmount_all(&self.memory())?),
            Trace::Processes => Ok(self.cgroup()?.kill_all()?),
            Trace::Pause => self.stop_pause(),
        }
    }

    fn finish(&mut self) -> Result<(), StepError> {
        // Sockets and descriptors that nobody needs any more.
        (self.node_links, self.pod_links) = (None, None);
        self.journal.say(Entry::Ready)?;
        Ok(self.journal.release()?)
    }

    fn leave(&mut self) -> Result<(), StepError> {
        Ok(self.journal.say(Entry::Removing)?)
    }

    fn forget(&mut self) -> Result<(), StepError> {
        Ok(self.journal.forget()?)
    }
}

/// Ports of the node that nobody would lead to the pod.
fn unmapped(spec: &SandboxSpec, wiring: &Wiring) -> Vec<Problem> {
    match wiring {
        Wiring::Cni(network) if !spec.host_ports().is_empty() && !network.maps_ports() => {
            let what = format!("no plugin of CNI network {} has the capability portMappings", network.name);
            vec![Problem { field: HOST_PORT, what }]
        }
        Wiring::Cni(_) | Wiring::Routed => Vec::new(),
    }
}

/// The text of a file of the node; one that is not there says nothing.
fn text_of(path: &Path) -> Result<String, StepError> {
    match fs::read_to_string(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(|source| file_error("read", path, source)),
    }
}

fn file_error(verb: &'static str, path: &Path, source: io::Error) -> StepError {
    StepError::File { verb, path: path.to_path_buf(), source }
}

fn absent_is_fine(outcome: Result<(), LinkError>) -> Result<(), StepError> {
    match outcome {
        Err(error) if !error.is_absence() => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
