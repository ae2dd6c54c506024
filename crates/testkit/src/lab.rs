//! The lab: a scenario's packets, sent for real through network namespaces of their own.
//!
//! ```text
//! pods that ask ──── cni0 ┐        ┌ eth0 ── clients  whoever asks from outside
//!                         ├─ node ─┤
//! each endpoint ── cni0-1 ┘        └ eth1 ── world    endpoints elsewhere, and every other destination
//! ```
//! In each of them servers answer on every address and port in play with their own address and the client's as
//! they see it. So an answer tells the endpoint, whether the destination was rewritten, and whether the source was.
//! The namespaces have no names and end with the process that made them.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::SocketAddr;

use kernel_io::netns::Netns;
use kernel_io::{Target, sysctl};
use kernel_state::{Objects, State};
use proxy::Reconciler;
use proxy_modes::Mode;
use service_plan::{Family, LocalhostNodePorts, NodePlan, ServicePlan};

use crate::scenario::Stage;
use crate::{Expectation, FamilyStep, Replayed, Scenario, of_mode};

mod judge;
mod modes;
mod network;
mod nft_programs;
mod places;
mod probe;
mod raw;
mod sctp;
mod servers;
mod takeover;
mod target;

use judge::Judge;
use network::Network;
use places::Places;
use probe::Prober;
use servers::Servers;
use target::TargetInside;

pub use modes::{Modern, WithLocalhost, WithoutRanges};
pub use takeover::{TAKEOVERS, Takeover, take_over};

/// Why the lab could not be set up or used.
pub type LabError = Box<dyn Error + Send + Sync>;

/// Whether namespaces can be made and raw packets be sent.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// How a mode's rules are kept in the lab.
pub trait Kept: Mode + Copy {
    /// Its name in a scenario's packets.
    const NAME: &str;

    /// What it is written with.
    type Target: Target<Self::Objects> + Send;

    /// Opens that for an IP family, inside the node's namespace.
    fn open(scenario: &Scenario, family: Family) -> Result<Self::Target, LabError>;

    /// Opens it as one that wants nothing.
    fn open_to_clean(family: Family) -> Result<Self::Target, LabError>;

    /// What becomes of the packets of a step, as far as it is the same for all of them in this mode.
    fn packets(&self, packets: &[Expectation], stage: &Stage) -> Vec<Expectation> {
        let _ = stage;
        packets.to_vec()
    }

    /// Whether a target that remembers nothing finds what is wanted.
    fn compared(found: &State<Self::Objects>, wanted: &State<Self::Objects>) -> Result<(), String> {
        same(found, wanted)
    }

    /// Where on the node it listens itself for a service port, so that nobody else can.
    fn listeners(plan: &ServicePlan, node: &NodePlan) -> Vec<SocketAddr> {
        let (_, _) = (plan, node);
        Vec::new()
    }

    /// What else there is to be said of rules that are in place.
    fn inspect(node: &Netns) -> Result<(), String> {
        let _ = node;
        Ok(())
    }
}

/// Plays a scenario in a mode: after each step what the kernel holds is what is wanted, and packets fare as the
/// scenario says. At last nothing is wanted, and nothing of ours is left.
pub fn run<M>(scenario: &Scenario, steps: &[Replayed], mode: M) -> Result<(), String>
where
    M: Kept,
{
    play(scenario, steps, mode).unwrap_or_else(|error| Err(with_sources(&*error)))
}

fn play<M>(scenario: &Scenario, steps: &[Replayed], mode: M) -> Result<Result<(), String>, LabError>
where
    M: Kept,
{
    let places = Places::of(scenario, steps, listeners::<M>(steps));
    let network = Network::build(&scenario.stage, &places)?;
    let _servers = Servers::start(&network, &places)?;
    let mut prober = Prober::new(&places);
    let open = |family| {
        let target = network.node.run(|| M::open(scenario, family))??;
        Ok::<_, LabError>(TargetInside::new(&network.node, target))
    };
    let mut families = Vec::new();
    for family in Family::BOTH {
        families.push((Reconciler::new(mode, open(family)?), open(family)?));
    }
    for (step, replayed) in scenario.steps.iter().zip(steps) {
        for ((reconciler, observer), planned) in families.iter_mut().zip(&replayed.families) {
            if planned.node().localhost_node_ports == LocalhostNodePorts::Serve {
                network.node.run(|| sysctl::write("net.ipv4.conf.all.route_localnet", "1"))??;
            }
            reconciler.want(&planned.touched);
            let as_wanted = match settled(reconciler) {
                Ok(()) => M::compared(&observer.found()?, &reconciler.wanted()),
                Err(message) => Err(message),
            };
            if let Err(message) = as_wanted {
                return Ok(Err(format!("{}, {}: {message}", step.stem, planned.family)));
            }
        }
        let packets = mode.packets(&step.packets, &scenario.stage);
        let expected = of_mode(&packets, M::NAME);
        if let Err(message) = judged(&network, &mut prober, &step.stem, expected)? {
            return Ok(Err(message));
        }
        if let Err(message) = M::inspect(&network.node) {
            return Ok(Err(format!("{}: {message}", step.stem)));
        }
    }
    nothing_is_left(&network, mode)
}

/// Where a mode listens in any of the steps.
fn listeners<M: Kept>(steps: &[Replayed]) -> BTreeSet<SocketAddr> {
    let families = steps.iter().flat_map(|step| &step.families);
    let of_family = |family: &FamilyStep| {
        let of_port = |plan| M::listeners(plan, family.node());
        family.services.iter().flat_map(of_port).collect::<Vec<_>>()
    };
    families.flat_map(of_family).collect()
}

/// Two passes: the first one writes, the second one reads again and finds nothing to do.
fn settled<M: Mode, T: Target<M::Objects>>(reconciler: &mut Reconciler<M, T>) -> Result<(), String> {
    let pass = reconciler.write();
    if !pass.is_complete() {
        return Err(format!("the pass is not complete: {pass:?}"));
    }
    reconciler.distrust();
    let again = reconciler.write();
    if again.is_complete() && again.puts + again.drops == 0 {
        Ok(())
    } else {
        Err(format!("a second pass found something to do: {again:?}"))
    }
}

fn same<O: Objects>(found: &State<O>, wanted: &State<O>) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    let (found, wanted) = (found.to_string(), wanted.to_string());
    let lines = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    let (found_lines, wanted_lines) = (lines(&found), lines(&wanted));
    let missing: Vec<_> = wanted_lines.difference(&found_lines).map(|line| format!("\n  - {line}")).collect();
    let strange: Vec<_> = found_lines.difference(&wanted_lines).map(|line| format!("\n  + {line}")).collect();
    Err(format!("the kernel does not hold what is wanted:{}{}", missing.concat(), strange.concat()))
}

/// Sends packets until each is judged.
fn judged(
    network: &Network,
    prober: &mut Prober,
    stem: &str,
    expectations: Vec<&Expectation>,
) -> Result<Result<(), String>, LabError> {
    let mut judges: Vec<Judge<'_>> = expectations.into_iter().map(Judge::new).collect();
    loop {
        let mut wave = Vec::new();
        for (index, judge) in judges.iter().enumerate() {
            wave.extend((0..judge.packets_wanted()).map(|_| (index, judge.packet())));
        }
        if wave.is_empty() {
            break;
        }
        let patience = judges.iter().map(Judge::patience).collect::<Vec<_>>();
        for (index, seen) in prober.send(network, &wave, &patience)? {
            judges[index].take(seen);
        }
    }
    let mut wrong = crate::packet_checks::Wrong::default();
    for judge in &judges {
        if let Err(message) = judge.verdict() {
            wrong.note(stem, judge.expectation(), &message);
        }
    }
    Ok(wrong.told())
}

fn nothing_is_left<M>(network: &Network, mode: M) -> Result<Result<(), String>, LabError>
where
    M: Kept,
{
    let open = |family| {
        let target = network.node.run(|| M::open_to_clean(family))??;
        Ok::<_, LabError>(TargetInside::new(&network.node, target))
    };
    for family in Family::BOTH {
        let pass = Reconciler::new(mode, open(family)?).write();
        if !pass.is_complete() {
            return Ok(Err(format!("removing all is not complete: {pass:?}")));
        }
    }
    // Only now, since the families may share something.
    for family in Family::BOTH {
        let left: State<M::Objects> = open(family)?.found()?;
        if !left.is_empty() {
            return Ok(Err(format!("when nothing is wanted this is left:\n{left}")));
        }
    }
    Ok(Ok(()))
}

/// An error with what it came from.
fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
