//! A step's packets, read against its plan and against the rules of a mode.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use kernel_state::listeners::Listeners;
use kernel_state::nft::Nft;
use kernel_state::xtables::Xtables;
use kernel_state::{Objects, State, Sum};
use packet_trace::ipvs::ServerReader;
use packet_trace::nft::TableReader;
use packet_trace::plan::PlanReader;
use packet_trace::xtables::RuleReader;
use packet_trace::{Host, Outcome, Packet, Puzzle};
use proxy_modes::{IpvsObjects, Userspace, UserspaceObjects};
use service_plan::Family;

use crate::lab::Kept;
use crate::{Expectation, Heavier, Rendered, Replayed, Scenario, of_mode};

/// Whether the plans say of each packet what the scenario says.
pub fn by_plan(scenario: &Scenario, steps: &[Replayed]) -> Result<(), String> {
    let host = scenario.stage.host();
    let mut wrong = Wrong::default();
    for (step, replayed) in scenario.steps.iter().zip(steps) {
        for expectation in step.packets.iter().filter(|each| each.mode.is_none()) {
            let family = Family::of(expectation.packet.to.ip());
            let Some(planned) = replayed.families.iter().find(|each| each.family == family) else { continue };
            let reader = PlanReader { node: planned.node(), services: &planned.services, host: &host };
            wrong.compare(&step.stem, expectation, reader.outcome(&expectation.packet));
        }
    }
    wrong.told()
}

/// Whether iptables rules do with each packet what the scenario says, and whether their chances are as it says.
pub fn by_xtables(scenario: &Scenario, rendered: &[Vec<Rendered<Xtables>>]) -> Result<(), String> {
    by_state(scenario, "iptables", rendered, |state, host, packet| {
        let reader = RuleReader::new(state, host);
        (reader.outcome(packet), reader.shares(packet))
    })
}

/// Whether an nftables table, and the listeners beside it, do with each packet what the scenario says, and whether the
/// table's chances are as it says.
pub fn by_nft(scenario: &Scenario, rendered: &[Vec<Rendered<Sum<Listeners, Nft>>>]) -> Result<(), String> {
    by_state(scenario, "nftables", rendered, |state, host, packet| {
        let (listeners, table) = state.parts();
        let reader = TableReader::new(&table, host).with_listeners(&listeners);
        (reader.outcome(packet), reader.shares(packet))
    })
}

/// Whether virtual servers, and the rules around them, do with each packet what the scenario says.
pub fn by_servers(scenario: &Scenario, rendered: &[Vec<Rendered<IpvsObjects>>]) -> Result<(), String> {
    by_state(scenario, "ipvs", rendered, |state, host, packet| {
        // Who gets how much is the scheduler's affair.
        (ServerReader::new(state, host).outcome(packet), Ok(BTreeMap::new()))
    })
}

type Told = (Result<Outcome, Puzzle>, Result<BTreeMap<SocketAddr, f64>, Puzzle>);

fn by_state<O: Objects>(
    scenario: &Scenario,
    mode: &str,
    rendered: &[Vec<Rendered<O>>],
    read: impl Fn(&State<O>, &Host, &Packet) -> Told,
) -> Result<(), String> {
    let host = scenario.stage.host();
    let mut wrong = Wrong::default();
    for (step, families) in scenario.steps.iter().zip(rendered) {
        for expectation in of_mode(&step.packets, mode) {
            let family = Family::of(expectation.packet.to.ip());
            let Some(rendered) = families.iter().find(|each| each.family == family) else { continue };
            let (outcome, shares) = read(&rendered.state, &host, &expectation.packet);
            wrong.compare(&step.stem, expectation, outcome);
            if let Err(message) = shares.map_or(Ok(()), |shares| fair(&shares, &expectation.heavier)) {
                wrong.note(&step.stem, expectation, &message);
            }
        }
    }
    wrong.told()
}

/// Whether rules and listeners of the userspace mode do with each packet what the scenario says.
pub fn by_listeners(
    scenario: &Scenario,
    rendered: &[Vec<Rendered<UserspaceObjects>>],
    mode: Userspace,
) -> Result<(), String> {
    let mut scenario = scenario.clone();
    for step in &mut scenario.steps {
        step.packets = mode.packets(&step.packets, &scenario.stage);
    }
    by_state(&scenario, "userspace", rendered, |state, host, packet| {
        let (_, rest) = state.parts();
        let (listeners, rules) = rest.parts();
        let reader = RuleReader::new(&rules, host).with_listeners(&listeners);
        // Who takes turns has no chances.
        (reader.outcome(packet), Ok(BTreeMap::new()))
    })
}

/// Each endpoint gets its share of new clients, within what ten decimals can say.
fn fair(shares: &BTreeMap<SocketAddr, f64>, heavier: &Heavier) -> Result<(), String> {
    let weight = |endpoint: &SocketAddr| f64::from(heavier.get(endpoint).copied().unwrap_or(1));
    let all: f64 = shares.keys().map(weight).sum();
    for (endpoint, share) in shares {
        let fair = weight(endpoint) / all;
        if (share - fair).abs() > 1e-6 {
            return Err(format!("{endpoint} gets {share} instead of {fair}"));
        }
    }
    Ok(())
}

/// What is not as the scenario says, by file and line.
#[derive(Default)]
pub(crate) struct Wrong(String);

impl Wrong {
    pub(crate) fn compare(
        &mut self,
        stem: &str,
        expectation: &Expectation,
        outcome: Result<Outcome, Puzzle>,
    ) {
        match outcome {
            Ok(outcome) if outcome == expectation.outcome => {}
            Ok(outcome) => self.note(stem, expectation, &format!("is {outcome}")),
            Err(puzzle) => self.note(stem, expectation, &puzzle.to_string()),
        }
    }

    pub(crate) fn note(&mut self, stem: &str, expectation: &Expectation, message: &str) {
        let Expectation { line, packet, outcome, .. } = expectation;
        writeln!(self.0, "{stem}.packets:{line}: {packet}\n  should be {outcome}\n  {message}")
            .expect("writing to a String cannot fail");
    }

    pub(crate) fn told(self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}
