//! The reconciler over a toy mode and a kernel in memory, which fails as a test asks it to.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use kernel_io::{Drift, ReadError};
use service_plan::{EndpointSlice, FactChange, Facts, Family, Protocol, Touched, plan};
use testkit::{Dice, FakeTarget, Fault, FaultyTarget};

use super::*;
use crate::samples::{self, facts, service};

/// Objects of a kernel that knows pods, pools of them, and addresses that lead to pools.
enum Toy {}

impl Objects for Toy {
    /// What it is, pods first, and its name.
    type Key = (Kind, String);
    type Value = String;

    fn rank(key: &Self::Key) -> u8 {
        key.0 as u8
    }

    fn print(key: &Self::Key, value: &Self::Value, out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        writeln!(out, "{:?} {} = {value}", key.0, key.1)
    }

    fn print_changes(changes: &[Change<Self>], out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        changes.iter().try_for_each(|change| writeln!(out, "{change:?}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Base,
    Pod,
    Pool,
    Address,
}

/// Says a plan in those words. Services that share a pod share its object.
struct ToyMode;

impl Mode for ToyMode {
    type Objects = Toy;

    fn skeleton(&self, node: &NodePlan) -> State<Toy> {
        let mut state = State::new();
        state.put((Kind::Base, "base".to_owned()), format!("{:?}", node.service_ranges));
        state
    }

    fn render(&self, plan: &ServicePlan, _: &NodePlan) -> State<Toy> {
        let mut state = State::new();
        let mut members = String::new();
        for endpoint in &plan.cluster {
            state.put((Kind::Pod, endpoint.at.ip().to_string()), String::new());
            write!(members, "{} ", endpoint.at).expect("writing to a String cannot fail");
        }
        state.put((Kind::Pool, plan.name.to_string()), members);
        for entrance in &plan.entrances {
            state.put((Kind::Address, entrance.at.to_string()), plan.name.to_string());
        }
        state
    }
}

type Faults = Box<dyn FnMut(&Change<Toy>) -> Option<Fault>>;

/// A kernel in memory whose faults can be changed while a reconciler owns it.
struct ToyTarget {
    memory: FaultyTarget<Toy, Faults>,
    unreadable: Rc<Cell<bool>>,
}

impl Target<Toy> for ToyTarget {
    fn read(&mut self, found: &mut dyn FnMut((Kind, String), String)) -> Result<(), ReadError> {
        if self.unreadable.get() {
            return Err(ReadError { source: "a fault that the test asked for".into() });
        }
        self.memory.read(found)
    }

    fn write(&mut self, changes: &[Change<Toy>]) -> Result<(), WriteError> {
        self.memory.write(changes)
    }

    fn drift(&mut self) -> Drift<Toy> {
        self.memory.drift()
    }
}

/// A reconciler, its kernel, and the facts that its plans come from.
struct Bench {
    facts: Facts,
    kernel: FakeTarget<Toy>,
    faults: Rc<RefCell<Faults>>,
    unreadable: Rc<Cell<bool>>,
    reconciler: Reconciler<ToyMode, ToyTarget>,
}

impl Bench {
    fn new() -> Self {
        Self::over(FakeTarget::new())
    }

    /// Starts over a kernel that somebody has been at.
    fn over(kernel: FakeTarget<Toy>) -> Self {
        let faults: Rc<RefCell<Faults>> = Rc::new(RefCell::new(Box::new(|_| None)));
        let asked = Rc::clone(&faults);
        let unreadable = Rc::new(Cell::new(false));
        let target = ToyTarget {
            memory: FaultyTarget::new(kernel.clone(), Box::new(move |change| (asked.borrow_mut())(change))),
            unreadable: Rc::clone(&unreadable),
        };
        let reconciler = Reconciler::new(ToyMode, target);
        Self { facts: facts(), kernel, faults, unreadable, reconciler }
    }

    fn know(&mut self, change: FactChange) {
        let touched = self.facts.apply(change);
        self.reconciler.want(&plan(&self.facts, &touched, Family::V4).0);
    }

    fn know_all(&mut self, changes: impl IntoIterator<Item = FactChange>) {
        self.reconciler.want(&plan(&self.facts, &Touched::everything(), Family::V4).0);
        changes.into_iter().for_each(|change| self.know(change));
    }

    fn fails(&self, faults: impl FnMut(&Change<Toy>) -> Option<Fault> + 'static) {
        *self.faults.borrow_mut() = Box::new(faults);
    }

    /// Refuses every change of an object.
    fn refuses(&self, kind: Kind, name: &str) {
        let key = (kind, name.to_owned());
        self.fails(move |change| (*change.key() == key).then_some(Fault::Refused));
    }

    fn works(&self) {
        self.fails(|_| None);
    }

    /// Writes, and expects that the kernel is then as planned.
    fn write_whole(&mut self) -> Pass {
        let pass = self.reconciler.write();
        assert!(pass.is_complete(), "{pass:?}");
        assert_eq!(self.kernel.state(), self.reconciler.wanted());
        assert_eq!(self.kernel.state(), fresh(&self.facts));
        pass
    }

    /// The changes that were written since this was last asked.
    fn written(&self) -> Vec<String> {
        let changes = self.kernel.take_writes().into_iter().flatten();
        let mut written: Vec<_> = changes
            .map(|change| {
                let verb = if matches!(change, Change::Put { .. }) { "put" } else { "drop" };
                format!("{verb} {:?} {}", change.key().0, change.key().1)
            })
            .collect();
        written.sort();
        written
    }

    fn has(&self, kind: Kind, name: &str) -> bool {
        self.kernel.state().get(&(kind, name.to_owned())).is_some()
    }
}

/// What a new reconciler writes to an empty kernel.
fn fresh(facts: &Facts) -> State<Toy> {
    let kernel = FakeTarget::new();
    let mut reconciler = Reconciler::new(ToyMode, kernel.clone());
    reconciler.want(&plan(facts, &Touched::everything(), Family::V4).0);
    assert!(reconciler.write().is_complete());
    kernel.state()
}

fn no_service(name: &str) -> FactChange {
    FactChange::Service(ServiceName::new("ns", name), None)
}

/// The one slice of a Service, with port 8080.
fn endpoints(service: &str, addresses: &[&str]) -> FactChange {
    samples::endpoints(service, Protocol::Tcp, 8080, addresses)
}

/// Two Services that share a pod.
fn two_services() -> [FactChange; 4] {
    [
        service("web", "10.0.0.1"),
        service("api", "10.0.0.2"),
        endpoints("web", &["10.180.0.1", "10.180.0.9"]),
        endpoints("api", &["10.180.0.2", "10.180.0.9"]),
    ]
}

#[test]
fn the_kernel_ends_as_planned_and_the_pass_counts_what_it_took() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    let pass = bench.write_whole();
    assert_eq!((pass.puts, pass.drops), (8, 0));
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.write_whole();
    bench.written();
    bench.know_all(two_services());
    let pass = bench.write_whole();
    assert_eq!((pass.puts, pass.drops, bench.written()), (0, 0, vec![]));
}

#[test]
fn a_change_writes_its_own_objects_alone() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.write_whole();
    bench.written();
    bench.know(endpoints("web", &["10.180.0.1", "10.180.0.3"]));
    bench.write_whole();
    assert_eq!(bench.written(), ["put Pod 10.180.0.3", "put Pool ns/web"]);
}

#[test]
fn what_two_services_share_goes_with_the_last_of_them() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.write_whole();
    bench.know(no_service("web"));
    bench.write_whole();
    assert!(bench.has(Kind::Pod, "10.180.0.9") && !bench.has(Kind::Pod, "10.180.0.1"));
    bench.know(no_service("api"));
    bench.write_whole();
    assert!(!bench.has(Kind::Pod, "10.180.0.9"));
}

#[test]
fn services_that_are_gone_leave_nothing() {
    let mut bench = Bench::new();
    bench.know_all([]);
    bench.write_whole();
    let before = bench.kernel.state();
    bench.know_all(two_services());
    bench.write_whole();
    bench.know_all([no_service("web"), no_service("api")]);
    bench.write_whole();
    assert_eq!(bench.kernel.state(), before);
}

#[test]
fn another_node_plan_renders_the_skeleton_anew() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.write_whole();
    bench.written();
    bench.know(FactChange::ServiceRanges(vec![range("10.0.0.0/16")]));
    bench.write_whole();
    assert_eq!(bench.written(), ["put Base base"]);
}

/// The same, as the API server's own Service.
fn of_api_server(change: FactChange) -> FactChange {
    let name = ServiceName::new("default", "kubernetes");
    if let FactChange::EndpointSlice(slice, Some(content)) = change {
        let content = EndpointSlice { service: name, ..(*content).clone() };
        return FactChange::EndpointSlice(slice, Some(Arc::new(content)));
    }
    let FactChange::Service(_, service) = change else { panic!("neither a Service nor its endpoints") };
    FactChange::Service(name, service)
}

#[test]
fn of_a_large_load_the_api_servers_service_comes_first_with_what_all_stand_on() {
    let mut bench = Bench::new();
    let many = (0..400).flat_map(|number| {
        let (name, low) = (format!("web-{number}"), number % 200);
        let (ip, pod) =
            (format!("10.0.{}.{low}", 1 + number / 200), format!("10.180.{}.{low}", number / 200));
        [service(&name, &ip), endpoints(&name, &[&pod])]
    });
    let first = [service("kubernetes", "10.0.0.1"), endpoints("kubernetes", &["192.0.2.9"])];
    bench.know_all(many.chain(first.map(of_api_server)));
    bench.write_whole();
    let writes = bench.kernel.take_writes();
    assert_eq!(writes.iter().map(Vec::len).collect::<Vec<_>>(), [4, 1200]);
    let keys: Vec<_> = writes[0].iter().map(|change| (change.key().0, &*change.key().1)).collect();
    let expected = [
        (Kind::Base, "base"),
        (Kind::Pod, "192.0.2.9"),
        (Kind::Pool, "default/kubernetes"),
        (Kind::Address, "10.0.0.1:80"),
    ];
    assert_eq!(keys, expected);
}

#[test]
fn what_replaces_something_is_one_write_however_large() {
    let mut bench = Bench::new();
    bench.know_all(
        (0..400).map(|number| {
            service(&format!("web-{number}"), &format!("10.0.{}.{}", number / 200, number % 200))
        }),
    );
    bench.kernel.meddle(&Change::Put {
        key: (Kind::Base, "base".to_owned()),
        value: "of another layout".to_owned(),
        replaced: None,
    });
    bench.write_whole();
    assert_eq!(bench.kernel.take_writes().len(), 1);
}

#[test]
fn a_refused_object_holds_back_its_owner_alone() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.refuses(Kind::Address, "10.0.0.1:80");
    let pass = bench.reconciler.write();
    assert!(!pass.is_complete() && pass.failure.is_none(), "{pass:?}");
    let owners: Vec<_> = pass.refused.iter().flat_map(|refusal| &refusal.owners).collect();
    assert_eq!(owners, [&Owner::new(1, "ns/web")]);
    assert!(bench.has(Kind::Base, "base"));
    assert!(bench.has(Kind::Address, "10.0.0.2:80"), "the other Service is whole");
    assert!(bench.has(Kind::Pod, "10.180.0.9"), "what both share is not held back");
    assert!(!bench.has(Kind::Pod, "10.180.0.1") && !bench.has(Kind::Pool, "ns/web"), "nor half there");
}

#[test]
fn a_refused_owner_is_not_forgotten_when_something_else_is_written() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.refuses(Kind::Address, "10.0.0.1:80");
    bench.reconciler.write();
    bench.works();
    bench.know(service("late", "10.0.0.3"));
    let pass = bench.reconciler.write();
    assert!(bench.has(Kind::Address, "10.0.0.3:80") && !bench.has(Kind::Address, "10.0.0.1:80"));
    assert!(pass.refused.is_empty() && !pass.is_complete(), "{pass:?}");
    assert_eq!(bench.reconciler.try_again(), Retried::Some);
    bench.write_whole();
    assert_eq!(bench.reconciler.try_again(), Retried::Nobody);
}

#[test]
fn a_refused_owner_that_wants_something_else_is_tried_at_once() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.refuses(Kind::Address, "10.0.0.1:80");
    bench.reconciler.write();
    bench.know(service("web", "10.0.0.4"));
    bench.write_whole();
}

#[test]
fn a_refused_owner_that_goes_leaves_nothing() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.refuses(Kind::Address, "10.0.0.1:80");
    bench.reconciler.write();
    bench.know(no_service("web"));
    bench.write_whole();
}

#[test]
fn a_removal_that_is_refused_is_told_once_and_the_rest_is_written() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.write_whole();
    bench.refuses(Kind::Pool, "ns/web");
    bench.know(no_service("web"));
    bench.know(endpoints("api", &["10.180.0.3"]));
    let pass = bench.reconciler.write();
    assert_eq!(pass.refused.len(), 1, "{pass:?}");
    assert!(!pass.is_complete() && bench.has(Kind::Pool, "ns/web"));
    assert!(bench.has(Kind::Pod, "10.180.0.3") && !bench.has(Kind::Pod, "10.180.0.2"));
    bench.works();
    assert_eq!(bench.reconciler.try_again(), Retried::Some);
    bench.write_whole();
}

#[test]
fn nothing_goes_on_without_the_skeleton() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.refuses(Kind::Base, "base");
    let pass = bench.reconciler.write();
    assert!(matches!(pass.failure, Some(Failure::Write(_))), "{pass:?}");
    assert!(bench.kernel.state().is_empty());
    bench.know(service("late", "10.0.0.3"));
    assert!(bench.reconciler.write().failure.is_some());
    assert!(bench.kernel.state().is_empty(), "nor with the next plan");
    bench.works();
    bench.reconciler.try_again();
    bench.write_whole();
}

#[test]
fn a_kernel_that_cannot_be_read_is_not_written() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.unreadable.set(true);
    let pass = bench.reconciler.write();
    assert!(matches!(pass.failure, Some(Failure::Read(_))) && !pass.is_complete(), "{pass:?}");
    assert!(bench.kernel.state().is_empty());
    bench.unreadable.set(false);
    bench.write_whole();
}

#[test]
fn a_write_that_ends_anywhere_is_finished_by_the_next_pass() {
    for fault in [Fault::Halfway, Fault::Lost] {
        for changes in 0..8 {
            let mut bench = Bench::new();
            bench.know_all(two_services());
            let mut left = changes;
            bench.fails(move |_| {
                left -= 1;
                (left < 0).then_some(fault)
            });
            assert!(bench.reconciler.write().failure.is_some());
            bench.works();
            bench.write_whole();
        }
    }
}

#[test]
fn what_a_failed_write_did_achieve_counts() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    let mut left = 3;
    bench.fails(move |_| {
        left -= 1;
        (left < 0).then_some(Fault::Halfway)
    });
    let first = bench.reconciler.write();
    bench.works();
    let second = bench.write_whole();
    assert_eq!((first.puts, second.puts), (3, 5));
}

/// Fails as a kernel does that lacks what is to be dropped.
fn drops_what_is_there_only(kernel: FakeTarget<Toy>) -> impl FnMut(&Change<Toy>) -> Option<Fault> {
    move |change| match change {
        Change::Drop { key, .. } if kernel.state().get(key).is_none() => Some(Fault::Refused),
        Change::Drop { .. } | Change::Put { .. } => None,
    }
}

#[test]
fn a_write_that_fails_for_a_strangers_change_makes_it_read_and_heal_all() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.write_whole();
    bench.fails(drops_what_is_there_only(bench.kernel.clone()));
    for (kind, name) in [(Kind::Address, "10.0.0.1:80"), (Kind::Pool, "ns/api")] {
        bench.kernel.meddle(&Change::Drop { key: (kind, name.to_owned()), value: String::new() });
    }
    bench.know(no_service("web"));
    bench.write_whole();
}

#[test]
fn a_strangers_quiet_change_heals_once_the_kernel_is_distrusted() {
    let mut bench = Bench::new();
    bench.know_all(two_services());
    bench.write_whole();
    let put = |kind, name: &str, value: &str| Change::Put {
        key: (kind, name.to_owned()),
        value: value.to_owned(),
        replaced: None,
    };
    bench.kernel.meddle(&put(Kind::Pool, "ns/web", "elsewhere"));
    bench.kernel.meddle(&put(Kind::Address, "10.0.0.66:80", "ns/web"));
    assert_eq!(bench.reconciler.write().puts, 0, "nobody told");
    bench.reconciler.distrust();
    let pass = bench.write_whole();
    assert_eq!((pass.puts, pass.drops), (1, 1));
}

#[test]
fn a_restart_ends_as_a_fresh_start_and_writes_only_what_differs() {
    let mut before = Bench::new();
    before.know_all(two_services());
    before.know(service("old", "10.0.0.7"));
    before.write_whole();
    before.written();
    let mut after = Bench::over(before.kernel.clone());
    after.know_all(two_services());
    after.know(endpoints("web", &["10.180.0.1"]));
    after.write_whole();
    assert_eq!(after.written(), ["drop Address 10.0.0.7:80", "drop Pool ns/old", "put Pool ns/web"]);
}

#[test]
fn with_no_plan_at_all_everything_of_ours_is_removed() {
    let mut before = Bench::new();
    before.know_all(two_services());
    before.write_whole();
    let mut after = Bench::over(before.kernel.clone());
    let pass = after.reconciler.write();
    assert!(pass.is_complete() && before.kernel.state().is_empty());
}

#[test]
fn the_api_server_is_served_first() {
    let [api_server, web] = [("default", "kubernetes"), ("default", "web")]
        .map(|(namespace, name)| service_owner(&ServiceName::new(namespace, name)));
    assert!(skeleton_owner().rank == api_server.rank && api_server.rank < web.rank);
}

/// A change to one of a few Services, by chance; they contest addresses, and share pods.
fn any_change(dice: &mut Dice) -> FactChange {
    let address = ["10.0.0.1", "10.0.0.2", "10.0.0.3"][pick(dice, 3)];
    match dice.below(8) {
        0 => FactChange::ServiceRanges(vec![range(["10.0.0.0/16", "10.1.0.0/16"][pick(dice, 2)])]),
        1..=3 => service(["web", "api", "db"][pick(dice, 3)], address),
        _ => uncontested_change(dice),
    }
}

/// A change to one of two Services, each of which has its own address.
fn uncontested_change(dice: &mut Dice) -> FactChange {
    let (name, address) = [("web", "10.0.0.1"), ("api", "10.0.0.2")][pick(dice, 2)];
    let pods = ["10.180.0.1", "10.180.0.2", "10.180.0.3", "10.180.0.4"];
    match dice.below(6) {
        0 => no_service(name),
        1 => service(name, address),
        _ => endpoints(name, &pods[pick(dice, 5)..]),
    }
}

fn range(text: &str) -> ipnet::IpNet {
    text.parse().expect("a range")
}

fn pick(dice: &mut Dice, number: u64) -> usize {
    usize::try_from(dice.below(number)).expect("a small number")
}

#[test]
fn when_the_faults_stop_one_pass_heals() {
    for seed in 0..400 {
        let mut dice = Dice::new(seed);
        let mut faults = dice.clone();
        let mut bench = Bench::new();
        bench.fails(move |_| faults.fault_in(6));
        bench.know_all([]);
        for _ in 0..12 {
            bench.know(any_change(&mut dice));
            bench.unreadable.set(dice.below(8) == 0);
            match dice.below(3) {
                0 => drop(bench.reconciler.write()),
                1 => drop(bench.reconciler.try_again()),
                _ => {}
            }
        }
        bench.works();
        bench.unreadable.set(false);
        bench.reconciler.try_again();
        bench.write_whole();
        bench.written();
        bench.write_whole();
        assert_eq!(bench.written(), [""; 0], "seed {seed}");
    }
}

#[test]
fn a_kernel_that_refuses_by_chance_has_only_whole_services() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let mut bench = Bench::new();
        bench.know_all(two_services());
        bench.write_whole();
        let refused = [(Kind::Pool, "ns/web"), (Kind::Address, "10.0.0.2:80"), (Kind::Pod, "10.180.0.3")];
        let (kind, name) = refused[pick(&mut dice, 3)];
        let is_refused = move |change: &Change<Toy>| matches!(change, Change::Put { key, .. } if *key == (kind, name.into()));
        bench.fails(move |change| is_refused(change).then_some(Fault::Refused));
        for _ in 0..6 {
            bench.know(uncontested_change(&mut dice));
            bench.reconciler.write();
            for (key, pool) in bench.kernel.state() {
                assert!(key.0 != Kind::Address || bench.has(Kind::Pool, &pool), "seed {seed}: {key:?}");
            }
        }
    }
}

#[test]
fn any_order_of_plans_and_writes_ends_the_same() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        // One last word for each object, so that the order cannot matter.
        let changes: BTreeMap<String, FactChange> = [0; 12]
            .map(|_| any_change(&mut dice))
            .into_iter()
            .map(|change| {
                let object = match &change {
                    FactChange::Service(name, _) => format!("service {name}"),
                    FactChange::EndpointSlice(name, _) => format!("slice {name}"),
                    FactChange::Node(_) | FactChange::ServiceRanges(_) | FactChange::Settings(_) => {
                        "node".to_owned()
                    }
                };
                (object, change)
            })
            .collect();
        let end = |dice: &mut Dice| {
            let mut bench = Bench::new();
            bench.know_all([]);
            let mut left: Vec<_> = changes.values().cloned().collect();
            while !left.is_empty() {
                bench.know(left.swap_remove(pick(dice, left.len() as u64)));
                if dice.below(3) == 0 {
                    bench.write_whole();
                }
            }
            bench.write_whole();
            bench.kernel.state()
        };
        assert_eq!(end(&mut dice), end(&mut dice), "seed {seed}");
    }
}
