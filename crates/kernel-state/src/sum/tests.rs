//! A sum of two vocabularies is written in the order that its parts need.

use std::sync::Arc;

use super::{Either, Parts, Sum};
use crate::listeners::{self, Listener, Listeners, Transport};
use crate::xtables::{ChainName, Key, Rule, Rules, Table, Target, Xtables};
use crate::{Change, Objects, Owner, State, Tracker};

type Both = Sum<Listeners, Xtables>;

fn listener() -> listeners::Key {
    listeners::Key::new("default/web", Transport::Tcp)
}

fn both() -> State<Both> {
    let mut state = State::<Both>::new();
    let endpoints = Arc::from(["10.0.0.1:80".parse().unwrap()]);
    state.put(Either::First(listener()), Either::First(Listener { endpoints, ..Listener::default() }));
    let chain = Key::chain(Table::Nat, ChainName::of("KUBE-X"));
    let rules = Rules::from([Rule::new([], Target::Listener(listener()))]);
    state.put(Either::Then(chain), Either::Then(rules));
    state
}

fn written(changes: &[Change<Both>]) -> String {
    let mut text = String::new();
    Both::print_changes(changes, &mut text).unwrap();
    text
}

#[test]
fn a_listener_opens_before_rules_lead_to_it_and_closes_after_they_are_gone() {
    let owner = Owner::new(0, "web");
    let mut tracker = Tracker::<Both>::new();
    tracker.want(&owner, both());
    let opening = tracker.all_changes();
    assert_eq!(
        written(&opening),
        "open {tcp default/web} to 10.0.0.1:80\n*nat\n:KUBE-X - [0:0]\n-A KUBE-X -j DNAT --to-destination {tcp default/web}\nCOMMIT\n"
    );
    tracker.applied(&opening);
    tracker.want(&owner, State::new());
    assert_eq!(
        written(&tracker.all_changes()),
        "*nat\n:KUBE-X - [0:0]\n-X KUBE-X\nCOMMIT\nclose {tcp default/web}\n"
    );
}

#[test]
fn the_parts_follow_one_another_in_the_order_of_the_changes() {
    let mut tracker = Tracker::<Both>::new();
    for (key, value) in both() {
        tracker.found(&key, value);
    }
    tracker.want(&Owner::new(0, "other"), {
        let mut state = State::<Both>::new();
        let key = listeners::Key::new("default/other", Transport::Udp);
        let value = Listener { kept: Some(3), ..Listener::default() };
        state.put(Either::First(key), Either::First(value));
        state
    });
    let changes = tracker.all_changes();
    let parts = Parts::of(&changes);
    assert_eq!([parts.first_puts.len(), parts.then.len(), parts.first_drops.len()], [1, 1, 1]);
    let ranks: Vec<bool> = changes.iter().map(|change| matches!(change.key(), Either::First(_))).collect();
    assert_eq!(ranks, [true, false, true]);
}

#[test]
fn a_state_is_its_parts() {
    let (listeners, rules) = both().parts();
    assert_eq!((listeners.len(), rules.len()), (1, 1));
    assert_eq!(State::<Both>::of(listeners, rules), both());
}
