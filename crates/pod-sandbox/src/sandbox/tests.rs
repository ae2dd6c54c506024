//! On a fake kernel that writes down what it is asked for and fails on demand.

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;

use super::run;
use crate::{Kernel, Step, StepError};

#[derive(Clone, Default)]
struct Fake {
    log: Rc<RefCell<Vec<String>>>,
    refuse: Vec<&'static str>,
}

impl Fake {
    fn refusing(refuse: &[&'static str]) -> Self {
        Self { refuse: refuse.to_vec(), ..Self::default() }
    }

    fn take(&self) -> Vec<String> {
        self.log.take()
    }

    fn note(&self, line: String) -> Result<(), StepError> {
        let refused = self.refuse.contains(&line.as_str());
        self.log.borrow_mut().push(line);
        if refused { Err(StepError::TooEarly { missing: "mood" }) } else { Ok(()) }
    }
}

impl Kernel for Fake {
    fn apply(&mut self, step: &Step) -> Result<(), StepError> {
        self.note(format!("do {step}"))
    }

    fn undo(&mut self, step: &Step) -> Result<(), StepError> {
        self.note(format!("undo {step}"))
    }
}

fn three() -> Vec<Step> {
    ["a", "b", "c"].map(|name| Step::MakeCgroup { name: name.to_owned() }).to_vec()
}

const UNDONE: [&str; 3] = ["undo make cgroup c", "undo make cgroup b", "undo make cgroup a"];

#[test]
fn a_step_that_fails_undoes_backwards_what_was_done() {
    let fake = Fake::refusing(&["do make cgroup c"]);
    let error = run(three(), fake.clone()).map(drop).expect_err("c fails");
    let log = ["do make cgroup a", "do make cgroup b", "do make cgroup c", UNDONE[1], UNDONE[2]];
    assert_eq!(fake.take(), log);
    assert_eq!(error.to_string(), "make cgroup c");
    assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("there is no mood yet"));
}

#[test]
fn an_undo_that_fails_is_told_and_the_rest_is_undone() {
    let fake = Fake::refusing(&["do make cgroup c", "undo make cgroup b"]);
    let error = run(three(), fake.clone()).map(drop).expect_err("c fails");
    assert_eq!(fake.take()[3..], UNDONE[1..]);
    assert_eq!(error.to_string(), "make cgroup c; not undone: make cgroup b (there is no mood yet)");
}

#[test]
fn removing_undoes_everything_once() {
    let fake = Fake::default();
    let mut sandbox = run(three(), fake.clone()).expect("made");
    fake.take();
    sandbox.remove().expect("removed");
    sandbox.remove().expect("nothing is left to do");
    drop(sandbox);
    assert_eq!(fake.take(), UNDONE);
}

#[test]
fn dropping_removes() {
    let fake = Fake::default();
    let sandbox = run(three(), fake.clone()).expect("made");
    fake.take();
    drop(sandbox);
    assert_eq!(fake.take(), UNDONE);
}

#[test]
fn what_could_not_be_removed_is_tried_again() {
    let fake = Fake::refusing(&["undo make cgroup b"]);
    let mut sandbox = run(three(), fake.clone()).expect("made");
    fake.take();
    let error = sandbox.remove().expect_err("b stays");
    assert_eq!(error.to_string(), "remove the sandbox; not undone: make cgroup b (there is no mood yet)");
    assert_eq!(fake.take(), UNDONE);
    drop(sandbox);
    assert_eq!(fake.take(), ["undo make cgroup b"]);
}
