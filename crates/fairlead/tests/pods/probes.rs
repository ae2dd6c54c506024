//! Probes over TLS, and by the health protocol of gRPC, as etcd speaks it.

use std::process::{Child, Command, Stdio};

use crate::world::World;

const SLEEP: &str = "command: [sleep, '1000']";

/// A server of openssl, which ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

fn https(world: &World) -> Server {
    let directory = world.directory.path();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=nobody"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(directory)
        .output()
        .expect("start openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut server = Command::new("openssl");
    server.args(["s_server", "-accept", "192.0.2.1:8443", "-www", "-quiet"]);
    server.args(["-key", "key.pem", "-cert", "certificate.pem"]).current_dir(directory);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Server(world.netns.run(|| server.spawn()).expect("entered").expect("start openssl"))
}

#[test]
fn a_probe_over_tls_asks_for_nobodys_certificate() {
    let world = World::new();
    let server = https(&world);
    world.run(&format!(
        "{{containers: [{{name: a, image: IMAGE, {SLEEP}, readinessProbe: {{periodSeconds: 1, failureThreshold: 1,
          httpGet: {{scheme: HTTPS, host: 192.0.2.1, port: 8443, path: /}}}}}}]}}"
    ));
    drop(server);
    world.await_container("a", |one| one["ready"] == false);
    world.finish(&["p"]);
}

/// Debian's etcd with what it is linked to.
const ETCD: &str = "volumes: [{name: usr, hostPath: {path: /usr}}, {name: lib, hostPath: {path: /lib}}, {name: lib64, hostPath: {path: /lib64}}]";
const MOUNTS: &str = "volumeMounts: [{name: usr, mountPath: /usr, readOnly: true}, {name: lib, mountPath: /lib, readOnly: true}, {name: lib64, mountPath: /lib64, readOnly: true}]";
const COMMAND: &str = "command: [/usr/bin/etcd, --data-dir, /data, --unsafe-no-fsync, --listen-client-urls, 'http://0.0.0.0:2379', --advertise-client-urls, 'http://127.0.0.1:2379']";

#[test]
fn a_server_says_by_grpc_that_it_serves() {
    let world = World::new();
    world.run(&format!(
        "{{terminationGracePeriodSeconds: 1, {ETCD}, containers: [{{name: a, image: IMAGE, {COMMAND}, {MOUNTS},
          readinessProbe: {{grpc: {{port: 2379}}, periodSeconds: 1}}}}]}}"
    ));
    world.good(&["rm", "-f", "p"]);
    // A service that it does not know, and then nobody at all.
    let path = world.manifest(&crate::world::pod("p", &format!(
        "{{terminationGracePeriodSeconds: 1, {ETCD}, containers: [{{name: a, image: IMAGE, {COMMAND}, {MOUNTS},
          readinessProbe: {{grpc: {{port: 2379, service: none}}, periodSeconds: 1}}}},
          {{name: b, image: IMAGE, {SLEEP}, readinessProbe: {{grpc: {{port: 2380}}, periodSeconds: 1}}}}]}}"
    )));
    let mut run = world.spawn(&["run", "-f", &path]);
    for expected in ["/none: NotFound: ", ":9/: Unavailable: "] {
        let expected = expected.replace(":9/", ":2380/");
        world.eventually(|| world.holder_logs().contains(&expected).then_some(()), || expected.clone());
    }
    assert_eq!(world.container("a")["ready"], false);
    run.kill().expect("killed");
    run.wait().expect("reaped");
    world.finish(&["p"]);
}
