//! Flows over a kernel and a connection tracker in memory, both of which fail as a test asks them to.

use std::sync::{Arc, Mutex, MutexGuard};

use kernel_io::netlink::NetlinkError;
use kernel_state::Change;
use kernel_state::xtables::Xtables;
use proxy_modes::{InvalidPackets, Iptables};
use service_plan::{FactChange, Facts, Protocol, Service, plan};
use testkit::{FakeTarget, Fault, FaultyTarget};

use super::*;
use crate::reconciler::Reconciler;
use crate::samples::{endpoints, facts, service};

#[derive(Clone, Default)]
struct Table(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    /// What is asked, and who answers.
    flows: Vec<(&'static str, &'static str)>,
    trouble: Trouble,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Trouble {
    #[default]
    None,
    Fails,
}

impl Table {
    fn flow(&self, asked: &'static str, answered_by: &'static str) {
        self.inside().flows.push((asked, answered_by));
    }

    fn trouble(&self, trouble: Trouble) {
        self.inside().trouble = trouble;
    }

    fn answered_by(&self) -> Vec<&'static str> {
        self.inside().flows.iter().map(|(_, by)| *by).collect()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().expect("no test panics with it")
    }
}

impl FlowTable for Table {
    fn forget(&mut self, _family: Family, stale: &StaleFlows) -> Result<usize, ConntrackError> {
        let mut table = self.inside();
        if table.trouble == Trouble::Fails {
            return Err(ConntrackError::List(NetlinkError::Unanswered));
        }
        let before = table.flows.len();
        let at = |text: &str| text.parse().expect("an address and port");
        table.flows.retain(|(asked, by)| !stale.contains(at(asked), at(by)));
        Ok(before - table.flows.len())
    }
}

struct Bench {
    facts: Facts,
    table: Table,
    kernel: FakeTarget<Xtables>,
    flows: WithFlows<Table>,
}

impl Bench {
    /// Service dns with a pod, and a kernel that refuses each object in whose name or value this text is.
    fn new(refused: Arc<Mutex<&'static str>>) -> Self {
        let kernel: FakeTarget<Xtables> = FakeTarget::new();
        let refuse = move |change: &Change<Xtables>| {
            let refused = *refused.lock().expect("no test panics with it");
            let names = |text: &str| !text.is_empty() && format!("{change:?}").contains(text);
            names(refused).then_some(Fault::Refused)
        };
        let mode = Iptables { invalid_packets: InvalidPackets::Drop };
        let reconciler = Reconciler::new(mode, FaultyTarget::new(kernel.clone(), refuse));
        let table = Table::default();
        let flows = WithFlows::new(Family::V4, SentOn::ByKernel, Box::new(reconciler), table.clone());
        let mut bench = Self { facts: facts(), table, kernel, flows };
        bench.know(dns());
        bench.know(pods(&["10.1.0.1", "10.1.0.2"]));
        bench
    }

    fn know(&mut self, change: FactChange) {
        let touched = self.facts.apply(change);
        self.flows.want(&plan(&self.facts, &touched, Family::V4).0);
    }

    fn forgotten(&mut self) -> Option<usize> {
        let pass = self.flows.write();
        pass.flows.map(|flows| flows.outcome.expect("the tracker answers"))
    }
}

/// Service dns: port 80 of UDP.
fn dns() -> FactChange {
    let FactChange::Service(name, Some(sample)) = service("dns", "10.0.0.1") else {
        unreachable!("a Service is what is made")
    };
    let mut dns: Service = (*sample).clone();
    dns.ports[0].protocol = Protocol::Udp;
    FactChange::Service(name, Some(Arc::new(dns)))
}

fn pods(addresses: &[&str]) -> FactChange {
    endpoints("dns", Protocol::Udp, 53, addresses)
}

const ASKED: &str = "10.0.0.1:80";
const FIRST: &str = "10.1.0.1:53";
const SECOND: &str = "10.1.0.2:53";

fn nothing_refused() -> Arc<Mutex<&'static str>> {
    Arc::default()
}

#[test]
fn the_first_write_is_followed_by_a_look_at_all_flows() {
    let mut bench = Bench::new(nothing_refused());
    for by in [FIRST, "10.1.0.9:53", SECOND, ASKED] {
        bench.table.flow(ASKED, by);
    }
    assert_eq!(bench.forgotten(), Some(2));
    assert_eq!(bench.table.answered_by(), [FIRST, SECOND], "no valid flow ends by a restart");
    assert_eq!(bench.forgotten(), None, "once is enough");
}

#[test]
fn flows_are_forgotten_after_the_write_that_made_them_stale_and_not_before() {
    let mut bench = Bench::new(nothing_refused());
    bench.forgotten();
    bench.table.flow(ASKED, FIRST);
    bench.table.flow(ASKED, SECOND);
    bench.know(pods(&["10.1.0.2"]));
    assert_eq!(bench.table.answered_by(), [FIRST, SECOND]);
    assert_eq!(bench.forgotten(), Some(1));
    assert_eq!(bench.table.answered_by(), [SECOND]);
}

#[test]
fn an_endpoint_that_is_back_before_the_write_keeps_its_flows() {
    let mut bench = Bench::new(nothing_refused());
    bench.forgotten();
    bench.table.flow(ASKED, FIRST);
    bench.know(pods(&["10.1.0.2"]));
    bench.know(pods(&["10.1.0.1", "10.1.0.2"]));
    assert_eq!(bench.forgotten(), None);
    assert_eq!(bench.table.answered_by(), [FIRST]);
}

#[test]
fn a_tracker_that_does_not_answer_is_asked_until_it_does() {
    let mut bench = Bench::new(nothing_refused());
    bench.forgotten();
    bench.table.flow(ASKED, FIRST);
    bench.table.trouble(Trouble::Fails);
    bench.know(FactChange::Service(ServiceName::new("ns", "dns"), None));
    for _ in 0..2 {
        let pass = bench.flows.write();
        assert!(
            pass.is_complete() && !pass.is_done(),
            "the rules are there, the flows are not gone: {pass:?}"
        );
    }
    bench.table.trouble(Trouble::None);
    assert_eq!(bench.forgotten(), Some(1));
    assert!(bench.table.answered_by().is_empty());
}

#[test]
fn while_rules_are_refused_flows_are_looked_at_again() {
    let refused = nothing_refused();
    let mut bench = Bench::new(Arc::clone(&refused));
    bench.forgotten();
    *refused.lock().expect("no test panics with it") = "10.1.0.3";
    bench.know(pods(&["10.1.0.3"]));
    bench.table.flow(ASKED, FIRST);
    assert_eq!(bench.forgotten(), Some(1));
    // The old rules, which are still there, make it anew.
    bench.table.flow(ASKED, FIRST);
    *refused.lock().expect("no test panics with it") = "";
    bench.flows.try_again();
    assert_eq!(bench.forgotten(), Some(1));
    assert_eq!(bench.forgotten(), None);
}

#[test]
fn what_went_astray_while_a_stranger_had_removed_the_rules_is_forgotten() {
    let mut bench = Bench::new(nothing_refused());
    bench.forgotten();
    bench.table.flow(ASKED, ASKED);
    assert_eq!(bench.forgotten(), None);
    let state = bench.kernel.state();
    let (key, value) = state.iter().next().expect("rules");
    bench.kernel.meddle(&Change::Drop { key: key.clone(), value: value.clone() });
    assert_eq!(bench.flows.look(), Sighting::Something);
    assert_eq!(bench.forgotten(), Some(1));
}

#[test]
fn a_service_without_udp_has_no_flows_of_ours() {
    let mut bench = Bench::new(nothing_refused());
    bench.forgotten();
    bench.know(service("web", "10.0.0.2"));
    assert!(bench.flows.unsettled.is_empty());
    assert_eq!(bench.forgotten(), None);
}
