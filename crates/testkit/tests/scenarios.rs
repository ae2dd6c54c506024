//! Every scenario, read in every way: one test for each reading.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use kernel_state::ipvs::Scheduler;
use libtest_mimic::{Arguments, Failed, Trial};
use proxy_modes::{InvalidPackets, Iptables, Ipvs, LocalFallback, Transparency, Userspace};
use testkit::lab::{self, Kept, Modern, Takeover, WithLocalhost, WithoutRanges};
use testkit::{
    Rendered, Replayed, Scenario, changes_text, golden, packet_checks, rendered, replayed, state_text,
};

fn ipvs() -> Ipvs {
    let scheduler = Scheduler::new("rr").expect("a short name");
    Ipvs { scheduler, local_fallback: LocalFallback::Drop }
}

const IPTABLES: Iptables = Iptables { invalid_packets: InvalidPackets::Drop };

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of the time the lab waits for packets that do not come.
    arguments.test_threads.get_or_insert(6);
    let scenarios = Scenario::all().expect("the folder scenarios is there");
    let trials = scenarios.into_iter().flat_map(|(name, scenario)| match scenario {
        Ok(scenario) => trials(&scenario),
        Err(error) => vec![Trial::test(name, move || Err(Failed::from(error.to_string())))],
    });
    let trials = trials.chain(lab::TAKEOVERS.map(takeover_trial));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn takeover_trial(takeover: Takeover) -> Trial {
    let title = format!("takeover {}::iptables lab", takeover.name);
    lab_trial(title, move || lab::take_over(&takeover, IPTABLES))
}

/// A test in the lab. One that cannot run here says so by its name.
fn lab_trial(title: String, test: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    let root = lab::is_root();
    let title = if root { title } else { format!("{title} skipped: making network namespaces needs root") };
    Trial::test(title, || test().map_err(Failed::from)).with_ignored_flag(!root)
}

fn trials(scenario: &Scenario) -> Vec<Trial> {
    let iptables = Play::new(scenario, IPTABLES);
    let nftables = Play::new(scenario, WithLocalhost(Modern));
    let userspace = Play::new(scenario, Userspace::default());
    let transparent = Play::new(scenario, Userspace { transparency: Transparency::On });
    let ipvs = Play::new(scenario, ipvs());
    let mut trials = vec![
        iptables.trial("plan golden", plan_golden),
        iptables.trial("plan packets", |play| packet_checks::by_plan(&play.scenario, play.steps()?)),
        iptables
            .trial("iptables packets", |play| packet_checks::by_xtables(&play.scenario, play.rendered()?)),
        nftables.trial("nftables packets", |play| packet_checks::by_nft(&play.scenario, play.rendered()?)),
        userspace.trial("userspace packets", |play| {
            packet_checks::by_listeners(&play.scenario, play.rendered()?, play.mode)
        }),
        transparent.trial("transparent userspace packets", |play| {
            packet_checks::by_listeners(&play.scenario, play.rendered()?, play.mode)
        }),
        transparent.lab_trial("transparent userspace"),
        // Its packets are sent in a kernel that has IPVS: tests/second_kernel.rs.
        ipvs.trial("ipvs golden", mode_golden),
        ipvs.trial("ipvs packets", |play| packet_checks::by_servers(&play.scenario, play.rendered()?)),
    ];
    trials.extend(iptables.mode_trials());
    trials.extend(nftables.mode_trials());
    trials.extend(userspace.mode_trials());
    if scenario.name.contains("source-ranges") {
        let old = Play::new(scenario, WithLocalhost(WithoutRanges));
        trials.push(old.trial("nftables packets, without sets of ranges", |play| {
            packet_checks::by_nft(&play.scenario, play.rendered()?)
        }));
        trials.push(old.lab_trial("nftables without sets of ranges"));
    }
    trials
}

/// A scenario in a mode, with what several of its tests need, made when it is first needed.
struct Play<M: Kept> {
    scenario: Scenario,
    mode: M,
    steps: OnceLock<Result<Vec<Replayed>, String>>,
    rendered: OnceLock<Result<Steps<M::Objects>, String>>,
}

type Steps<O> = Vec<Vec<Rendered<O>>>;

impl<M> Play<M>
where
    M: Kept<Objects: 'static> + Send + Sync + 'static,
{
    fn new(scenario: &Scenario, mode: M) -> Arc<Self> {
        let mut scenario = scenario.clone();
        M::NAME.clone_into(&mut scenario.config.mode);
        Arc::new(Self { scenario, mode, steps: OnceLock::new(), rendered: OnceLock::new() })
    }

    fn steps(&self) -> Result<&[Replayed], String> {
        let steps = self.steps.get_or_init(|| replayed(&self.scenario).map_err(|error| error.to_string()));
        steps.as_deref().map_err(Clone::clone)
    }

    fn rendered(&self) -> Result<&[Vec<Rendered<M::Objects>>], String> {
        let rendered = self.rendered.get_or_init(|| rendered(self.mode, self.steps()?));
        rendered.as_deref().map_err(Clone::clone)
    }

    fn trial(self: &Arc<Self>, title: &str, reading: fn(&Self) -> Result<(), String>) -> Trial {
        let play = Arc::clone(self);
        let title = format!("{}::{title}", self.scenario.name);
        Trial::test(title, move || reading(&play).map_err(Failed::from))
    }

    /// What is tested of every mode.
    fn mode_trials(self: &Arc<Self>) -> Vec<Trial> {
        vec![self.trial(&format!("{} golden", M::NAME), mode_golden), self.lab_trial(M::NAME)]
    }

    fn lab_trial(self: &Arc<Self>, name: &str) -> Trial {
        let play = Arc::clone(self);
        lab_trial(format!("{}::{name} lab", self.scenario.name), move || {
            lab::run(&play.scenario, play.steps()?, play.mode)
        })
    }
}

fn plan_golden(play: &Play<Iptables>) -> Result<(), String> {
    goldens(&play.scenario, "plan", |position| Ok(play.steps()?[position].plan_text()))
}

fn mode_golden<M>(play: &Play<M>) -> Result<(), String>
where
    M: Kept<Objects: 'static> + Send + Sync + 'static,
{
    goldens(&play.scenario, M::NAME, |position| {
        let (steps, rendered) = (play.steps()?, play.rendered()?);
        Ok(match position {
            0 => state_text(&steps[0], &rendered[0]),
            later => changes_text(&rendered[later]),
        })
    })
}

/// Compares each step's text with its golden; all of them, so that blessing blesses all.
fn goldens(
    scenario: &Scenario,
    kind: &str,
    text: impl Fn(usize) -> Result<String, String>,
) -> Result<(), String> {
    let mut differences = Vec::new();
    for (position, step) in scenario.steps.iter().enumerate() {
        let path = scenario.directory.join(format!("{}.{kind}.txt", step.stem));
        differences.extend(golden::check(&path, &text(position)?).err());
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}
