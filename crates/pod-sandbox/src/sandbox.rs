//! Doing the steps, and what comes of it.

use std::fmt;
use std::process::{Command, ExitStatus};

use kernel_io::netns::Netns;
use kernel_io::process::{Launch, Process, Started};
use thiserror::Error;

use crate::kernel::{Kernel, StepError};
use crate::linux::Linux;
use crate::steps::Step;

/// Does the steps in order; when one fails, undoes backwards those that were done.
pub fn run<K: Kernel>(steps: Vec<Step>, kernel: K) -> Result<Sandbox<K>, RunError> {
    let mut sandbox = Sandbox { kernel, done: Vec::with_capacity(steps.len()) };
    for step in steps {
        if let Err(cause) = sandbox.kernel.apply(&step) {
            let left = Left(sandbox.undo());
            sandbox.done.clear(); // told in the error; one try is enough
            return Err(RunError { step: Box::new(step), cause: Box::new(cause), left });
        }
        sandbox.done.push(step);
    }
    Ok(sandbox)
}

/// A sandbox that stands. Dropping it removes it.
#[derive(Debug)]
pub struct Sandbox<K: Kernel = Linux> {
    kernel: K,
    done: Vec<Step>,
}

/// A step that failed. Everything done before it is undone, save what `left` names.
#[derive(Debug, Error)]
#[error("{step}{left}")]
pub struct RunError {
    /// The step.
    pub step: Box<Step>,
    /// Why it failed.
    #[source]
    pub cause: Box<StepError>,
    /// What could not be undone.
    pub left: Left,
}

/// Something of a sandbox could not be removed; the rest is.
#[derive(Debug, Error)]
#[error("remove the sandbox{left}")]
pub struct RemoveError {
    /// What could not be undone.
    pub left: Left,
}

/// Steps that could not be undone, and why, in the order in which it was tried.
#[derive(Debug, Default)]
pub struct Left(pub Vec<(Step, StepError)>);

impl<K: Kernel> Sandbox<K> {
    /// Undoes everything backwards. What fails is kept for another call, and does not keep the rest from being
    /// undone.
    pub fn remove(&mut self) -> Result<(), RemoveError> {
        match self.undo() {
            left if left.is_empty() => Ok(()),
            left => Err(RemoveError { left: Left(left) }),
        }
    }

    fn undo(&mut self) -> Vec<(Step, StepError)> {
        let mut left = Vec::new();
        for step in std::mem::take(&mut self.done).into_iter().rev() {
            if let Err(error) = self.kernel.undo(&step) {
                left.push((step, error));
            }
        }
        self.done = left.iter().rev().map(|(step, _)| step.clone()).collect();
        left
    }
}

impl Sandbox<Linux> {
    /// The process that holds the pod. With a shared PID namespace the whole pod ends with it.
    pub fn pause(&self) -> Result<&Process, StepError> {
        self.kernel.pause().ok_or(StepError::TooEarly { missing: "process that holds the pod" })
    }

    /// How the process that holds the pod ended, if it has; the sandbox is then of no more use than to be removed.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.kernel.pause().and_then(Process::ended)
    }

    /// The pod's network namespace, or the node's if the pod has none of its own.
    pub fn netns(&self) -> Result<&Netns, StepError> {
        self.kernel.netns().ok_or(StepError::TooEarly { missing: "network namespace" })
    }

    /// Starts a process inside the pod: in its namespaces and its cgroup.
    pub fn join(&self, command: Command) -> Result<Started, StepError> {
        Ok(self.launch(command)?.start()?)
    }

    /// A command made ready to start inside the pod, for those who want to add something.
    pub fn launch(&self, command: Command) -> Result<Launch, StepError> {
        self.kernel.launch(command)
    }

    /// The processes of the pod, `pause` among them, by the numbers that we see.
    pub fn processes(&self) -> Result<Vec<u32>, StepError> {
        let cgroup = self.kernel.cgroup().ok_or(StepError::TooEarly { missing: "cgroup" })?;
        Ok(cgroup.pids()?)
    }
}

impl<K: Kernel> Drop for Sandbox<K> {
    fn drop(&mut self) {
        // Nobody is there to be told; whoever wants to know calls `remove` first.
        self.undo();
    }
}

impl fmt::Display for Left {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, error) in &self.0 {
            write!(formatter, "; not undone: {step} ({error})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
