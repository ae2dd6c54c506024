//! More clients of the userspace mode than it has descriptors for.

use std::io::{Read as _, Write as _};
use std::process::Command;

use crate::idle::{connected, stage};
use crate::stage::{BINARY, service, until};

#[test]
fn where_descriptors_run_out_each_client_has_its_turn() {
    let stage = stage(|mut stream| stream.write_all(b"!").expect("somebody listens"));
    let mut command = Command::new("prlimit");
    command.arg("--nofile=256").arg(BINARY).args(["proxy", "--proxy-mode", "userspace", "--manifests"]);
    command.arg(stage.manifests()).env("XTABLES_LOCKFILE", stage.directory().join("xtables.lock"));
    let proxy = stage.start(command);
    proxy.until_log("pass{family=IPv4}: kernel brought to plan");
    let clients = connected(&stage, 400);
    proxy.until_log("descriptors have run out");
    stage.write("other.yaml", &service("other", "10.96.0.11", ""));
    until(
        "rules are written all the same",
        || stage.tool("iptables-save", &[], "").contains("10.96.0.11"),
        || proxy.log(),
    );
    for (turn, mut client) in clients.into_iter().enumerate() {
        let heard = client.read_exact(&mut [0]);
        assert!(heard.is_ok(), "client {turn}: {heard:?}\n{}", proxy.log());
    }
    assert!(!proxy.log().contains("Too many open files"), "{}", proxy.log());
}
