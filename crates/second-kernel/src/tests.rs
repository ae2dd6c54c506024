use super::*;

fn shell(script: &str, limit: Duration) -> Boot {
    Boot::new("/bin/sh", limit).arguments(["-c", script])
}

const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn what_runs_there_is_told_by_its_status_and_its_words() {
    let mut told = Vec::new();
    let boot = shell("uname -r; test -e /proc/net/ip_vs; exit $((3 + $?))", LIMIT);
    let ended = boot.run_telling(|printed| told.extend_from_slice(printed)).expect("it boots");
    assert_eq!(ended.status, 3, "{}", ended.output);
    assert_eq!(told, ended.output.as_bytes());
    assert!(modules().expect("installed").ends_with(ended.output.trim()), "{}", ended.output);
}

#[test]
fn a_kernel_that_ends_early_is_an_error() {
    let ended = shell("echo so far; halt -f", LIMIT).run();
    assert!(matches!(ended, Err(BootError::NoResult { said }) if said.contains("so far")));
}

#[test]
fn a_kernel_that_takes_too_long_is_ended() {
    let ended = shell("sleep 600", Duration::from_secs(2)).run();
    assert!(matches!(ended, Err(BootError::TooSlow { .. })));
}
