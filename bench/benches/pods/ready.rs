//! How soon a sandbox is ready.

use anyhow::Result;
use bench::figure::{Figure, Figures, Goal, percentile};

use crate::Programs;
use crate::contenders::{ContainerdPods, Contender, Holder, Ours, Passing, PodmanPods, Staying, Wiring};
use crate::held::PAUSE;

/// How many are made at once, and how many in all in a round.
const LOADS: [(&str, usize, usize); 2] = [("one at once", 1, 8), ("eight at once", 8, 24)];
/// All have their turn in each.
const ROUNDS: usize = 3;

/// What ours is asked to be.
const KINDS: [(&str, Wiring, Holder); 4] = [
    ("CNI", Wiring::Cni, Holder::Files),
    ("CNI, with pause", Wiring::Cni, Holder::Pause),
    ("built-in network", Wiring::BuiltIn, Holder::Files),
    ("built-in network, with pause", Wiring::BuiltIn, Holder::Pause),
];

pub(super) fn measure(programs: &Programs, figures: &mut Figures) -> Result<()> {
    let containerd = ContainerdPods::new(programs, PAUSE);
    let podman = PodmanPods::new(programs, PAUSE)?;
    let mut staying = Vec::new();
    let mut passing = Vec::new();
    for (_, wiring, holder) in KINDS {
        staying.push(Staying(Ours::new(programs, wiring, holder)?));
        passing.push(Passing(Ours::new(programs, wiring, holder)?));
    }
    let mut all: Vec<&dyn Contender> = vec![&containerd, &podman];
    all.extend(staying.iter().map(|one| one as &dyn Contender));
    all.extend(passing.iter().map(|one| one as &dyn Contender));
    for contender in &all {
        contender.round(1, 1)?; // what is made once for all
    }
    for (load, at_once, count) in LOADS {
        let mut times = vec![Vec::new(); all.len()];
        for _ in 0..ROUNDS {
            for (contender, times) in all.iter().zip(&mut times) {
                times.extend(contender.round(count, at_once)?);
            }
        }
        let median: Vec<f64> = times.iter().map(|times| percentile(times, 50)).collect();
        let (peers, ours) = median.split_at(2);
        let (staying, passing) = ours.split_at(KINDS.len());
        for (peer, name, most, ours) in [
            (peers[0], "RunPodSandbox of containerd", 0.7, staying),
            (peers[1], "podman pod create and start", 0.5, passing),
        ] {
            for ((kind, ..), ours) in KINDS.iter().zip(ours) {
                let figure =
                    Figure::new(format!("sandbox ready p50, {load}, {kind}, against {name}"), "ms", *ours);
                figures.add(figure.against(Some(peer)).goal(Goal::AtMost(most)))?;
            }
        }
    }
    figures.remark(format!(
        "containerd is asked by a client that was not built for speed: its shortest call takes {:.1} ms; podman and ours \
         against it start a process for each step",
        containerd.call()?
    ));
    Ok(())
}
