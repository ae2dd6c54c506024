//! On a fake kernel that writes down what it is asked for and fails on demand.

use std::collections::BTreeSet;

use super::{make, unmake};
use crate::spec::{Network, PidSharing, PodName, SandboxSpec, Whose};
use crate::{Kernel, Known, Record, Stage, Step, StepError, Trace, Wiring};

struct Fake {
    record: Record,
    log: Vec<String>,
    refuse: BTreeSet<&'static str>,
}

impl Fake {
    /// Of a pod that has nothing of its own but what all have, so that its steps are few.
    fn refusing(refuse: &[&'static str]) -> Self {
        let spec = SandboxSpec {
            network: Network::Node,
            ipc: Whose::Node,
            pids: PidSharing::Node,
            ..SandboxSpec::new("web", PodName::default())
        };
        let (traces, known) = (Vec::new(), Known::default());
        let record = Record { spec, traces, known, stage: Stage::Making, boot: String::new() };
        Self { record, log: Vec::new(), refuse: refuse.iter().copied().collect() }
    }

    fn note(&mut self, line: String) -> Result<(), StepError> {
        let refused = self.refuse.contains(line.as_str());
        self.log.push(line);
        if refused { Err(StepError::Ended { status: "bad luck".to_owned() }) } else { Ok(()) }
    }
}

impl Kernel for Fake {
    fn record(&self) -> &Record {
        &self.record
    }

    fn wiring(&self) -> Wiring {
        Wiring::Routed
    }

    fn begin(&mut self, trace: Trace) -> Result<(), StepError> {
        self.note(format!("begin {trace}"))?;
        self.record.traces.push(trace);
        Ok(())
    }

    fn apply(&mut self, step: &Step) -> Result<(), StepError> {
        self.note(format!("do {step}"))
    }

    fn undo(&mut self, trace: &Trace) -> Result<(), StepError> {
        self.note(format!("undo {trace}"))
    }

    fn finish(&mut self) -> Result<(), StepError> {
        self.note("finish".to_owned())
    }

    fn leave(&mut self) -> Result<(), StepError> {
        self.note("leave".to_owned())
    }

    fn forget(&mut self) -> Result<(), StepError> {
        self.note("forget".to_owned())
    }
}

const MADE: [&str; 9] = [
    "begin cgroup",
    "do make the cgroup",
    "do limit the cgroup",
    "begin memory for /dev/shm",
    "do mount 67108864 bytes for /dev/shm",
    "do write hosts, hostname and resolv.conf",
    "begin processes",
    "do admit processes",
    "finish",
];

#[test]
fn what_leaves_a_trace_is_noted_before_it_is_done_and_undone_backwards() {
    let mut fake = Fake::refusing(&[]);
    make(&mut fake).expect("made");
    assert_eq!(fake.log, MADE);
    fake.log.clear();
    unmake(&mut fake).expect("removed");
    assert_eq!(fake.log, ["leave", "undo processes", "undo memory for /dev/shm", "undo cgroup", "forget"]);
}

#[test]
fn a_step_that_fails_is_undone_itself_since_it_may_be_half_done() {
    let mut fake = Fake::refusing(&[MADE[4]]);
    let error = make(&mut fake).expect_err("it fails");
    assert_eq!(fake.log[..5], MADE[..5]);
    assert_eq!(fake.log[5..], ["undo memory for /dev/shm", "undo cgroup", "forget"]);
    let expected =
        "sandbox web: mount 67108864 bytes for /dev/shm: pause ended as soon as it was started: bad luck";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_undo_that_fails_is_told_and_the_rest_is_undone_and_nothing_forgotten() {
    let mut fake = Fake::refusing(&[MADE[5], "undo memory for /dev/shm"]);
    let error = make(&mut fake).expect_err("it fails").to_string();
    assert_eq!(fake.log[6..], ["undo memory for /dev/shm", "undo cgroup"]);
    assert!(error.contains("; not undone: memory for /dev/shm (pause ended"), "{error}");
    (fake.refuse, fake.log) = (BTreeSet::new(), Vec::new());
    unmake(&mut fake).expect("another try");
    assert_eq!(fake.log, ["leave", "undo memory for /dev/shm", "undo cgroup", "forget"]);
}

#[test]
fn what_cannot_be_noted_is_not_done() {
    let mut fake = Fake::refusing(&[MADE[3]]);
    make(&mut fake).expect_err("it fails");
    assert_eq!(fake.log[4..], ["undo cgroup", "forget"]);
}
