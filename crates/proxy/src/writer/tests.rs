//! The writer's thread over a kernel in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use kernel_state::Change;
use kernel_state::xtables::Xtables;
use proxy_modes::{InvalidPackets, Iptables};
use service_plan::{Facts, plan};
use testkit::{FakeTarget, Fault, FaultyTarget};

use super::*;
use crate::reconciler::Reconciler;
use crate::samples::{facts, service};

/// The plan of a new Service that nothing serves, so that its cluster IP is rejected.
fn plan_of(facts: &mut Facts, name: &str, cluster_ip: &str) -> Planned {
    let touched = facts.apply(service(name, cluster_ip));
    Planned { plan: plan(facts, &touched, Family::V4).0, lists: Listed::Yes }
}

/// Waits for what must come, however slow the machine.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < give_up, "{what} within a minute");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_was_refused_is_tried_again_also_when_other_plans_keep_coming() {
    let kernel: FakeTarget<Xtables> = FakeTarget::new();
    let refusing = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&refusing);
    let refuse = move |change: &Change<Xtables>| {
        let refused = asked.load(Ordering::Relaxed) && format!("{change:?}").contains("10.0.0.1");
        refused.then_some(Fault::Refused)
    };
    let mode = Iptables { invalid_packets: InvalidPackets::Drop };
    let mut reconciler = Reconciler::new(mode, FaultyTarget::new(kernel.clone(), refuse));
    let (sender, plans) = mpsc::channel();
    let writer = thread::spawn(move || {
        write_plans(Family::V4, &mut reconciler, &plans, &Pace::of(Duration::from_millis(10)), || {});
    });
    let has = |address: &str| kernel.state().to_string().contains(address);
    let mut facts = facts();
    sender.send(plan_of(&mut facts, "refused", "10.0.0.1")).expect("the writer listens");
    sender.send(plan_of(&mut facts, "other", "10.0.0.2")).expect("the writer listens");
    until("the other Service is served", || has("10.0.0.2"));
    assert!(!has("10.0.0.1"));
    refusing.store(false, Ordering::Relaxed);
    let mut number = 0;
    until("the refused Service is served", || {
        number = (number + 1) % 250;
        let name = format!("late-{number}");
        sender.send(plan_of(&mut facts, &name, &format!("10.0.1.{number}"))).expect("the writer listens");
        has("10.0.0.1")
    });
    drop(sender);
    writer.join().expect("the writer ends with its channel");
}

#[test]
fn what_a_stranger_changed_is_undone_without_a_new_plan() {
    let kernel: FakeTarget<Xtables> = FakeTarget::new();
    let mode = Iptables { invalid_packets: InvalidPackets::Drop };
    let mut reconciler = Reconciler::new(mode, kernel.clone());
    let (sender, plans) = mpsc::channel();
    let writer = thread::spawn(move || {
        write_plans(Family::V4, &mut reconciler, &plans, &Pace::of(Duration::ZERO), || {});
    });
    sender.send(plan_of(&mut facts(), "web", "10.0.0.1")).expect("the writer listens");
    until("the Service is served", || kernel.state().to_string().contains("10.0.0.1"));
    let whole = kernel.state();
    for (key, value) in whole.iter() {
        kernel.meddle(&Change::Drop { key: key.clone(), value: value.clone() });
        until("the object is back", || kernel.state() == whole);
    }
    drop(sender);
    writer.join().expect("the writer ends with its channel");
}

#[test]
fn what_is_planned_before_the_lists_are_whole_is_written_with_them() {
    let kernel: FakeTarget<Xtables> = FakeTarget::new();
    let mode = Iptables { invalid_packets: InvalidPackets::Drop };
    let mut reconciler = Reconciler::new(mode, kernel.clone());
    let (sender, plans) = mpsc::channel();
    let mut facts = facts();
    let early = Planned { lists: Listed::NotYet, ..plan_of(&mut facts, "early", "10.0.0.1") };
    let writer = thread::spawn(move || {
        write_plans(Family::V4, &mut reconciler, &plans, &Pace::of(Duration::ZERO), || {});
        reconciler
    });
    sender.send(early).expect("the writer listens");
    drop(sender);
    let mut reconciler = writer.join().expect("the writer ends with its channel");
    assert!(kernel.state().is_empty(), "{}", kernel.state());
    let (sender, plans) = mpsc::channel();
    sender.send(plan_of(&mut facts, "late", "10.0.0.2")).expect("it is kept");
    drop(sender);
    write_plans(Family::V4, &mut reconciler, &plans, &Pace::of(Duration::ZERO), || {});
    let written = kernel.state().to_string();
    assert!(written.contains("10.0.0.1") && written.contains("10.0.0.2"), "{written}");
}
