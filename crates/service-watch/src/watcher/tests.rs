use super::*;

/// A watcher of a directory alone.
fn watcher(directory: &Path) -> Watcher {
    let mut watcher = Watcher::new().unwrap();
    let ((), blind) = watcher.renew(directory, |notice| notice(directory));
    assert_eq!(blind, None);
    watcher
}

#[test]
fn nothing_happens_until_patience_is_over() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = watcher(root.path());
    fs::write(root.path().join("no-manifest"), "").unwrap();
    fs::write(root.path().join(".hidden.yaml"), "").unwrap();
    assert_eq!(watcher.wait(Some(Duration::from_millis(50))), Ok(Noticed::anything()));
}

#[test]
fn a_closed_file_is_noticed_by_name() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = watcher(root.path());
    let path = root.path().join("a.yaml");
    fs::write(&path, "").unwrap();
    let files = BTreeSet::from([Arc::from(path.as_os_str())]);
    assert_eq!(watcher.wait(None), Ok(Noticed { files, ..Noticed::default() }));
}

#[test]
fn events_that_were_lost_mean_anything() {
    let root = tempfile::tempdir().unwrap();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 100_000 {
        eprintln!("skipped events_that_were_lost_mean_anything: this kernel would queue {limit} events");
        return;
    }
    let mut watcher = watcher(root.path());
    for number in 0..=limit {
        // One event at least, and never the same twice in a row, which the kernel would merge.
        fs::write(root.path().join((number % 2).to_string()), "").unwrap();
    }
    let noticed = watcher.wait(None).unwrap();
    assert_eq!(noticed.anything, Anything::All);
}

#[test]
fn a_stop_ends_the_wait() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = watcher(root.path());
    rustix::io::write(watcher.stop(), &1_u64.to_ne_bytes()).unwrap();
    assert_eq!(watcher.wait(None), Err(Stopped));
}
