//! Where proxies take turns: one node, one API server, one cluster that changes under them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use kernel_io::netns::Netns;
use serde_json::Value;

use super::client::{Client, Watch};
use super::cluster::{Cluster, Shape, first, node_object};
use super::contender::Contender;
use super::control_plane::{ControlPlane, SERVER};
use super::lookup::connects;
use super::tap::Tap;
use crate::field::{Answer, Field, Proxy, Tools, ask};
use crate::workspace::output;

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// Longer than anything that is measured.
const PATIENCE: Duration = Duration::from_mins(3);

/// The node, empty at first.
pub(super) struct Stage<'a> {
    field: &'a Field,
    /// The same without any rules.
    bare: Field,
    cluster: Cluster,
    control_plane: ControlPlane,
    client: Client,
    /// Of the last Service's endpoints, as bare as a client can be.
    watch: Watch,
    folder: PathBuf,
}

/// A proxy that serves the whole cluster.
pub(super) struct Entered {
    pub(super) proxy: Proxy,
    pub(super) log: PathBuf,
    /// How many ms from its start until the last Service answered.
    pub(super) in_all: f64,
    /// How many of these were after the last byte of the lists.
    pub(super) after_lists: f64,
    /// Before each change.
    pub(super) pause: Duration,
}

/// What changes came to.
pub(super) struct Changes {
    /// How many ms each took from its arrival at the bare client until a connection reached the new endpoint.
    pub(super) took: Vec<f64>,
    /// How many ms of processor time each took, tools included.
    pub(super) cpu: f64,
}

impl<'a> Stage<'a> {
    /// Starts a server in this namespace, which is the node's, and fills it.
    pub(super) fn build(field: &'a Field, shape: Shape, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let control_plane = ControlPlane::start(folder)?;
        control_plane.create(&node_object())?;
        let cluster = Cluster::new(shape);
        ControlPlane::fill(cluster.objects())?;
        let client = control_plane.client()?;
        // It is behind a tap like those that it is compared with.
        let tap = Tap::before(SERVER)?;
        let last = name(&cluster.last_slice())?;
        let path = format!("{SLICES}?watch=1&resourceVersion=0&fieldSelector=metadata.name%3D{last}");
        let mut watch = client.watch(tap.port(), &path)?;
        // The last object is there only when all are.
        watch.until(&last)?;
        let bare = Field::around(Netns::new()?)?;
        Ok(Self { field, bare, cluster, control_plane, client, watch, folder: folder.to_owned() })
    }

    /// Leaves nothing on the node, by whatever tools it came there.
    pub(super) fn empty(&self, tools: &Tools) -> Result<()> {
        let nothing = self.folder.join("nothing");
        fs::write(&nothing, "*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT\n")?;
        for family in ["iptables", "ip6tables"] {
            // Without --noflush it removes what it is not told of.
            let mut restore = tools.command(&format!("{family}-restore"));
            output(restore.args(["-w", "5"]).stdin(File::open(&nothing)?))?;
        }
        output(Command::new("nft").args(["flush", "ruleset"])).map(drop)
    }

    /// A proxy starts on the node. Answers once the last Service does.
    pub(super) fn enter(&self, contender: &Contender) -> Result<Entered> {
        let tap = Tap::before(SERVER)?;
        let log = self.folder.join(format!("{}-{}.log", contender.file_name(), tap.port()));
        let command = contender.command(&self.control_plane.kubeconfig_by(tap.port())?);
        let start = Instant::now();
        let proxy = Proxy::start(command, &self.field.node, log.clone())?;
        let answered = answered(self.cluster.last(), start, |_| true)
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        let lists = tap.lists_passed(answered).context("it read no lists")?;
        let ms = |since: Instant| answered.duration_since(since).as_secs_f64() * 1000.0;
        Ok(Entered { proxy, log, in_all: ms(start), after_lists: ms(lists), pause: contender.pause() })
    }

    /// Replaces an endpoint of the last Service so many times, with a pause before each.
    pub(super) fn changes(&mut self, entered: &Entered, count: u32) -> Result<Changes> {
        let mut took = Vec::new();
        let cpu = entered.proxy.cpu()?;
        for _ in 0..count {
            took.push(self.change(entered)?);
        }
        thread::sleep(entered.pause);
        let cpu = (entered.proxy.cpu()? - cpu) * 1000.0 / f64::from(count);
        Ok(Changes { took, cpu })
    }

    /// How many ms of processor time it costs that a pool grows or shrinks by one.
    pub(super) fn resizes(&mut self, entered: &Entered, count: u32) -> Result<f64> {
        let cpu = entered.proxy.cpu()?;
        for _ in 0..count {
            put(&self.client, &self.cluster.resize_first())?;
            thread::sleep(entered.pause);
        }
        Ok((entered.proxy.cpu()? - cpu) * 1000.0 / f64::from(count))
    }

    /// So many Services have an endpoint elsewhere at once. Answers how many ms it takes from the arrival of the last
    /// change until the kernel knows nothing of the endpoints that are gone, and the last Service answers by its new one.
    pub(super) fn drain(&mut self, count: u32) -> Result<f64> {
        let drained = self.cluster.drain(count);
        ControlPlane::fill(drained.slices.into_iter())?;
        let arrived = self.watch.until(&format!("\"{}\"", drained.last))?;
        let took = followed(self.cluster.last(), drained.last, arrived)?;
        let gone: BTreeSet<String> = drained.gone.iter().map(Ipv4Addr::to_string).collect();
        let mut late = None;
        while knows_any(&gone)? {
            ensure!(arrived.elapsed() < PATIENCE, "endpoints that are gone are still served");
            late = Some(arrived.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(late.unwrap_or(took))
    }

    /// What a connect from a pod to the first and to the last Service takes, as a ratio to one past a node without rules.
    pub(super) fn connects(&self) -> Result<[f64; 2]> {
        let (direct, both) = connects(&self.bare, self.field, [first(), self.last()])?;
        Ok(both.map(|took| took / direct))
    }

    /// For what is kept until the end.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the last Service is asked.
    pub(super) fn last(&self) -> SocketAddr {
        self.cluster.last()
    }

    /// How many ms one of them takes.
    pub(super) fn change(&mut self, entered: &Entered) -> Result<f64> {
        thread::sleep(entered.pause);
        let fresh = self.cluster.replace_endpoint();
        let slice = self.cluster.last_slice();
        let (client, watch, at) = (&self.client, &mut self.watch, self.cluster.last());
        thread::scope(|scope| {
            let put = scope.spawn(|| put(client, &slice));
            let took = watch.until(&format!("\"{fresh}\"")).and_then(|arrived| followed(at, fresh, arrived));
            // Why a write failed says more than that nothing of it arrived.
            put.join().map_err(|_| anyhow!("a write ended early"))??;
            took
        })
    }
}

/// A connection takes a fraction of a millisecond. One that is asked for too early is lost, and nobody asks meanwhile.
const ASK_TIMEOUT: Duration = Duration::from_millis(20);

/// How many ms after its arrival a change is in the data path.
fn followed(at: SocketAddr, fresh: Ipv4Addr, arrived: Instant) -> Result<f64> {
    let followed = answered(at, arrived, |endpoint| endpoint == fresh)?;
    Ok(followed.duration_since(arrived).as_secs_f64() * 1000.0)
}

/// When a Service answered as it should: asked the more seldom the longer it takes, so that asking takes no time from
/// who is asked.
fn answered(at: SocketAddr, since: Instant, is_it: impl Fn(Ipv4Addr) -> bool) -> Result<Instant> {
    loop {
        match ask(at, ASK_TIMEOUT) {
            Answer::By(endpoint) if is_it(endpoint) => return Ok(Instant::now()),
            Answer::By(_) | Answer::Nobody(_) => {
                ensure!(since.elapsed() < PATIENCE, "{at} did not answer as it should");
            }
        }
        thread::sleep((since.elapsed() / 50).clamp(Duration::from_micros(50), Duration::from_millis(5)));
    }
}

/// Whether any of these addresses is in the rules of this namespace.
fn knows_any(addresses: &BTreeSet<String>) -> Result<bool> {
    let rules = output(Command::new("nft").args(["-n", "list", "ruleset"]))?;
    let mut words = rules.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    Ok(words.any(|word| addresses.contains(word)))
}

fn put(client: &Client, slice: &Value) -> Result<()> {
    client.put(&format!("{SLICES}/{}", name(slice)?), slice)
}

fn name(object: &Value) -> Result<String> {
    object["metadata"]["name"].as_str().map(str::to_owned).context("an object has a name")
}
