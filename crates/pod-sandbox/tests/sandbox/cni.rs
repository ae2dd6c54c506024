//! Networks by CNI plugins: Debian's own, and ones that fail and hang.

use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use kernel_io::link::Links;
use pod_sandbox::{
    Adopted, CreateError, HostPort, Network, PidSharing, PodNetwork, Protocol, Sandbox, SandboxSpec,
};

use crate::world::{World, spec};

/// A network of Debian's plugins, and then perhaps another plugin.
fn configure(world: &World, version: &str, last: &str) {
    let (root, ipam) = (world.root(), world.root().join("ipam"));
    let list = format!(
        r#"{{ "cniVersion": "{version}", "name": "pods", "plugins": [
            {{ "type": "bridge", "bridge": "cni-test", "isGateway": true, "ipMasq": false, "ipam": {{
                "type": "host-local", "dataDir": "{}", "ranges": [
                    [{{ "subnet": "10.9.0.0/24" }}], [{{ "subnet": "fd00:9::/64" }}]],
                "routes": [{{ "dst": "0.0.0.0/0" }}, {{ "dst": "::/0" }}] }} }},
            {{ "type": "portmap", "capabilities": {{ "portMappings": true }} }}{last} ] }}"#,
        ipam.display()
    );
    fs::create_dir_all(root.join("net.d")).expect("made");
    // The first by name counts.
    fs::write(root.join("net.d/10-pods.conflist"), list).expect("written");
    fs::write(root.join("net.d/20-other.conflist"), "not read").expect("written");
}

fn world() -> World {
    World::with(|settings| {
        settings.cni.plugins = vec![settings.root.join("plugins"), "/usr/lib/cni".into()];
        settings.cni.timeout = Duration::from_secs(20);
    })
}

/// A plugin of ours: a script.
fn plugin(world: &World, name: &str, script: &str) {
    let path = world.root().join("plugins").join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("set");
}

fn pod() -> SandboxSpec {
    let port = HostPort { protocol: Protocol::Tcp, node_port: 8080, pod_port: 80, node_ip: None };
    let network = PodNetwork { ports: vec![port], ..PodNetwork::default() };
    SandboxSpec { network: Network::Pod(network), ..spec(2) }
}

/// The addresses that host-local has given away.
fn leases(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.root().join("ipam/pods")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.parse::<IpAddr>().is_ok()).collect()
}

/// What plugins leave on the node when no pod is there: the bridge, and no port of it.
fn assert_only_the_bridge(world: &World) {
    assert!(leases(world).is_empty(), "{:?}", leases(world));
    let links = Links::of(&world.netns).and_then(|mut links| links.list()).expect("listed");
    let left: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(left, ["lo", "cni-test"]);
    let rules = world.netns.run(|| {
        let saved = std::process::Command::new("iptables-save").output().expect("it runs");
        String::from_utf8_lossy(&saved.stdout).into_owned()
    });
    let rules = rules.expect("entered");
    assert!(!rules.contains("8080"), "{rules}");
    assert!(Sandbox::names(&world.node).expect("listed").is_empty());
}

#[test]
fn debians_plugins_give_addresses_a_way_and_a_port_of_the_node() {
    for version in ["0.4.0", "1.0.0"] {
        let world = world();
        configure(&world, version, "");
        let mut pod = world.made(&pod());
        let addresses = pod.addresses().to_vec();
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        assert_eq!(leases(&world).len(), 2);
        let hosts = fs::read_to_string(pod.hosts()).expect("written");
        assert!(addresses.iter().all(|address| hosts.contains(&format!("{address}\tpod-2"))), "{hosts}");
        let netns = pod.netns().expect("its own");
        let listener = netns.run(|| TcpListener::bind("[::]:80")).expect("entered").expect("listens");
        let ways = addresses.iter().map(|address| SocketAddr::new(*address, 80));
        for to in ways.chain(["192.0.2.1:8080".parse().expect("an address")]) {
            let connected = world
                .netns
                .run(|| TcpStream::connect_timeout(&to, Duration::from_secs(10)))
                .expect("entered");
            connected.unwrap_or_else(|error| panic!("{version}: connect to {to}: {error}"));
        }
        drop(listener);
        pod.remove().expect("removed");
        assert_only_the_bridge(&world);
    }
}

/// Without ports: portmap 1.1.1 looks for the rules of one family among those of the other.
#[test]
fn a_pod_that_lost_its_link_is_told_by_a_check() {
    for version in ["0.4.0", "1.0.0"] {
        let world = world();
        configure(&world, version, "");
        let network = Network::Pod(PodNetwork::default());
        let mut pod = world.made(&SandboxSpec { network, ..spec(2) });
        pod.check_network().unwrap_or_else(|error| panic!("{version}: {error}"));
        let delete = |mut links: Links| links.delete("eth0");
        Links::of(&pod.netns().expect("its own")).and_then(delete).expect("deleted");
        let error = pod.check_network().expect_err("its link is gone").to_string();
        assert!(error.starts_with("CNI plugin bridge of network pods failed to CHECK: "), "{error}");
        pod.remove().expect("removed");
        assert_only_the_bridge(&world);
    }
}

#[test]
fn a_plugin_that_fails_is_told_and_what_the_others_did_is_undone() {
    let world = world();
    let words = r#"{"cniVersion":"1.0.0","code":11,"msg":"no luck","details":"today"}"#;
    plugin(&world, "unlucky", &format!("[ $CNI_COMMAND = ADD ] || exit 0\necho '{words}'\nexit 1"));
    configure(&world, "1.0.0", r#", { "type": "unlucky" }"#);
    let error = Sandbox::create(&pod(), &world.node).expect_err("it fails").to_string();
    let expected = "sandbox pod-2: attach to CNI network pods: CNI plugin unlucky of network pods failed to ADD: no \
                    luck; today (code 11)";
    assert_eq!(error, expected);
    assert_only_the_bridge(&world);
}

#[test]
fn a_plugin_that_hangs_is_killed_with_its_children() {
    let world = World::with(|settings| {
        settings.cni.plugins = vec![settings.root.join("plugins")];
        settings.cni.timeout = Duration::from_millis(300);
    });
    let root = world.root().to_path_buf();
    plugin(
        &world,
        "slow",
        &format!("[ $CNI_COMMAND = ADD ] || exit 0\nsleep 600 &\necho $! >{}/pid\nwait", root.display()),
    );
    fs::create_dir_all(root.join("net.d")).expect("made");
    fs::write(root.join("net.d/a.conf"), r#"{"cniVersion":"1.0.0","name":"pods","type":"slow"}"#)
        .expect("written");
    let spec = SandboxSpec { network: Network::Pod(PodNetwork::default()), ..spec(2) };
    let error = Sandbox::create(&spec, &world.node).expect_err("it hangs").to_string();
    assert!(
        error.ends_with("CNI plugin slow of network pods was killed: ADD took longer than 300ms"),
        "{error}"
    );
    let pid = fs::read_to_string(root.join("pid")).expect("written");
    crate::world::soon("its child is gone", || {
        let status = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        status.map_or(true, |status| status.contains(") Z "))
    });
    world.assert_empty();
}

#[test]
fn a_plugin_hears_of_the_pod_and_of_what_the_one_before_said() {
    let world = world();
    let root = world.root().to_path_buf();
    let say = format!("{{ env | grep ^CNI_ | sort; cat; echo; }} >>{}/heard-$CNI_COMMAND", root.display());
    plugin(
        &world,
        "one",
        &format!("{say}\necho '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.9.0.7/24\"}}]}}'"),
    );
    plugin(
        &world,
        "two",
        &format!("{say}\necho '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.9.0.8/24\"}}]}}'"),
    );
    fs::create_dir_all(root.join("net.d")).expect("made");
    let list = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"one"},
        {"type":"two","capabilities":{"portMappings":true}}]}"#;
    fs::write(root.join("net.d/a.conflist"), list).expect("written");
    let mut pod = world.made(&SandboxSpec { pids: PidSharing::Container, ..pod() });
    assert_eq!(pod.addresses(), ["10.9.0.8".parse::<IpAddr>().expect("an address")]);
    let heard = |verb: &str| fs::read_to_string(root.join(format!("heard-{verb}"))).expect("written");
    let added = heard("ADD");
    for part in [
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=tests;K8S_POD_NAME=pod-2;K8S_POD_INFRA_CONTAINER_ID=pod-2;K8S_POD_UID=uid-2",
        "CNI_CONTAINERID=pod-2",
        "CNI_IFNAME=eth0",
        &format!("CNI_NETNS={}/sandboxes/pod-2/ns/net", root.display()),
        r#""prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.7/24"}]}"#,
        r#""portMappings":[{"containerPort":80,"hostPort":8080,"protocol":"tcp"}]"#,
    ] {
        assert!(added.contains(part), "{part} in {added}");
    }
    pod.remove().expect("removed");
    let deleted = heard("DEL");
    assert_eq!(deleted.matches("10.9.0.8/24").count(), 2, "both hear the last result: {deleted}");
    let places = [r#""type":"two""#, r#""type":"one""#].map(|plugin| deleted.find(plugin).expect("called"));
    assert!(places[0] < places[1], "the last is the first to go");
}

#[test]
fn what_is_wrong_with_a_network_is_told_before_anything_is_made() {
    let world = world();
    let refused = |spec: &SandboxSpec| match Sandbox::create(spec, &world.node) {
        Err(CreateError::Refused { cause, .. }) => cause.to_string(),
        other => panic!("{other:?}"),
    };
    let write = |text: &str| {
        fs::create_dir_all(world.root().join("net.d")).expect("made");
        fs::write(world.root().join("net.d/a.conf"), text).expect("written");
    };
    write("{}");
    assert!(refused(&pod()).ends_with("net.d/a.conf: name is missing"));
    write(r#"{"cniVersion":"1.0.0","name":"pods","type":"bridge"}"#);
    assert!(refused(&pod()).ends_with("no plugin of CNI network pods has the capability portMappings"));
    write(r#"{"cniVersion":"1.0.0","name":"pods","type":"nowhere"}"#);
    let spec = SandboxSpec { network: Network::Pod(PodNetwork::default()), ..spec(2) };
    let error = Sandbox::create(&spec, &world.node).expect_err("it is not there").to_string();
    assert!(error.contains("CNI plugin nowhere of network pods is not in "), "{error}");
    // Nothing can be undone by a plugin that is not there either: it is told, and tried again by the next start.
    assert!(error.contains("not undone: attachment to CNI network pods"), "{error}");
    plugin(&world, "nowhere", "exit 0");
    assert!(matches!(Sandbox::adopt("pod-2", &world.node), Ok(Adopted::Removed(_))));
    assert!(Path::new(&world.root().join("sandboxes")).read_dir().expect("read").next().is_none());
    world.assert_empty();
}
