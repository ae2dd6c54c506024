//! What `fairlead proxy` does: once, for show, or for as long as it runs.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use kernel_io::link::AddressNews;
use kernel_io::memory;
use service_plan::{Family, LocalhostNodePorts, Touched};
use service_watch::{Batch, Exchanges};
use thiserror::Error;
use tracing::{info, warn};

use crate::config::Configuration;
use crate::initialize;
use crate::ipvs::{self, IpvsSettings};
use crate::knowledge::{Knowledge, Listed};
use crate::messages::{forward, pass_on};
use crate::metrics::Metrics;
use crate::modes::{self, Families, ModeError, Opened, ProxyMode, Reconcile};
use crate::presence::Presence;
use crate::relaying::{self, Relaying};
use crate::remarks::Remarks;
use crate::serving::StartError;
use crate::source::{Origin, Source};
use crate::tracking;
use crate::witness::FamilyWitness;
use crate::writer::{self, Cause, Pace, Planned};

/// What the proxy is to work from.
#[derive(Clone, Debug)]
pub struct Input {
    /// The configuration.
    pub configuration: Configuration,
    /// What tells of Services, endpoints and this node.
    pub origin: Origin,
    /// Every flag and its value, for those who ask.
    pub flags: Vec<(String, String)>,
}

/// The proxy cannot do what it was asked to.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// The manifests cannot be read.
    #[error(transparent)]
    Manifests(#[from] service_watch::OpenError),
    /// The manifests cannot be watched.
    #[error(transparent)]
    Watch(#[from] service_watch::WatchError),
    /// The API server cannot be reached.
    #[error(transparent)]
    Api(#[from] service_watch::ApiError),
    /// The source could not be listed.
    #[error("{0} cannot be listed; see above")]
    NotListed(String),
    /// It cannot be told when this node's addresses change.
    #[error("cannot follow this node's addresses")]
    Addresses(#[from] kernel_io::link::LinkError),
    /// What the mode is written with cannot be used.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// Which pods are local could not be told of any of them.
    #[error("this node has {0} alone, and clusterCIDR has no range of it")]
    WrongFamily(Family),
    /// Once is not enough.
    #[error("the userspace mode cannot be written once: its listeners would end with this process")]
    OnceUserspace,
    /// The kernel was not brought to the plan.
    #[error("{0} could not be written; see above")]
    Unwritten(String),
    /// An address at which it is to answer is taken.
    #[error(transparent)]
    Serve(#[from] StartError),
    /// The configuration says what this process cannot become.
    #[error("the configuration file has changed {0}, which only a new process can take over")]
    Outdated(String),
    /// A thread could not be started, or nothing could be printed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Prints the whole wanted state of both families. Touches nothing, and needs no privilege.
pub fn dry_run(input: &Input, out: &mut dyn io::Write) -> Result<(), ProxyError> {
    let mut knowledge = read_whole(input)?;
    for family in Family::BOTH {
        modes::print(&input.configuration, &knowledge.plan(&Touched::everything(), family), out)?;
    }
    Ok(())
}

/// Brings the kernel to the plan, and ends.
pub fn once(input: &Input) -> Result<(), ProxyError> {
    let mut input = input.clone();
    let localhost = &mut input.configuration.settings.localhost_node_ports;
    if *localhost == LocalhostNodePorts::Relay {
        warn!("node ports are not served on localhost: their listeners would end with this process");
        *localhost = LocalhostNodePorts::Ignore;
    }
    let mut knowledge = read_whole(&input)?;
    let Configuration { mode, ipvs, .. } = &input.configuration;
    let mode = *mode;
    if mode == ProxyMode::Userspace {
        return Err(ProxyError::OnceUserspace);
    }
    let mut opened = open(&input.configuration, &knowledge)?;
    let mut remarks = Remarks::new(mode, ipvs)?;
    for (family, reconciler) in &mut opened.families {
        let mut plan = knowledge.plan(&Touched::everything(), *family);
        remarks.settle(&mut plan);
        reconciler.want(&plan);
    }
    write_all(opened.families)?;
    // Only now, so that there is no moment without rules.
    write_all(modes::cleaners_of_others(mode, ipvs)?)?;
    write_all(modes::cleaners_of_ipvs(mode, ipvs)?)
}

/// Removes all that this proxy or a kube-proxy left, and nothing else.
pub fn clean_up(configuration: &Configuration) -> Result<(), ProxyError> {
    write_all(modes::cleaners_of_all(&configuration.ipvs)?)
}

/// Keeps the kernel at the plan until told to stop, by the configuration as it changes. The rules stay.
pub fn serve(input: &Input, stop: Receiver<()>, changes: Receiver<Configuration>) -> Result<(), ProxyError> {
    let metrics = Arc::new(Metrics::new());
    let counted = Arc::clone(&metrics);
    let exchanges = Exchanges::told_to(move |host, exchange| counted.exchanged(host, &exchange));
    let (mut knowledge, mut source) = open_source(input, exchanges)?;
    let assumed = source.eligibility();
    knowledge.take(source.first());
    let opened = open(&input.configuration, &knowledge)?;
    let served = opened.served();
    let Opened { families, relay } = opened;
    let mut remarks = Remarks::new(input.configuration.mode, &input.configuration.ipvs)?;
    initialize::take_place(input.configuration.oom_score_adj);
    initialize::advise(&input.configuration, &served);
    let (sender, messages) = mpsc::channel();
    follow_addresses(sender.clone())?;
    let sending = source.watch(forward(sender.clone(), Message::Batch)?)?;
    pass_on(stop, sender.clone(), |()| Message::Stop)?;
    pass_on(changes, sender, |configuration| Message::Configuration(Box::new(configuration)))?;
    let mut configuration = input.configuration.clone();
    let notices = sending.notices();
    let mut presence = Presence::begin(&configuration, &input.flags, assumed, metrics, &notices)?;
    let pace = Pace::of(configuration.sync.pace);
    if let Some(relay) = &relay {
        presence.witness.metrics.add(relaying::troubles(relay.counts()));
    }
    thread::scope(|scope| {
        let mut writers = Vec::new();
        for (family, reconciler) in families {
            let witness = presence.witness.of(input.configuration.mode, family);
            let watched = witness.watch(reconciler);
            let plans = start_writer(scope, &input.configuration, family, watched, &pace)?;
            writers.push(Writer { family, plans, witness });
        }
        presence.node(&knowledge);
        if knowledge.listed() == Listed::Yes {
            send_plans(&mut knowledge, &mut remarks, &Touched::everything(), &writers);
        }
        info!(services = knowledge.service_count(), "serving");
        for message in messages {
            let touched = match message {
                Message::Batch(batch) => knowledge.take(batch),
                Message::Addresses => knowledge.look_at_addresses(),
                Message::Configuration(other) => {
                    let touched = take_over(&mut configuration, *other, &mut knowledge)?;
                    pace.set(configuration.sync.pace);
                    presence.is_configured(&configuration)?;
                    touched
                }
                Message::Stop => break,
            };
            presence.node(&knowledge);
            if !touched.is_nothing() {
                send_plans(&mut knowledge, &mut remarks, &touched, &writers);
            }
        }
        if let Some(relay) = &relay {
            relaying::drain(relay, input.configuration.own.shutdown_grace);
        }
        info!("stopping; the rules stay");
        Ok(())
    })
}

/// Within this time addresses come together: an interface seldom gets only one.
const ADDRESS_BURST: Duration = Duration::from_millis(100);

/// One family's, and who sees what it does.
struct Writer {
    family: Family,
    plans: Sender<Planned>,
    witness: Arc<FamilyWitness>,
}

enum Message {
    Batch(Batch),
    /// This node's own may have changed.
    Addresses,
    /// The operator decided otherwise.
    Configuration(Box<Configuration>),
    Stop,
}

/// Goes on by another configuration, if that is possible. Answers what it touched.
fn take_over(
    configuration: &mut Configuration,
    other: Configuration,
    knowledge: &mut Knowledge,
) -> Result<Touched, ProxyError> {
    let differences = configuration.differences(&other);
    if !differences.of_a_new_process.is_empty() {
        return Err(ProxyError::Outdated(differences.of_a_new_process.join(", ")));
    }
    info!(fields = differences.live.join(" "), "the configuration file has changed");
    if configuration.oom_score_adj != other.oom_score_adj {
        initialize::take_place(other.oom_score_adj);
    }
    if configuration.conntrack != other.conntrack {
        tracking::set(&other.conntrack).tell();
    }
    if configuration.mode == ProxyMode::Ipvs && configuration.ipvs != other.ipvs {
        ipvs::prepare(&other.ipvs).map_err(ModeError::from)?;
    }
    *configuration = other;
    Ok(knowledge.configure(configuration.settings.clone(), configuration.bind_address))
}

/// Reads the first full lists, without which nothing may be written.
fn read_whole(input: &Input) -> Result<Knowledge, ProxyError> {
    let (mut knowledge, source) = open_source(input, Exchanges::uncounted())?;
    source.read_whole(&mut knowledge)?;
    Ok(knowledge)
}

fn open_source(input: &Input, exchanges: Exchanges) -> Result<(Knowledge, Source), ProxyError> {
    // One thread plans, another writes what was planned, and lets go of it.
    memory::share_one_heap();
    let Configuration { settings, node_name, bind_address, .. } = &input.configuration;
    let source = Source::open(&input.origin, node_name, settings, exchanges)?;
    Ok((Knowledge::new(settings.clone(), Arc::clone(node_name), *bind_address), source))
}

/// Tells when this node's addresses may have changed; those of a burst together.
fn follow_addresses(out: Sender<Message>) -> Result<(), ProxyError> {
    let mut news = AddressNews::here()?;
    let work = move || {
        while news.wait().inspect_err(|error| warn!(%error, "addresses are no longer followed")).is_ok() {
            thread::sleep(ADDRESS_BURST);
            if out.send(Message::Addresses).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("addresses".to_owned()).spawn(work)?;
    Ok(())
}

/// Opens what the mode is written with.
pub(crate) fn open(configuration: &Configuration, knowledge: &Knowledge) -> Result<Opened, ProxyError> {
    let relaying = Relaying::new(configuration, |family| knowledge.node_ip(family));
    let Configuration { mode, ipvs, conntrack, .. } = configuration;
    let localhost = match configuration.settings.localhost_node_ports {
        // Whether it has any may change while it runs.
        LocalhostNodePorts::Relay => LocalhostNodePorts::Relay,
        LocalhostNodePorts::Serve | LocalhostNodePorts::Ignore => knowledge.localhost_node_ports(),
    };
    // A mode may ask what it was told.
    let refused = tracking::set(conntrack);
    let opened = modes::open(*mode, localhost, &relaying, ipvs)?;
    initialize::check_families(configuration, &opened.served())?;
    refused.tell();
    modes::prepare(*mode, localhost);
    Ok(opened)
}

fn send_plans(knowledge: &mut Knowledge, remarks: &mut Remarks, touched: &Touched, writers: &[Writer]) {
    let lists = knowledge.listed();
    // What came before the first lists were whole is told of with them.
    let news = (lists == Listed::Yes).then(|| knowledge.take_news());
    for Writer { family, plans, witness } in writers {
        let mut plan = knowledge.plan(touched, *family);
        remarks.settle(&mut plan);
        if let Some(news) = &news {
            witness.queued(news.clone());
        }
        // A writer ends only when its channel does.
        plans.send(Planned { plan, lists }).expect("the writer lives as long as its channel");
    }
}

fn start_writer<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    configuration: &'scope Configuration,
    family: Family,
    mut reconciler: Box<dyn Reconcile>,
    pace: &'scope Pace,
) -> Result<Sender<Planned>, io::Error> {
    let (sender, plans) = mpsc::channel();
    let Configuration { mode, ipvs, .. } = configuration;
    let work = move || {
        let settled = || remove_others(*mode, family, ipvs.clone());
        writer::write_plans(family, &mut *reconciler, &plans, pace, settled);
    };
    thread::Builder::new().name(format!("writer {family}")).spawn_scoped(scope, work)?;
    Ok(sender)
}

/// Removes what another mode left. Whatever cannot be removed now goes with `--cleanup`.
fn remove_others(mode: ProxyMode, family: Family, ipvs: IpvsSettings) {
    remove(family, modes::cleaners_of_others(mode, &ipvs));
    if mode == ProxyMode::Ipvs {
        return;
    }
    // New connections never get there any more; those that did are not cut. Nobody waits for it.
    let work = move || {
        ipvs::let_drain(family, &ipvs);
        remove(family, modes::cleaners_of_ipvs(mode, &ipvs));
    };
    if let Err(error) = thread::Builder::new().name(format!("drain {family}")).spawn(work) {
        warn!(%error, "what the ipvs mode may have left is not removed");
    }
}

fn remove(family: Family, cleaners: Result<Families, ModeError>) {
    match cleaners {
        Ok(cleaners) => {
            for (_, mut cleaner) in cleaners.into_iter().filter(|(of, _)| *of == family) {
                writer::write(family, &mut *cleaner, Cause::Plan);
            }
        }
        Err(error) => warn!(%error, "what another mode may have left is not removed"),
    }
}

/// One pass for each; what could not be written was told by it.
fn write_all(families: Families) -> Result<(), ProxyError> {
    let mut unwritten = Vec::new();
    for (family, mut reconciler) in families {
        if !writer::write(family, &mut *reconciler, Cause::Plan).is_complete() {
            unwritten.push(family.to_string());
        }
    }
    if unwritten.is_empty() { Ok(()) } else { Err(ProxyError::Unwritten(unwritten.join(" and "))) }
}
