//! Each step fails once, and nothing is left behind.

use pod_sandbox::{Kernel, Linux, SandboxSpec, Step, StepError, run, steps};

use crate::world::{Traces, linux, node, spec};

/// The real kernel, save that one step fails.
struct Faulty<'a> {
    inner: Linux,
    until_failure: usize,
    traces: &'a mut Traces,
}

impl Kernel for Faulty<'_> {
    fn apply(&mut self, step: &Step) -> Result<(), StepError> {
        if self.until_failure == 0 {
            return Err(StepError::TooEarly { missing: "luck" });
        }
        self.until_failure -= 1;
        self.inner.apply(step)?;
        if let Step::StartPause { .. } = step {
            self.traces.note(self.inner.pause().expect("it was started").pid());
        }
        Ok(())
    }

    fn undo(&mut self, step: &Step) -> Result<(), StepError> {
        self.inner.undo(step)
    }
}

#[test]
fn whichever_step_fails_nothing_is_left_behind() {
    let node = node();
    let count = steps(&spec(2)).len();
    for place in 0..count {
        let spec = spec(2);
        let steps = steps(&spec);
        let expected = steps[place].clone();
        let mut traces = Traces::named(&spec);
        let faulty = Faulty { inner: linux(&node), until_failure: place, traces: &mut traces };
        let error = run(steps, faulty).map(drop).expect_err("one step fails");
        assert_eq!(*error.step, expected);
        assert!(error.left.0.is_empty(), "{error}");
        traces.assert_gone(&node);
    }
}

#[test]
fn what_the_kernel_itself_refuses_leaves_nothing_behind() {
    let node = node();
    let wrong: [fn(&mut SandboxSpec); 4] = [
        |spec| spec.pause = "/no/such/pause".into(),
        |spec| spec.hostname = "x".repeat(65),
        |spec| spec.sysctls.extend([("net.ipv4.ip_forward".to_owned(), "maybe".to_owned())]),
        |spec| spec.name = format!("{}/../up", spec.name),
    ];
    for change in wrong {
        let mut spec = spec(2);
        let traces = Traces::named(&spec);
        change(&mut spec);
        let error = run(steps(&spec), linux(&node)).map(drop).expect_err("refused");
        assert!(error.left.0.is_empty(), "{error}");
        traces.assert_gone(&node);
    }
}
