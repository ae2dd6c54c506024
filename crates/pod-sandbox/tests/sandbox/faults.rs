//! Each step fails once, before or after it is done, and nothing is left behind.

use pod_sandbox::{
    CreateError, HostPort, Kernel, Linux, Network, PodNetwork, Protocol, Record, Sandbox, SandboxSpec, Step,
    StepError, Trace, Whose, Wiring, make,
};

use crate::world::{Traces, World, spec};

/// The real kernel, save that one step fails.
struct Faulty<'a> {
    inner: Linux,
    until_failure: usize,
    when: When,
    traces: &'a mut Traces,
}

#[derive(Clone, Copy, PartialEq)]
enum When {
    Before,
    After,
}

impl Kernel for Faulty<'_> {
    fn record(&self) -> &Record {
        self.inner.record()
    }

    fn wiring(&self) -> Wiring {
        self.inner.wiring()
    }

    fn begin(&mut self, trace: Trace) -> Result<(), StepError> {
        self.inner.begin(trace)
    }

    fn apply(&mut self, step: &Step) -> Result<(), StepError> {
        let fails = self.until_failure == 0;
        self.until_failure = self.until_failure.wrapping_sub(1);
        let bad_luck = Err(StepError::Ended { status: "bad luck".to_owned() });
        if fails && self.when == When::Before {
            return bad_luck;
        }
        self.inner.apply(step)?;
        if let Some((pid, _)) = self.inner.record().known.pause {
            self.traces.note(pid);
        }
        if fails { bad_luck } else { Ok(()) }
    }

    fn undo(&mut self, trace: &Trace) -> Result<(), StepError> {
        self.inner.undo(trace)
    }

    fn finish(&mut self) -> Result<(), StepError> {
        self.inner.finish()
    }

    fn leave(&mut self) -> Result<(), StepError> {
        self.inner.leave()
    }

    fn forget(&mut self) -> Result<(), StepError> {
        self.inner.forget()
    }
}

/// Lets the steps fail one after the other until all are done; answers how many there were.
fn fail_everywhere(world: &World, spec: &SandboxSpec, when: When) -> usize {
    for place in 0.. {
        let mut traces = Traces::default();
        let inner = Linux::begin(spec, &world.node).expect("begun");
        let mut faulty = Faulty { inner, until_failure: place, when, traces: &mut traces };
        match make(&mut faulty) {
            Ok(()) => {
                let Ok(pod_sandbox::Adopted::Standing(mut sandbox)) = Sandbox::adopt(&spec.name, &world.node)
                else {
                    panic!("it stands");
                };
                sandbox.remove().expect("removed");
                world.assert_empty();
                return place;
            }
            Err(CreateError::Failed { left, cause, .. }) => {
                assert!(matches!(*cause, StepError::Ended { .. }), "step {place}: {cause:?}");
                assert!(left.0.is_empty(), "step {place}{left}");
                drop(faulty);
                traces.assert_gone();
                world.assert_empty();
            }
            Err(error @ CreateError::Refused { .. }) => panic!("{error}"),
        }
    }
    unreachable!("there are not so many steps")
}

#[test]
fn whichever_step_fails_nothing_is_left_behind() {
    let world = World::new();
    let mut spec = spec(2);
    spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
    for when in [When::Before, When::After] {
        assert!(fail_everywhere(&world, &spec, when) > 20);
    }
}

#[test]
fn whichever_step_of_a_pod_with_its_own_users_fails_nothing_is_left_behind() {
    let world = World::new();
    let spec = SandboxSpec { users: Whose::Pod, ..spec(2) };
    for when in [When::Before, When::After] {
        assert!(fail_everywhere(&world, &spec, when) > 20);
    }
}

#[test]
fn whichever_step_of_a_pod_with_ports_of_the_node_fails_nothing_is_left_behind() {
    let world = World::new();
    let mut spec = spec(2);
    if let Network::Pod(PodNetwork { ports, .. }) = &mut spec.network {
        ports.push(HostPort { protocol: Protocol::Udp, node_port: 53, pod_port: 53, node_ip: None });
    }
    assert!(fail_everywhere(&world, &spec, When::After) > 20);
    let tables = world.netns.run(|| std::process::Command::new("nft").args(["list", "tables"]).output());
    assert_eq!(tables.expect("entered").expect("nft runs").stdout, b"");
}

type Change = fn(&mut SandboxSpec);

#[test]
fn what_the_kernel_itself_refuses_leaves_nothing_behind() {
    let world = World::with(|settings| settings.unsafe_sysctls = vec!["net.*".to_owned()]);
    let wrong: [(Change, &str); 3] = [
        (|spec| spec.hostname.name = "x".repeat(65), "spec.hostname"),
        (|spec| spec.sysctls.extend([("net.ipv4.ip_forward".to_owned(), "maybe".to_owned())]), "ip_forward"),
        (|spec| spec.name = "../up".to_owned(), "metadata.name"),
    ];
    for (change, expected) in wrong {
        let mut spec = spec(2);
        change(&mut spec);
        let error = Sandbox::create(&spec, &world.node).expect_err("refused");
        assert!(error.to_string().contains(expected), "{error}");
        world.assert_empty();
    }
}
