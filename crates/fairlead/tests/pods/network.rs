//! Ports of the node, CNI networks, addresses that run out, and a machine that starts anew.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kernel_io::link::Links;
use kernel_io::sysctl;

use crate::world::{World, pod};

const SLEEP: &str = "command: [sleep, '1000']";
const SERVER: &str = "command: [sh, -c, 'mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www'], readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}";

/// What somebody on the node is answered at an address.
fn answer(world: &World, at: &str) -> String {
    let asked = || -> std::io::Result<String> {
        let at = at.parse().expect("an address and port");
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    world.netns.run(asked).expect("entered").unwrap_or_else(|error| panic!("{at}: {error}"))
}

#[test]
fn a_port_of_the_node_leads_to_a_pod_and_to_no_second_one() {
    let world = World::new();
    world.run(&format!(
        "{{terminationGracePeriodSeconds: 0, containers: [{{name: a, image: IMAGE, {SERVER}, ports: [{{containerPort: 80, hostPort: 8080}}]}}]}}"
    ));
    assert!(answer(&world, "192.0.2.1:8080").ends_with("\r\n\r\nhello\n"));
    let before = world.container("a");
    let other = pod(
        "q",
        &format!(
            "{{terminationGracePeriodSeconds: 0, containers: [{{name: a, image: IMAGE, {SLEEP}, ports: [{{containerPort: 1, hostPort: 8080}}]}}]}}"
        ),
    );
    let told = world.bad(&["run", "-f", &world.manifest(&other)]);
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("hostPort: tcp-8080 is taken by sandbox default_p"), "{told}");
    assert_eq!(world.container("a"), before);
    world.good(&["rm", "-f", "q"]);
    world.finish(&["p"]);
}

#[test]
fn when_all_addresses_are_taken_the_next_pod_is_refused_in_a_line() {
    let world = World::new();
    let run = |name: &str| {
        let spec =
            format!("{{terminationGracePeriodSeconds: 0, containers: [{{name: a, image: IMAGE, {SLEEP}}}]}}");
        let path = world.manifest(&pod(name, &spec));
        world.pod(&["run", "--timeout", "60", "--pod-cidr", "10.9.0.0/30", "-f", &path])
    };
    // Of four addresses two are names of the range, and the first of the others may be the node's.
    let ran = run("p");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let before = world.container("a");
    let told = String::from_utf8_lossy(&run("q").stderr).into_owned();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("every address of 10.9.0.0/30 is taken, by 1 pods"), "{told}");
    assert_eq!(world.container("a"), before);
    world.good(&["rm", "-f", "q"]);
    world.finish(&["p"]);
}

/// A directory of CNI configurations in which the first plugin is Debian's bridge.
fn configure(world: &World, last: &str) -> String {
    let directory = world.directory.path().join("net.d");
    fs::create_dir_all(&directory).expect("made");
    let list = format!(
        r#"{{ "cniVersion": "1.0.0", "name": "pods", "plugins": [
            {{ "type": "bridge", "bridge": "cni-pods", "isGateway": true, "ipam": {{ "type": "host-local",
               "dataDir": "{}", "ranges": [[{{ "subnet": "10.9.0.0/29" }}]], "routes": [{{ "dst": "0.0.0.0/0" }}] }} }},
            {{ "type": "portmap", "capabilities": {{ "portMappings": true }} }}{last} ] }}"#,
        world.directory.path().join("leases").display()
    );
    fs::write(directory.join("10-pods.conflist"), list).expect("written");
    directory.display().to_string()
}

/// What plugins leave on the node is the bridge alone.
fn finish_with_bridge(world: World, pods: &[&str]) {
    for pod in pods {
        world.good(&["rm", "-f", pod]);
    }
    let links = Links::of(&world.netns).and_then(|mut links| links.list()).expect("listed");
    let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(names, ["lo", "cni-pods"]);
    let leases = fs::read_dir(world.directory.path().join("leases/pods")).into_iter().flatten().flatten();
    let leases: Vec<_> = leases
        .filter_map(|lease| lease.file_name().into_string().ok())
        .filter(|name| name.starts_with("10."))
        .collect();
    assert!(leases.is_empty(), "{leases:?}");
    Links::of(&world.netns).and_then(|mut links| links.delete("cni-pods")).expect("deleted");
    world.finish(&[]);
}

#[test]
fn a_pod_in_a_cni_network_has_its_address_and_its_port_of_the_node() {
    let world = World::new();
    world.netns.run(|| sysctl::write("net.ipv4.ip_forward", "1")).expect("entered").expect("set");
    let networks = configure(&world, "");
    let manifest = |name: &str, port: u16| {
        world.manifest(&pod(name, &format!(
            "{{terminationGracePeriodSeconds: 0, containers: [{{name: a, image: IMAGE, {SERVER}, ports: [{{containerPort: 80, hostPort: {port}}}]}}]}}"
        )))
    };
    let run = |path: &str| world.pod(&["run", "--timeout", "60", "--cni-conf-dir", &networks, "-f", path]);
    let ran = run(&manifest("p", 8080));
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let address = world.status("p")["ips"][0].as_str().expect("an address").to_owned();
    assert!(address.starts_with("10.9.0."), "{address}");
    for at in [format!("{address}:80"), "192.0.2.1:8080".to_owned()] {
        assert!(answer(&world, &at).ends_with("hello\n"), "{at}");
    }
    // Of six addresses the bridge has one.
    let (mut told, mut pods) = (String::new(), vec!["p"]);
    for (name, port) in [("q", 8081), ("r", 8082), ("s", 8083), ("t", 8084), ("u", 8085)] {
        let ran = run(&manifest(name, port));
        pods.push(name);
        if !ran.status.success() {
            told = String::from_utf8_lossy(&ran.stderr).into_owned();
            break;
        }
    }
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("no IP addresses available in range set"), "{told}");
    finish_with_bridge(world, &pods);
}

#[test]
fn a_plugin_that_fails_or_hangs_is_told_in_a_line_and_undone() {
    let plugins = tempfile::tempdir().expect("a directory");
    for (name, script, expected) in [
        (
            "unlucky",
            r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"no luck"}'; exit 1"#,
            "CNI plugin unlucky of network pods failed to ADD: no luck (code 11)",
        ),
        ("slow", "sleep 600", "CNI plugin slow of network pods was killed: ADD took longer than 30s"),
    ] {
        let path = plugins.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\n{script}\n"))
            .expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("set");
        let places = format!("{}:/usr/lib/cni", plugins.path().display());
        let world = World::new().with("CNI_PATH", Path::new(&places));
        let networks = configure(&world, &format!(r#", {{ "type": "{name}" }}"#));
        let spec =
            format!("{{terminationGracePeriodSeconds: 0, containers: [{{name: a, image: IMAGE, {SLEEP}}}]}}");
        let path = world.manifest(&pod("p", &spec));
        let told = world.bad(&["run", "--cni-conf-dir", &networks, "-f", &path]);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.trim_end().ends_with(expected), "{told}");
        finish_with_bridge(world, &["p"]);
    }
}

#[test]
fn after_the_machine_started_anew_nothing_of_before_is_believed() {
    let world = World::new();
    world.run(&format!(
        "{{terminationGracePeriodSeconds: 0, containers: [{{name: a, image: IMAGE, {SLEEP}}}]}}"
    ));
    let status = world.status("p");
    for pid in [&status["holder"], &status["containers"][0]["state"]["running"]["pid"]] {
        let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("start kill");
        assert!(killed.success());
    }
    // What the machine would say of itself if it had started anew.
    let journal = world.root().join("sandboxes/default_p/journal");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("read");
    let text = fs::read_to_string(&journal).expect("read");
    assert!(text.contains(boot.trim()), "{text}");
    fs::write(&journal, text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")).expect("written");
    fs::set_permissions(&journal, Permissions::from_mode(0o600)).expect("set");
    let told = String::from_utf8_lossy(&world.pod(&["list"]).stderr).into_owned();
    assert!(told.contains("pod default/p: its holder had died"), "{told}");
    let status = world.await_phase("Failed");
    assert!(
        status["message"].as_str().is_some_and(|text| text.contains("the machine has started anew")),
        "{status}"
    );
    world.good(&["rm", "p"]);
    world.finish(&[]);
}
