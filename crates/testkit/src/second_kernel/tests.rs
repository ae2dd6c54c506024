use super::*;

const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn what_runs_there_is_told_by_its_status_and_its_words() {
    let ended =
        run(Path::new("/bin/sh"), &["-c", "uname -r; test -e /proc/net/ip_vs; exit $((3 + $?))"], LIMIT);
    let ended = ended.expect("it boots");
    assert_eq!(ended.status, 3, "{}", ended.output);
    assert!(modules().expect("installed").ends_with(ended.output.trim()), "{}", ended.output);
}

#[test]
fn a_kernel_that_ends_early_is_an_error() {
    let ended = run(Path::new("/bin/sh"), &["-c", "echo so far; halt -f"], LIMIT);
    assert!(matches!(ended, Err(BootError::NoResult { said }) if said.contains("so far")));
}

#[test]
fn a_kernel_that_takes_too_long_is_ended() {
    let ended = run(Path::new("/bin/sh"), &["-c", "sleep 600"], Duration::from_secs(2));
    assert!(matches!(ended, Err(BootError::TooSlow { .. })));
}
