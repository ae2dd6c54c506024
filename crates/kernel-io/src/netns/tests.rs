//! Needs root: makes network namespaces, and nothing outside them.

use std::process::Command;

use super::{Loopback, Netns};
use crate::link::{LinkState, Links};

#[test]
fn a_new_namespace_has_loopback_up_and_nothing_else() {
    let netns = Netns::new().expect("a namespace");
    let links = Links::of(&netns).and_then(|mut links| links.list()).expect("its links");
    assert_eq!(links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["lo"]);
    assert_eq!(links[0].state, LinkState::Running);
}

#[test]
fn loopback_stays_down_on_demand() {
    let netns = Netns::create(Loopback::Down).expect("a namespace");
    let lo = Links::of(&netns).and_then(|mut links| links.get("lo")).expect("loopback");
    assert_eq!(lo.state, LinkState::Down);
}

#[test]
fn work_runs_inside_and_its_result_comes_back() {
    let netns = Netns::new().expect("a namespace");
    let inside = netns.run(Netns::current).expect("entered").expect("opened");
    assert_eq!(inside, netns);
    assert_ne!(Netns::current().expect("our own"), netns);
}

#[test]
fn a_child_process_is_in_the_namespace() {
    let netns = Netns::new().expect("a namespace");
    let mut child =
        netns.run(|| Command::new("sleep").arg("60").spawn().expect("sleep starts")).expect("entered");
    let found = Netns::of_process(child.id());
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert_eq!(found.expect("its namespace"), netns);
}

#[test]
#[should_panic(expected = "from inside")]
fn a_panic_inside_goes_on_outside() {
    let netns = Netns::new().expect("a namespace");
    let _ = netns.run(|| panic!("from inside"));
}

#[test]
fn a_process_that_is_gone_is_named() {
    let error = Netns::of_process(u32::MAX).expect_err("no such process");
    assert_eq!(error.to_string(), "open the network namespace /proc/4294967295/ns/net");
}
