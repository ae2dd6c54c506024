//! How a holder is spoken to: a socket in the pod's directory, a line each way.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::warn;

use super::{Shared, Stop};
use crate::error::{PodError, file};

/// How long a caller may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens until the holder ends.
pub(super) fn listen(shared: &Arc<Shared>) -> Result<JoinHandle<()>, PodError> {
    let path = shared.directory.socket();
    let _ = fs::remove_file(&path); // that of an earlier holder, if there is one
    let listener = reachable(&path, |path| UnixListener::bind(path)).map_err(file("listen at", &path))?;
    let own = Arc::clone(shared);
    let thread = thread::Builder::new().name("control".to_owned()).stack_size(super::STACK);
    let work = move || {
        for caller in listener.incoming().flatten() {
            if let Err(error) = answered(&own, &caller) {
                warn!(%error, "caller not answered");
            }
        }
    };
    thread.spawn(work).map_err(file("start a thread for", &path))
}

/// Tells the holder of a pod to stop it, within this many seconds or the pod's own.
pub(crate) fn stop(path: &Path, grace: Option<u32>) -> std::io::Result<()> {
    let mut stream = reachable(path, |path| UnixStream::connect(path))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let grace = grace.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string());
    stream.write_all(format!("stop {grace}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer == "ok\n" { Ok(()) } else { Err(std::io::Error::other(format!("answered {answer:?}"))) }
}

fn answered(shared: &Shared, mut caller: &UnixStream) -> std::io::Result<()> {
    caller.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(caller.take(64)).read_line(&mut line)?;
    let words: Vec<_> = line.split_whitespace().collect();
    let grace = match words.as_slice() {
        ["stop", "-"] => Some(shared.pod.spec.grace),
        ["stop", seconds] => seconds.parse().ok(),
        _ => None,
    };
    let Some(grace) = grace else { return caller.write_all(b"not understood\n") };
    let deadline = Instant::now() + Duration::from_secs(u64::from(grace));
    shared.change(|inner| {
        inner.status.terminating = true;
        // Who asks again may shorten the time, never lengthen it.
        let stop = inner.stop.get_or_insert(Stop { deadline, reason: None });
        stop.deadline = stop.deadline.min(deadline);
    });
    caller.write_all(b"ok\n")
}

/// A socket's path may have 107 bytes at most; by way of its directory's descriptor it always has fewer.
fn reachable<T>(path: &Path, reach: impl FnOnce(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    reach(&PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}
