//! Needs root: makes namespaces, and nothing outside them.

use std::fs;

use super::{Namespace, Namespaces, in_own_thread, unshare};

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn new_uts() -> Namespaces {
    let thread = in_own_thread(|| {
        unshare(&[Namespace::Uts]).expect("a UTS namespace");
        let file = fs::File::open("/proc/thread-self/ns/uts").expect("opened");
        Namespaces(vec![(Namespace::Uts, file.into())])
    });
    thread.expect("a thread")
}

#[test]
fn a_host_name_set_inside_stays_inside() {
    let ours = hostname();
    let uts = new_uts();
    uts.set_hostname("inside").expect("set");
    assert_eq!(uts.run(hostname).expect("entered"), "inside");
    assert_eq!(hostname(), ours);
}

#[test]
fn a_host_name_that_is_too_long_or_would_be_ours_is_refused() {
    let error = new_uts().set_hostname(&"x".repeat(65)).expect_err("64 is the most");
    assert!(error.to_string().starts_with("set the host name to \"xxx"), "{error}");
    Namespaces::default().set_hostname("ours").expect_err("that would be this machine's");
}

#[test]
fn work_runs_in_the_namespaces_of_a_process_mounts_included() {
    let all = [Namespace::Mount, Namespace::Net, Namespace::Ipc, Namespace::Uts];
    let held = Namespaces::of_process(std::process::id(), &all).expect("our own");
    let link = held.run(|| fs::read_link("/proc/thread-self/ns/mnt")).expect("entered").expect("read");
    assert_eq!(link, fs::read_link("/proc/self/ns/mnt").expect("read"));
}

#[test]
fn a_process_that_is_gone_is_named() {
    let error = Namespaces::of_process(u32::MAX, &[Namespace::Pid]).expect_err("no such process");
    assert_eq!(error.to_string(), "open the PID namespace of process 4294967295");
}
