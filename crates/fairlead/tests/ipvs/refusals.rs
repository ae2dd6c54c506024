//! What cannot be is told in one line.

use std::fs;

use crate::connections::Connection;
use crate::stage::{Account, Stage, endpoints, service, until};
use crate::world::{ENDPOINTS, WEB, World};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_scheduler_that_is_not_there_is_named", no_scheduler),
    ("a_service_whose_scheduler_is_not_there_is_served_by_the_usual_one", no_scheduler_of_a_service),
    ("without_root_it_says_that_it_may_not", no_permission),
    ("after_init_only_net_admin_and_net_raw_are_enough", little_is_enough),
    ("auto_chooses_iptables_where_nftables_would_not_do", auto),
    ("an_excluded_range_that_overlaps_is_told_once", overlap),
];

fn no_scheduler() {
    let stage = Stage::with_example();
    let line = stage.proxy(&["--once", "--proxy-mode", "ipvs", "--ipvs-scheduler", "nonsense"]).one_line(1);
    assert_eq!(
        line,
        "error: the kernel has no IPVS scheduler \"nonsense\"; load the module ip_vs_nonsense, or choose another"
    );
}

fn no_scheduler_of_a_service() {
    let [a, b, c, _] = ENDPOINTS;
    let at = "10.96.0.11:80";
    let world = World::with_web(&[a, b]);
    let name = |scheduler: &str| {
        let named = format!("default, annotations: {{fairlead.dev/ipvs-scheduler: {scheduler}}}");
        world.stage.write("other.yaml", &service("other", "10.96.0.11", "").replace("default", &named));
    };
    name("nonsense");
    world.stage.write("others.yaml", &endpoints("other", &[c]));
    let proxy = world.proxy(&["--ipvs-scheduler", "lc"]);
    let serves = || Connection::open(&world.outside, at).map(|found| found.endpoint.clone());
    assert_eq!(serves().expect("it is served all the same"), c);
    assert_eq!(world.answered(20), [a, b], "so is the other one");
    let told = |scheduler: &str| {
        let line = format!(
            "Service default/other: metadata.annotations[fairlead.dev/ipvs-scheduler]: the kernel has no IPVS \
             scheduler {scheduler:?}; load the module ip_vs_{scheduler}, or choose another; lc is used until the \
             Service changes"
        );
        proxy.log().lines().filter(|found| found.ends_with(&line)).count()
    };
    let becomes = |scheduler: &str| {
        until(
            &format!("the scheduler is {scheduler}"),
            || world.scheduler(at).as_deref() == Some(scheduler),
            || format!("{:?}\n{}", world.scheduler(at), proxy.log()),
        );
    };
    becomes("lc");
    assert_eq!(told("nonsense"), 1, "{}", proxy.log());
    name("sh");
    becomes("sh");
    name("rubbish");
    becomes("lc");
    world.stage.write("others.yaml", &endpoints("other", &[b]));
    until("its endpoints change", || serves().is_ok_and(|endpoint| endpoint == b), || proxy.log());
    assert_eq!((told("nonsense"), told("rubbish")), (1, 1), "{}", proxy.log());
    assert!(!proxy.log().contains("refused; its owner"), "{}", proxy.log());
    assert_eq!(world.weights(), "1:1 2:1");
}

fn no_permission() {
    let stage = Stage::with_example();
    let line = stage.proxy_of_nobody(&["--once", "--proxy-mode", "ipvs"]).one_line(1);
    assert_eq!(line, "error: ipset: permission denied; sets of addresses need root or CAP_NET_ADMIN");
}

/// The tools of legacy iptables need the second capability; IPVS itself does not.
fn little_is_enough() {
    let stage = Stage::with_example();
    stage.proxy(&["--init-only", "--proxy-mode", "ipvs"]).success();
    let run = |arguments: &[&str]| {
        let flags = ["--proxy-mode=ipvs", "--conntrack-max-per-core=0", "--conntrack-min=0"];
        let arguments = [&flags[..], arguments].concat();
        stage.ended(stage.proxy_with(Account::Root, &["net_admin", "net_raw"], &arguments)).success()
    };
    let ended = run(&["--once"]);
    assert!(!ended.stderr.contains("WARN"), "{ended:#?}");
    let servers = || {
        let read = || fs::read_to_string("/proc/thread-self/net/ip_vs").expect("a list of virtual servers");
        stage.netns.run(read).expect("entered")
    };
    assert!(servers().contains("0A60000A:0050"), "{}", servers());
    run(&["--once", "-v=4"]).wrote_nothing();
    run(&["--cleanup"]);
    assert!(!servers().contains("0A60000A:0050"), "{}", servers());
}

/// IPVS is not chosen by itself, and the kernel there has no `nf_tables` that would do.
fn auto() {
    let stage = Stage::with_example();
    stage.proxy(&["--once", "--proxy-mode=auto"]).success().line_with(&["auto chose the mode"]);
    assert!(stage.rules().contains("10.96.0.10"), "{}", stage.rules());
}

fn overlap() {
    let world = World::with_web(&[]);
    let arguments = ["--once", "--proxy-mode", "ipvs", "--ipvs-exclude-cidrs", "203.0.113.0/24,10.96.0.0/24"];
    let words = ["Service default/web", "10.96.0.10", "10.96.0.0/24"];
    world.stage.proxy(&arguments).success().line_with(&words);
    // What is there is taken for what is wanted, however often it starts.
    world.stage.proxy(&arguments).success().line_with(&words);
    let there = || world.servers().contains_key(&format!("TCP {WEB}"));
    assert!(there());
    world.stage.remove("service.yaml");
    world.stage.proxy(&arguments).success();
    assert!(there(), "it is not ours to remove");
}
