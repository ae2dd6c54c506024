//! More clients of the userspace mode than it has descriptors for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use crate::idle::{connected, stage};
use crate::stage::{BINARY, Running, Stage, service, until};

#[test]
fn where_descriptors_run_out_each_client_has_its_turn() {
    let (stage, proxy) = serve(256);
    let clients = connected(&stage, 400);
    proxy.until_log("descriptors have run out");
    stage.write("other.yaml", &service("other", "10.96.0.11", ""));
    until(
        "rules are written all the same",
        || stage.tool("iptables-save", &[], "").contains("10.96.0.11"),
        || proxy.log(),
    );
    for (turn, client) in clients.into_iter().enumerate() {
        hears(&client, turn, &proxy);
    }
    assert!(!proxy.log().contains("Too many open files"), "{}", proxy.log());
}

#[test]
fn a_limit_that_was_raised_counts_though_nobody_leaves() {
    let (stage, proxy) = serve(2000);
    limit(&proxy, "--nofile=256:2000");
    let clients = connected(&stage, 200);
    proxy.until_log("descriptors have run out");
    limit(&proxy, "--nofile=2000:2000");
    for (turn, client) in clients.iter().enumerate() {
        hears(client, turn, &proxy);
    }
}

/// A node whose servers greet whoever comes, and a proxy that may have so many descriptors.
fn serve(limit: u32) -> (Stage, Running) {
    let stage = stage(|mut stream| stream.write_all(b"!").expect("somebody listens"));
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={limit}")).arg(BINARY).args([
        "proxy",
        "--proxy-mode",
        "userspace",
        "--manifests",
    ]);
    command.arg(stage.manifests()).env("XTABLES_LOCKFILE", stage.directory().join("xtables.lock"));
    let proxy = stage.start(command);
    proxy.until_log("pass{family=IPv4}: kernel brought to plan");
    (stage, proxy)
}

fn limit(proxy: &Running, to: &str) {
    let status = Command::new("prlimit").arg(to).arg("--pid").arg(proxy.pid().to_string()).status();
    assert!(status.expect("it starts").success(), "{to}");
}

fn hears(mut client: &TcpStream, turn: usize, proxy: &Running) {
    let heard = client.read_exact(&mut [0]);
    assert!(heard.is_ok(), "client {turn}: {heard:?}\n{}", proxy.log());
}
