//! Every endpoint of a Service is replaced, one after another, while clients use it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::connections::Connection;
use crate::stage::until;
use crate::world::{ENDPOINTS, WEB, World};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_rolling_restart_loses_no_connection_of_those_that_come_nor_of_those_that_stay", a_rolling_restart),
    ("a_switch_to_the_iptables_mode_and_back_loses_none_either", a_switch_and_back),
];

/// How many new connections a second, and how many that stay.
const RATE: u32 = 200;
const LONG_LIVED: usize = 50;
const STEP: Duration = Duration::from_secs(2);

fn a_rolling_restart() {
    let [a, b, c, d] = ENDPOINTS;
    let world = World::with_web(&[a, b]);
    let _proxy = world.proxy(&[]);
    none_is_lost(&world, || {
        for now in [[b, c], [c, d], [d, a], [a, b]] {
            world.endpoints(&now);
            let number = |endpoint: &str| endpoint.rsplit('.').next().map(|last| format!("{last}:1"));
            let wanted: Vec<String> = now.iter().copied().filter_map(number).collect();
            let all = || wanted.iter().all(|each| world.weights().contains(each));
            until("the endpoints are replaced", all, || world.weights());
            thread::sleep(STEP);
        }
    });
}

fn a_switch_and_back() {
    let world = World::with_web(&ENDPOINTS);
    let proxy = world.proxy(&[]);
    none_is_lost(&world, || {
        proxy.end_by("-TERM");
        let proxy = world.in_iptables_mode(&[]);
        proxy.until_log("live on");
        thread::sleep(STEP);
        assert!(!world.servers().is_empty(), "those that stay came in by them");
        proxy.end_by("-TERM");
        let _proxy = world.proxy(&[]);
        thread::sleep(STEP);
    });
}

/// What happens meanwhile loses no connection: none of those that come and go, and none of those that stay.
fn none_is_lost(world: &World, happens: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let (opened, lived) = thread::scope(|scope| {
        let coming = scope.spawn(|| world.outside.run(|| come_and_go(&stop)).expect("entered"));
        let staying = scope.spawn(|| stay(world, &stop));
        let until_then = Until(&stop);
        thread::sleep(STEP);
        happens();
        drop(until_then);
        (coming.join().expect("all connect"), staying.join().expect("all live"))
    });
    assert!(opened > 0 && lived == LONG_LIVED);
    eprintln!("{opened} connections came and went, {lived} stayed; none was lost");
}

/// Ends what goes on, also when a test fails.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// As many a second as it should be, as far as the machine can.
fn come_and_go(stop: &AtomicBool) -> u32 {
    let start = Instant::now();
    let mut opened = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut connection = Connection::open_here(0, WEB).expect("none is lost");
        assert!(connection.lives(), "none is cut");
        opened += 1;
        thread::sleep((Duration::from_secs(1) * opened / RATE).saturating_sub(start.elapsed()));
    }
    opened
}

fn stay(world: &World, stop: &AtomicBool) -> usize {
    let mut all: Vec<Connection> = (0..LONG_LIVED).map(|_| world.connect()).collect();
    while !stop.load(Ordering::Relaxed) {
        assert!(all.iter_mut().all(Connection::lives), "all live");
        thread::sleep(Duration::from_millis(100));
    }
    all.iter_mut().filter_map(|connection| connection.lives().then_some(())).count()
}
