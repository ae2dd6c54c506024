//! What traffic policies and the addresses on `kube-ipvs0` let through.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::thread;

use crate::connections::Connection;
use crate::stage::{Running, service};
use crate::world::{ENDPOINTS, NODE, World};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("what_listens_on_the_node_is_not_reached_by_a_cluster_ip", node_services),
    ("a_local_policy_without_local_endpoint_drops_whoever_is_outside", local_policy),
    ("with_local_fallback_any_endpoint_serves_as_upstream", local_fallback),
];

fn node_services() {
    let world = World::with_web(&ENDPOINTS);
    let listener =
        world.stage.netns.run(|| TcpListener::bind("0.0.0.0:2222")).expect("entered").expect("a port");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever asks is told, or has lost interest.
            let _heard = std::io::Write::write_all(&mut stream, b"node\n");
        }
    });
    let _proxy = world.proxy(&[]);
    let ask = |at: &str| Connection::open(&world.outside, at).map(|found| found.endpoint.clone());
    assert_eq!(ask(&format!("{NODE}:2222")).expect("the node's own address"), "node");
    let refused = ask("10.96.0.10:2222").expect_err("nothing of the node's is at a cluster IP");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// A Service whose endpoints are all elsewhere, at a node port with a Local policy.
fn with_local_policy(arguments: &[&str]) -> (World, Running) {
    let world = World::with_web(&ENDPOINTS);
    let local = service("web", "10.96.0.10", ", nodePort: 30001")
        .replace("spec:", "spec:\n  type: NodePort\n  externalTrafficPolicy: Local");
    world.stage.write("service.yaml", &local);
    let proxy = world.proxy(arguments);
    (world, proxy)
}

fn local_policy() {
    let (world, _proxy) = with_local_policy(&[]);
    let at = format!("{NODE}:30001");
    let lost = Connection::open(&world.outside, &at).map(|found| found.endpoint.clone());
    assert_ne!(lost.expect_err("nobody answers").kind(), ErrorKind::ConnectionRefused);
    Connection::open(&world.stage.netns, &at).expect("the node itself gets any endpoint");
}

fn local_fallback() {
    let (world, _proxy) = with_local_policy(&["--ipvs-local-fallback"]);
    Connection::open(&world.outside, &format!("{NODE}:30001")).expect("any endpoint");
}
