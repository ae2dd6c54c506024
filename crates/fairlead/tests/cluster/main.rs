//! `fairlead proxy` in a cluster: a real API server, several nodes, and kubectl as a user has it.
//!
//! Each node is a network namespace with a proxy of its own, and so is what they all reach the server through. The
//! acts use one cluster, one after another, since it takes a while to come up; each has objects of its own.

mod acts;
mod assets;
mod bulk;
mod cluster;
mod credentials;
mod deployed;
mod kubelet;
mod narrow;
mod node;
mod refusals;
mod swap;
mod telling;
#[path = "../command_line/web.rs"]
mod web;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};

use assets::Assets;
use cluster::Cluster;

/// The cluster, once the first act needed it.
type Shared = Arc<Mutex<Stage>>;

#[derive(Default)]
enum Stage {
    #[default]
    Empty,
    /// It did not start, so nothing can be played.
    Broken,
    Set(Box<Cluster>),
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share one cluster, and the last ones break it.
    arguments.test_threads = Some(1);
    let missing = Assets::missing();
    let shared = Shared::default();
    let trials = acts::ALL.iter().map(|(name, act)| {
        let shared = Arc::clone(&shared);
        let title = match &missing {
            None => (*name).to_owned(),
            Some(missing) => format!("{name} skipped: needs {missing}"),
        };
        Trial::test(title, move || played(&shared, *act)).with_ignored_flag(missing.is_some())
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    drop(shared);
    conclusion.exit_code()
}

fn played(shared: &Shared, act: fn(&mut Cluster)) -> Result<(), Failed> {
    // An act that failed left the cluster whole enough for the next to fail for its own reason.
    let mut stage: MutexGuard<'_, _> = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*stage, Stage::Empty) {
        *stage = Stage::Broken;
        *stage = Stage::Set(Box::new(Cluster::start()));
    }
    match &mut *stage {
        Stage::Set(cluster) => act(cluster),
        Stage::Empty | Stage::Broken => return Err("the cluster did not start".into()),
    }
    Ok(())
}
