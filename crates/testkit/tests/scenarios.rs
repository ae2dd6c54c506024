//! Every scenario, read in every way: one test for each reading.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use kernel_state::xtables::Xtables;
use libtest_mimic::{Arguments, Failed, Trial};
use proxy_modes::{InvalidPackets, Iptables};
use testkit::lab::Unable;
use testkit::{
    Rendered, Replayed, Scenario, changes_text, golden, lab, packet_checks, rendered, replayed, state_text,
};

const MODE: Iptables = Iptables { invalid_packets: InvalidPackets::Drop };

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of the time the lab waits for packets that do not come.
    arguments.test_threads.get_or_insert(6);
    let scenarios = Scenario::all().expect("the folder scenarios is there");
    let trials = scenarios.into_iter().flat_map(|(name, scenario)| match scenario {
        Ok(scenario) => trials(scenario),
        Err(error) => vec![Trial::test(name, move || Err(Failed::from(error.to_string())))],
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A scenario with what several of its tests need, made when it is first needed.
struct Play {
    scenario: Scenario,
    steps: OnceLock<Result<Vec<Replayed>, String>>,
    iptables: OnceLock<Result<Vec<Vec<Rendered<Xtables>>>, String>>,
}

impl Play {
    fn steps(&self) -> Result<&[Replayed], String> {
        let steps = self.steps.get_or_init(|| replayed(&self.scenario).map_err(|error| error.to_string()));
        steps.as_deref().map_err(Clone::clone)
    }

    fn iptables(&self) -> Result<&[Vec<Rendered<Xtables>>], String> {
        let rendered = self.iptables.get_or_init(|| rendered(MODE, self.steps()?));
        rendered.as_deref().map_err(Clone::clone)
    }
}

type Reading = fn(&Play) -> Result<(), String>;

const READINGS: [(&str, Reading); 4] = [
    ("plan golden", plan_golden),
    ("plan packets", |play| packet_checks::by_plan(&play.scenario, play.steps()?)),
    ("iptables golden", iptables_golden),
    ("iptables packets", |play| packet_checks::by_xtables(&play.scenario, "iptables", play.iptables()?)),
];

fn trials(scenario: Scenario) -> Vec<Trial> {
    let name = scenario.name.clone();
    let play = Arc::new(Play { scenario, steps: OnceLock::new(), iptables: OnceLock::new() });
    let trial = |(title, reading): (&str, Reading)| {
        let play = Arc::clone(&play);
        Trial::test(format!("{name}::{title}"), move || reading(&play).map_err(Failed::from))
    };
    let mut trials: Vec<Trial> = READINGS.into_iter().map(trial).collect();
    let unable = lab::unable(&play.scenario);
    let lab = trial(("iptables lab", |play| lab::run_iptables(&play.scenario, play.steps()?, MODE)));
    trials.push(lab.with_ignored_flag(unable.contains(&Unable::NeedsRoot)));
    trials.extend(unable.into_iter().map(|reason| skipped(&name, reason)));
    trials
}

/// A test that cannot run here says so by its name.
fn skipped(name: &str, reason: Unable) -> Trial {
    let reason = match reason {
        Unable::NeedsRoot => "making network namespaces needs root",
        Unable::NoSctpSockets => "the lab's kernel has no SCTP sockets",
    };
    Trial::test(format!("{name}::iptables lab skipped: {reason}"), || Ok(())).with_ignored_flag(true)
}

fn plan_golden(play: &Play) -> Result<(), String> {
    goldens(play, "plan", |position| Ok(play.steps()?[position].plan_text()))
}

fn iptables_golden(play: &Play) -> Result<(), String> {
    goldens(play, "iptables", |position| {
        let (steps, rendered) = (play.steps()?, play.iptables()?);
        Ok(match position {
            0 => state_text(&steps[0], &rendered[0]),
            later => changes_text(&rendered[later]),
        })
    })
}

/// Compares each step's text with its golden; all of them, so that blessing blesses all.
fn goldens(play: &Play, kind: &str, text: impl Fn(usize) -> Result<String, String>) -> Result<(), String> {
    let mut differences = Vec::new();
    for (position, step) in play.scenario.steps.iter().enumerate() {
        let path = play.scenario.directory.join(format!("{}.{kind}.txt", step.stem));
        differences.extend(golden::check(&path, &text(position)?).err());
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}
