//! Needs root: makes namespaces, and nothing outside them.

use std::fs;

use super::{Namespace, Namespaces, in_own_thread, unshare};

#[test]
fn a_host_name_set_inside_stays_inside() {
    let ours = rustix::system::uname().nodename().to_owned();
    let inside = in_own_thread(|| {
        unshare(&[Namespace::Uts]).expect("a UTS namespace");
        rustix::system::sethostname(b"inside").expect("set");
        rustix::system::uname().nodename().to_owned()
    });
    assert_eq!(inside.expect("a thread").to_str(), Ok("inside"));
    assert_eq!(rustix::system::uname().nodename(), ours.as_c_str());
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
