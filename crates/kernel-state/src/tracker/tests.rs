//! The tracker's laws, with a toy vocabulary and a kernel that is a map.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

enum Toy {}

/// A rank, and a name that is unique within it.
type Key = (u8, u8);

impl Objects for Toy {
    type Key = Key;
    type Value = u8;

    fn rank(key: &Key) -> u8 {
        key.0
    }

    fn print(key: &Key, value: &u8, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "{key:?} = {value}")
    }

    fn print_changes(changes: &[Change<Self>], out: &mut dyn Write) -> fmt::Result {
        changes.iter().try_for_each(|change| writeln!(out, "{change:?}"))
    }
}

/// What may happen to a tracker.
#[derive(Clone, Debug)]
enum Event {
    /// An owner wants something else.
    Want(u8, BTreeMap<Key, u8>),
    /// The first part of what is pending is written.
    Flush(Portions),
    /// The kernel is read again.
    Read,
    /// Somebody else puts an object there, or takes one away; nobody notices until the next reading.
    Meddle(Key, Option<u8>),
}

const OWNERS: u8 = 4;

fn owner(number: u8) -> Owner {
    // Ranks that do not follow the names: 1, 0, 1, 0.
    Owner::new((number + 1) % 2, &format!("owner {number}"))
}

/// Keys that every owner may want, with the value that goes with them, or keys of one owner alone.
fn fragment(number: u8) -> impl Strategy<Value = BTreeMap<Key, u8>> {
    let shared = (0..3_u8, 0..4_u8).prop_map(|key| (key, key.1));
    let own = (0..3_u8, 0..4_u8, 0..3_u8)
        .prop_map(move |(rank, name, value)| ((rank, 10 * (number + 1) + name), value));
    vec(prop_oneof![shared, own], 0..8).prop_map(|pairs| pairs.into_iter().collect())
}

fn wants() -> impl Strategy<Value = Event> {
    (0..OWNERS)
        .prop_flat_map(|number| fragment(number).prop_map(move |fragment| Event::Want(number, fragment)))
}

fn any_key() -> impl Strategy<Value = Key> {
    (0..3_u8, prop_oneof![0..4_u8, 10..14_u8, 100..104_u8])
}

impl<O: Objects> Tracker<O> {
    /// All that is pending, as one part.
    pub(crate) fn all_changes(&self) -> Vec<Change<O>> {
        self.pending(ALL).iter().flat_map(|part| self.changes(part)).collect()
    }
}

const ALL: Portions = Portions::ALL;

fn portions() -> impl Strategy<Value = Portions> {
    (0..6_usize, 1..6_usize).prop_map(|(small, large)| Portions { small, large })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let flush = prop_oneof![portions(), Just(ALL)].prop_map(Event::Flush);
    let meddle =
        (any_key(), proptest::option::of(any::<u8>())).prop_map(|(key, value)| Event::Meddle(key, value));
    vec(prop_oneof![4 => wants(), 3 => flush, 1 => Just(Event::Read), 1 => meddle], 0..30)
}

/// A tracker with its kernel.
#[derive(Default)]
struct Bench {
    tracker: Tracker<Toy>,
    kernel: State<Toy>,
    /// What each owner wants.
    wanted: BTreeMap<u8, BTreeMap<Key, u8>>,
}

impl Bench {
    fn take_all(&mut self, events: Vec<Event>) {
        for event in events {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Want(number, fragment) => self.want(number, fragment),
            Event::Flush(portions) => {
                self.flush(portions);
            }
            Event::Read => self.read(),
            Event::Meddle(key, value) => match value {
                Some(value) => self.kernel.put(key, value),
                None => drop(self.kernel.remove(&key)),
            },
        }
    }

    fn want(&mut self, number: u8, fragment: BTreeMap<Key, u8>) {
        self.tracker.want(&owner(number), state(&fragment));
        self.wanted.insert(number, fragment);
    }

    fn flush(&mut self, portions: Portions) -> Vec<Change<Toy>> {
        let first = self.tracker.pending(portions).into_iter().next().unwrap_or_default();
        let changes = self.tracker.changes(&first);
        self.kernel_takes(&first);
        changes
    }

    fn kernel_takes(&mut self, part: &Part) {
        for change in &self.tracker.changes(part) {
            self.kernel.apply(change);
        }
        self.tracker.written(part);
    }

    /// The keys of a part.
    fn keys(&self, part: &Part) -> Vec<Key> {
        self.tracker.changes(part).iter().map(|change| *change.key()).collect()
    }

    fn read(&mut self) {
        self.tracker.begin_reading();
        for (key, value) in self.kernel.iter() {
            self.tracker.found(key, *value);
        }
    }

    /// What all owners want together.
    fn sum(&self) -> State<Toy> {
        let mut sum = State::new();
        self.wanted.values().for_each(|fragment| sum.extend(state(fragment)));
        sum
    }
}

fn state(fragment: &BTreeMap<Key, u8>) -> State<Toy> {
    let mut state = State::new();
    for (key, value) in fragment {
        state.put(*key, *value);
    }
    state
}

fn bench_after(events: Vec<Event>) -> Bench {
    let mut bench = Bench::default();
    bench.take_all(events);
    bench
}

proptest! {
    #[test]
    fn any_order_of_wants_and_flushes_ends_in_what_is_wanted(events in events(), portions in portions()) {
        let mut bench = bench_after(events);
        bench.read();
        for _ in 0..200 {
            if bench.flush(portions).is_empty() {
                break;
            }
        }
        prop_assert!(bench.tracker.is_settled());
        prop_assert_eq!(&bench.kernel, &bench.sum());
        prop_assert_eq!(&bench.tracker.wanted(), &bench.sum());
    }

    #[test]
    fn a_second_pass_changes_nothing(events in events()) {
        let mut bench = bench_after(events);
        bench.read();
        bench.flush(ALL);
        prop_assert_eq!(bench.flush(ALL), vec![]);
        bench.read();
        prop_assert_eq!(bench.flush(ALL), vec![]);
        // Nor does wanting the same again.
        for (number, fragment) in bench.wanted.clone() {
            bench.want(number, fragment);
        }
        prop_assert_eq!(bench.flush(ALL), vec![]);
    }

    #[test]
    fn wanting_nothing_leaves_nothing(events in events()) {
        let mut bench = bench_after(events);
        bench.read();
        for number in 0..OWNERS {
            bench.want(number, BTreeMap::new());
        }
        bench.flush(ALL);
        prop_assert!(bench.kernel.is_empty());
        prop_assert!(bench.tracker.entries.iter().next().is_none() && bench.tracker.records.is_empty());
    }

    #[test]
    fn puts_come_by_rank_and_drops_against_it(events in events()) {
        let mut bench = bench_after(events);
        bench.read();
        let place = |change: &Change<Toy>| match change {
            Change::Put { key, .. } => (0, key.0),
            Change::Drop { key, .. } => (1, u8::MAX - key.0),
        };
        let changes = bench.flush(ALL);
        prop_assert!(changes.is_sorted_by_key(place), "{:?}", changes);
    }

    #[test]
    fn changes_know_what_they_replace(events in events()) {
        let mut bench = bench_after(events);
        bench.read();
        for change in bench.tracker.all_changes() {
            match &change {
                Change::Put { key, value, replaced } => {
                    prop_assert_eq!(bench.kernel.get(key), replaced.as_ref());
                    prop_assert_ne!(Some(value), replaced.as_ref());
                }
                Change::Drop { key, value } => prop_assert_eq!(bench.kernel.get(key), Some(value)),
            }
        }
    }

    #[test]
    fn the_parts_are_all_that_is_pending_and_each_is_what_it_says(events in events(), portions in portions()) {
        let mut bench = bench_after(events);
        bench.read();
        let parts = bench.tracker.pending(portions);
        prop_assert!(parts.iter().all(|part| !bench.keys(part).is_empty()));
        let mut keys: Vec<Key> = parts.iter().flat_map(|part| bench.keys(part)).collect();
        let mut pending: Vec<Key> = bench.tracker.all_changes().iter().map(|change| *change.key()).collect();
        keys.sort_unstable();
        pending.sort_unstable();
        prop_assert_eq!(keys, pending, "each once");
        if let [all] = &parts[..] {
            prop_assert_eq!(bench.tracker.changes(all), bench.tracker.all_changes());
        }
    }

    #[test]
    fn what_is_all_new_comes_by_rank_and_nobody_is_ever_served_by_half(
        wants in vec(wants(), 1..10), portions in portions(),
    ) {
        let mut bench = bench_after(wants);
        let parts = bench.tracker.pending(portions);
        let all = bench.sum().len();
        prop_assert!(all > portions.small || parts.len() <= 1);
        for (place, part) in parts.iter().enumerate() {
            bench.kernel_takes(part);
            let there = |fragment: &BTreeMap<Key, u8>| fragment.keys().filter(|key| bench.kernel.get(key).is_some()).count();
            let (whole, rest): (Vec<_>, Vec<_>) =
                bench.wanted.iter().filter(|(_, fragment)| !fragment.is_empty()).partition(|(_, fragment)| there(fragment) == fragment.len());
            let of_whole: BTreeSet<&Key> = whole.iter().flat_map(|(_, fragment)| fragment.keys()).collect();
            prop_assert!(bench.kernel.iter().all(|(key, _)| of_whole.contains(key)), "nobody is served by half");
            let first_rank = |key: &Key| {
                let owners = bench.wanted.iter().filter(|(_, fragment)| fragment.contains_key(key));
                owners.map(|(number, _)| owner(*number).rank).min()
            };
            let last_rank = bench.kernel.iter().filter_map(|(key, _)| first_rank(key)).max();
            prop_assert!(rest.iter().all(|(number, _)| Some(owner(**number).rank) >= last_rank), "by rank");
            if place + 1 == parts.len() {
                prop_assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn a_want_between_reading_what_is_pending_and_writing_it_is_not_lost(
        before in events(), between in vec(wants(), 0..4),
    ) {
        let mut bench = bench_after(before);
        bench.read();
        let changes = bench.tracker.all_changes();
        bench.take_all(between);
        for change in &changes {
            bench.kernel.apply(change);
        }
        bench.tracker.applied(&changes);
        bench.flush(ALL);
        prop_assert_eq!(&bench.kernel, &bench.sum());
    }

    #[test]
    fn a_part_that_was_written_is_as_if_each_of_its_changes_was(before in events(), after in events()) {
        let (mut bench, mut other) = (bench_after(before.clone()), bench_after(before));
        for part in bench.tracker.pending(ALL) {
            bench.tracker.written(&part);
        }
        other.tracker.applied(&other.tracker.all_changes());
        prop_assert_eq!(bench.tracker.all_changes(), vec![]);
        for bench in [&mut bench, &mut other] {
            bench.kernel = bench.sum();
            bench.take_all(after.clone());
        }
        prop_assert_eq!(bench.tracker.all_changes(), other.tracker.all_changes());
        prop_assert_eq!(bench.tracker.wanted(), other.tracker.wanted());
    }

    #[test]
    fn refusals_hurt_their_owners_alone_and_heal(
        events in events(), refused in vec(any_key(), 1..6), later in vec(wants(), 0..4),
    ) {
        let mut bench = bench_after(events);
        bench.read();
        // The kernel takes everything but these.
        for pass in 0.. {
            let changes = bench.tracker.all_changes();
            let Some(change) = changes.iter().find(|change| refused.contains(change.key())) else { break };
            bench.tracker.refused(change.key());
            prop_assert!(pass < 100, "each refusal holds something back");
        }
        bench.flush(ALL);
        let hurt = |fragment: &BTreeMap<Key, u8>| fragment.keys().any(|key| refused.contains(key));
        for fragment in bench.wanted.values().filter(|fragment| !hurt(fragment)) {
            for (key, value) in fragment {
                prop_assert_eq!(bench.kernel.get(key), Some(value));
            }
        }
        // Then the kernel takes everything again.
        bench.take_all(later);
        bench.tracker.try_again();
        bench.flush(ALL);
        prop_assert_eq!(&bench.kernel, &bench.sum());
        prop_assert!(bench.tracker.is_settled());
    }
}

/// An owner that wants these keys, each with the value 1.
fn wants_keys(bench: &mut Bench, number: u8, keys: &[Key]) {
    bench.want(number, keys.iter().map(|key| (*key, 1)).collect());
}

#[test]
fn a_shared_key_goes_with_its_last_owner() {
    let mut bench = Bench::default();
    for number in 0..3 {
        wants_keys(&mut bench, number, &[(0, 0)]);
    }
    assert_eq!(bench.flush(ALL).len(), 1);
    for number in 0..2 {
        wants_keys(&mut bench, number, &[]);
        assert_eq!(bench.flush(ALL), []);
    }
    wants_keys(&mut bench, 2, &[]);
    assert_eq!(bench.flush(ALL), [Change::Drop { key: (0, 0), value: 1 }]);
}

#[test]
fn what_is_dear_stays_where_there_are_many_until_all_is_read_again() {
    for (many, stays) in [(3, true), (4, false)] {
        let tracker = Tracker::new().keeping(Keeping { many, is_dear: |key: &Key| key.0 == 1 });
        let mut bench = Bench { tracker, ..Bench::default() };
        wants_keys(&mut bench, 0, &[(0, 0), (0, 1), (1, 0)]);
        bench.flush(ALL);
        wants_keys(&mut bench, 0, &[(0, 0)]);
        let drop = |key| Change::Drop { key, value: 1 };
        let both = [drop((1, 0)), drop((0, 1))];
        assert_eq!(bench.flush(ALL), both[usize::from(stays)..]);
        bench.read();
        assert_eq!(bench.flush(ALL), both[..usize::from(stays)]);
    }
}

#[test]
fn who_leaves_and_comes_back_before_a_flush_changes_nothing() {
    let mut bench = Bench::default();
    wants_keys(&mut bench, 0, &[(0, 0)]);
    bench.flush(ALL);
    wants_keys(&mut bench, 0, &[]);
    wants_keys(&mut bench, 1, &[(0, 0)]);
    assert_eq!(bench.flush(ALL), []);
}

#[test]
fn a_refused_owner_waits_until_it_wants_something_else_or_is_tried_again() {
    let mut bench = Bench::default();
    wants_keys(&mut bench, 0, &[(0, 10), (1, 10)]);
    wants_keys(&mut bench, 1, &[(0, 20)]);
    assert_eq!(bench.tracker.refused(&(1, 10)), [owner(0)]);
    assert_eq!(bench.flush(ALL).iter().map(|change| *change.key()).collect::<Vec<_>>(), [(0, 20)]);
    assert!(!bench.tracker.is_settled());

    assert_eq!(bench.tracker.try_again(), Retried::Some);
    assert_eq!(bench.tracker.try_again(), Retried::Nobody);
    assert_eq!(bench.tracker.all_changes().len(), 2);

    bench.tracker.refused(&(1, 10));
    wants_keys(&mut bench, 0, &[(0, 10)]);
    assert_eq!(bench.flush(ALL).len(), 1);
    assert!(bench.tracker.is_settled());
}

#[test]
fn a_key_that_a_refused_owner_shares_is_still_written_for_the_other() {
    let mut bench = Bench::default();
    wants_keys(&mut bench, 0, &[(0, 0), (0, 10)]);
    wants_keys(&mut bench, 1, &[(0, 0)]);
    bench.tracker.refused(&(0, 10));
    assert_eq!(bench.flush(ALL).iter().map(|change| *change.key()).collect::<Vec<_>>(), [(0, 0)]);
}

#[test]
fn a_left_over_that_cannot_be_dropped_is_held_back_and_nobody_is_blamed() {
    let mut bench = Bench::default();
    bench.kernel.put((0, 99), 1);
    bench.read();
    assert_eq!(bench.tracker.refused(&(0, 99)), []);
    assert_eq!(bench.tracker.all_changes(), []);
    assert_eq!(bench.tracker.try_again(), Retried::Some);
    assert_eq!(bench.tracker.all_changes().len(), 1);
}

#[test]
fn a_part_is_large_enough_or_one_owner_and_shared_keys_come_with_the_first() {
    let mut bench = Bench::default();
    // In order: 1 and 3 of rank 0, then 0 and 2 of rank 1.
    wants_keys(&mut bench, 1, &[(0, 0), (0, 20)]);
    wants_keys(&mut bench, 3, &[(0, 0), (0, 40), (1, 40), (2, 40), (2, 41)]);
    wants_keys(&mut bench, 0, &[(0, 0), (0, 10)]);
    wants_keys(&mut bench, 2, &[(0, 30)]);
    let parts = |large| -> Vec<Vec<Key>> {
        let parts = bench.tracker.pending(Portions { small: 4, large });
        parts.iter().map(|part| bench.keys(part)).collect()
    };
    assert_eq!(
        parts(3),
        [vec![(0, 0), (0, 20)], vec![(0, 40), (1, 40), (2, 40), (2, 41)], vec![(0, 10), (0, 30)],]
    );
    assert_eq!(parts(100).iter().map(Vec::len).collect::<Vec<_>>(), [6, 2]);
    bench.kernel.put((0, 10), 2);
    bench.read();
    assert_eq!(bench.tracker.pending(Portions { small: 4, large: 3 }).len(), 1, "one is replaced");
}

#[test]
fn work_is_the_size_of_the_change() {
    let mut bench = Bench::default();
    for number in 0..3 {
        let keys: Vec<Key> = (0..200).map(|name| (number, name)).collect();
        wants_keys(&mut bench, number, &keys);
    }
    bench.flush(ALL);
    wants_keys(&mut bench, 3, &[(3, 0)]);
    assert_eq!(bench.tracker.dirty.len(), 1);
}
