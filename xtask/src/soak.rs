//! `cargo xtask soak`: Services and endpoints change at random for long, while clients use them all the time.
//!
//! What may be asked of a connection is known exactly, however slow the machine is. Every change has a number. A
//! beacon is a change whose effect is waited for; when beacon k is seen, all that was written before beacon k-1 is in
//! the rules, whatever transactions a pass is made of. So a client that begins when that is known may meet the last
//! state of its Service before that number, and every later one, and no other. If each of these has an endpoint for
//! it, it must be answered, by one of theirs.

mod beacon;
mod change;
mod clients;
mod random;
mod state;
mod world;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use kernel_io::netns::Netns;

use crate::field::{Fairlead, Field, Proxy, Tools};
use crate::{build, debian};
use beacon::Beacon;
use bench::figure::{Figure, Figures, Goal, percentile};
use clients::Tally;
use world::World;

/// What the soak is to do.
#[derive(Args, Clone, Debug)]
pub(crate) struct Soak {
    /// The proxy's mode
    #[arg(long, value_enum, default_value_t = Mode::Iptables)]
    mode: Mode,
    /// The backend of iptables
    #[arg(long, value_enum, default_value_t = Backend::Nft)]
    backend: Backend,
    /// How long
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// How many Services there may be
    #[arg(long, default_value_t = 500)]
    services: u16,
    /// Changes a second
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Where chance begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What the soak is told when it starts in its namespaces.
#[derive(Args, Debug)]
pub(crate) struct Inside {
    #[command(flatten)]
    soak: Soak,
    /// An empty folder for its files
    #[arg(long)]
    folder: PathBuf,
}

/// A mode of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Iptables,
    Nftables,
    Userspace,
}

/// Which iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// As the machine has it
    Nft,
    /// The old tables
    Legacy,
}

/// Memory is compared with what it was then, in minutes: until then every Service has been there, and every size of
/// burst.
const WARM: u64 = 5;

/// Builds, and soaks apart.
pub(crate) fn run(soak: &Soak) -> Result<()> {
    debian::install_missing()?;
    build::fairlead()?;
    let mut arguments = vec!["soak-inside".to_owned()];
    arguments.extend(["--mode".to_owned(), soak.mode.name().to_owned()]);
    let backend = if soak.backend == Backend::Legacy { "legacy" } else { "nft" };
    arguments.extend(["--backend".to_owned(), backend.to_owned()]);
    let numbers = [
        ("--minutes", soak.minutes),
        ("--services", soak.services.into()),
        ("--rate", soak.rate.into()),
        ("--seed", soak.seed),
    ];
    arguments.extend(numbers.into_iter().flat_map(|(name, number)| [name.to_owned(), number.to_string()]));
    crate::apart::run(arguments.iter().map(OsStr::new))?.well()
}

/// The soak itself.
pub(crate) fn inside(inside: &Inside) -> Result<()> {
    let soak = &inside.soak;
    let tools = match soak.backend {
        Backend::Nft => Tools::of_machine(),
        Backend::Legacy => Tools::legacy(&inside.folder)?,
    };
    let field = Field::around(Netns::current()?)?;
    let manifests = inside.folder.join("manifests");
    let world = Mutex::new(World::new(&manifests, soak.services, soak.seed)?);
    let mut beacon = Beacon::new(&world)?;
    // What goes is let live as long as the soak, so that a connection that ends is a fault.
    let arguments = if soak.mode == Mode::Userspace { vec!["--drain-timeout", "24h"] } else { Vec::new() };
    let fairlead = Fairlead { mode: soak.mode.name(), tools, manifests, arguments };
    let proxy = fairlead.serve(&field.node, inside.folder.join("proxy.log"))?;
    let mut figures = Figures::default();
    let (tally, memory) = under_load(soak, &field, &world, &mut beacon, &proxy)?;
    let complaints = proxy.complaints()?;
    proxy.stop()?;
    tell(soak, &tally, &memory, &beacon, &mut figures)?;
    figures.add(
        Figure::new("complaints of the proxy", "lines", count(complaints.len())).goal(Goal::Exactly(0.0)),
    )?;
    compare(soak, &field, &fairlead, &mut figures)?;
    for line in tally.faults.iter().chain(&complaints).take(20) {
        figures.remark(format!("fault: {line}"));
    }
    let missed = figures.print_table()?;
    ensure!(missed == 0, "{missed} figures are not as they should be");
    Ok(())
}

/// Memory at a minute, in MB: resident, and the most so far.
type Memory = Vec<(u64, f64, f64)>;

/// Everything at once, until the time is over.
fn under_load(
    soak: &Soak,
    field: &Field,
    world: &Mutex<World>,
    beacon: &mut Beacon,
    proxy: &Proxy,
) -> Result<(Tally, Memory)> {
    let (stop_changes, stop_clients) = (AtomicBool::new(false), AtomicBool::new(false));
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        beacon.await_first(&field.node, world)?;
        let changes = scope.spawn(|| change::keep_changing(world, soak.rate, &stop_changes));
        let beacons = scope.spawn(|| beacon.keep_lit(&field.node, world, &stop_clients));
        let clients = clients::start(scope, field, world, &tally, &stop_clients, soak.seed);
        let memory = watch(soak, proxy, &tally, &[&stop_clients]);
        stop_changes.store(true, Ordering::Relaxed);
        let changed = changes.join();
        // So long that beacons show the last changes, and clients use them.
        thread::sleep(Duration::from_secs(3));
        stop_clients.store(true, Ordering::Relaxed);
        let lit = beacons.join();
        for client in clients {
            if client.join().is_err() {
                bail!("a client panicked");
            }
        }
        match (changed, lit) {
            (Ok(changed), Ok(lit)) => changed.and(lit)?,
            (Err(_), _) | (_, Err(_)) => bail!("a thread panicked"),
        }
        memory
    })
    .map(|memory| (tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner), memory))
}

/// Looks at the proxy until the time is over, and tells of it each minute.
fn watch(soak: &Soak, proxy: &Proxy, tally: &Mutex<Tally>, ended: &[&AtomicBool]) -> Result<Memory> {
    let start = Instant::now();
    let mut memory = Memory::new();
    let mut told = 0;
    for minute in 1..=soak.minutes {
        while start.elapsed() < Duration::from_secs(minute * 60) {
            ensure!(ended.iter().all(|flag| !flag.load(Ordering::Relaxed)), "a beacon was not seen");
            thread::sleep(Duration::from_millis(200));
        }
        let (resident, most) = proxy.memory()?;
        memory.push((minute, resident, most));
        let tally = tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writeln!(
            io::stderr(),
            "minute {minute}: {} connections, {} faults, {resident:.1} MB (most {most:.1} MB)",
            tally.asked,
            tally.faults.len()
        )?;
        for fault in &tally.faults[told..] {
            writeln!(io::stderr(), "fault: {fault}")?;
        }
        told = tally.faults.len();
    }
    Ok(memory)
}

fn tell(soak: &Soak, tally: &Tally, memory: &Memory, beacon: &Beacon, figures: &mut Figures) -> Result<()> {
    let none = Goal::Exactly(0.0);
    figures.add(Figure::new("changes", "files", count(beacon.changes)))?;
    figures.add(Figure::new("changes by beacons seen", "files", count(beacon.seen.len())))?;
    figures.add(Figure::new("change seen under load, p50", "ms", percentile(&beacon.seen, 50)))?;
    figures.add(Figure::new("change seen under load, p95", "ms", percentile(&beacon.seen, 95)))?;
    figures.add(Figure::new("connections", "connections", count(tally.asked)))?;
    figures.add(Figure::new("connections that had to be answered", "connections", count(tally.owed)))?;
    figures.add(Figure::new("of these, not answered", "connections", count(tally.lost)).goal(none))?;
    figures.add(Figure::new("of these, after a lost packet", "connections", count(tally.slow)).goal(none))?;
    figures.add(
        Figure::new("answered by an endpoint of no state", "connections", count(tally.astray)).goal(none),
    )?;
    figures.add(Figure::new("long connections", "connections", count(clients::LONG)))?;
    figures.add(Figure::new("long connections that died", "connections", count(tally.died)).goal(none))?;
    for (minute, resident, _) in memory {
        if *minute == 1 || minute % WARM == 0 || *minute == soak.minutes {
            figures.add(Figure::new(format!("resident at minute {minute}"), "MB", *resident))?;
        }
    }
    let warm = memory.iter().find(|(minute, ..)| *minute == WARM.min(soak.minutes));
    if let (Some((_, warm, _)), Some((_, last, most))) = (warm, memory.last()) {
        let growth = Figure::new("resident at the end, against the fifth minute", "MB", *last);
        figures.add(growth.against(Some(*warm)).goal(Goal::AtMost(1.1)))?;
        figures.add(Figure::new("most that was resident", "MB", *most))?;
    }
    Ok(())
}

/// The rules after all that, against those of a fresh start in a namespace that has seen nothing.
fn compare(soak: &Soak, field: &Field, fairlead: &Fairlead, figures: &mut Figures) -> Result<()> {
    if soak.mode == Mode::Userspace {
        figures.skip("comparison with a fresh start", "the userspace mode cannot be written once");
        return Ok(());
    }
    let lived = state::of(soak.mode, &field.node, &fairlead.tools)?;
    let fresh = Field::around(Netns::new()?)?;
    fairlead.once(&fresh.node)?;
    let fresh = state::of(soak.mode, &fresh.node, &fairlead.tools)?;
    let differences = state::differences(&lived, &fresh);
    figures.add(Figure::new("lines of the kernel's state", "lines", count(lived.len())))?;
    let figure = Figure::new("lines that a fresh start has otherwise", "lines", count(differences.len()));
    figures.add(figure.goal(Goal::Exactly(0.0)))?;
    for line in differences.iter().take(20) {
        figures.remark(line.clone());
    }
    Ok(())
}

impl Mode {
    /// As `--proxy-mode` takes it.
    fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Userspace => "userspace",
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}
