//! `up` in the background.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kernel_io::process::Launch;

use crate::state::{self, Place};
use crate::{Snapshot, UpError};

/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(50);

/// Starts a command, which shall be `up`, in a session of its own; its logs go to a file. Returns when everything is as
/// the files want it, or cannot be for now: the problems are in what is answered.
pub fn detach(mut command: Command, root: &Path) -> Result<Snapshot, UpError> {
    let place = Place::of(root);
    if let Some(pid) = place.holder() {
        return Err(UpError::Busy { root: root.to_path_buf(), pid });
    }
    let log = place.log();
    let parent = log.parent().unwrap_or(root);
    fs::create_dir_all(parent).map_err(state::failed("make", parent))?;
    let _ = fs::remove_file(place.shown()); // that of an earlier one, if there is one
    let file = File::create(&log).map_err(state::failed("make", &log))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let started = Launch::new(command).in_own_session().start();
    let started = started.map_err(|error| UpError::Ended(error.to_string()))?;
    loop {
        if let Some(status) = started.process.ended() {
            let told = fs::read_to_string(&log).unwrap_or_default();
            let last = told.lines().last().map_or_else(|| status.to_string(), str::to_owned);
            return Err(UpError::Ended(last));
        }
        if let Some(snapshot) = state::read::<Snapshot>(&place.shown())?
            && (snapshot.settled || !snapshot.problems.is_empty())
        {
            return Ok(snapshot);
        }
        thread::sleep(LOOK);
    }
}
