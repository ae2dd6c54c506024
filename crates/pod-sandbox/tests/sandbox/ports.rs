//! Ports of the node that lead to a pod of the built-in network.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use kernel_io::netns::Netns;
use pod_sandbox::{HostPort, Network, PodNetwork, Protocol, Sandbox, SandboxSpec};

use crate::world::{World, spec};

fn port(node_port: u16, node_ip: Option<&str>) -> HostPort {
    let node_ip = node_ip.map(|ip| ip.parse().expect("an address"));
    HostPort { protocol: Protocol::Tcp, node_port, pod_port: 80, node_ip }
}

fn pod(number: u8, ports: Vec<HostPort>) -> SandboxSpec {
    let mut spec = spec(number);
    if let Network::Pod(PodNetwork { ports: own, .. }) = &mut spec.network {
        *own = ports;
    }
    spec
}

/// By whom a listener in a pod is reached at an address of the node, if it is.
fn reached(from: &Netns, to: &TcpListener, at: &str) -> Option<IpAddr> {
    let at: SocketAddr = at.parse().expect("an address and port");
    let connected = from.run(|| TcpStream::connect_timeout(&at, Duration::from_secs(2))).expect("entered");
    connected.ok()?;
    Some(to.accept().expect("accepted").1.ip())
}

fn tables(world: &World) -> String {
    let listed = world.netns.run(|| Command::new("nft").args(["list", "tables"]).output());
    String::from_utf8(listed.expect("entered").expect("nft runs").stdout).expect("text")
}

#[test]
fn a_port_of_the_node_leads_to_its_pod_from_everywhere_and_is_gone_with_it() {
    let world = World::new();
    let mut server = world.made(&pod(2, vec![port(8080, None), port(8081, Some("192.0.2.1"))]));
    let client = world.made(&spec(3));
    let (server_net, client_net) = (server.netns().expect("its own"), client.netns().expect("its own"));
    let listener = server_net.run(|| TcpListener::bind("[::]:80")).expect("entered").expect("listens");
    for at in ["192.0.2.1:8080", "[fd00:2::1]:8080", "192.0.2.1:8081"] {
        assert!(reached(&client_net, &listener, at).is_some(), "{at} from another pod");
        assert!(reached(&world.netns, &listener, at).is_some(), "{at} from the node");
        assert!(reached(&server_net, &listener, at).is_some(), "{at} from the pod itself");
    }
    let source = reached(&client_net, &listener, "192.0.2.1:8080").expect("reached");
    assert_eq!(source.to_string(), "::ffff:10.1.0.3", "who asks is seen");
    for at in ["[fd00:2::1]:8081", "10.1.0.3:8080", "192.0.2.1:80"] {
        assert_eq!(reached(&world.netns, &listener, at), None, "{at} leads nowhere");
    }
    let listed = world.netns.run(|| Command::new("nft").args(["list", "ruleset"]).output());
    let listed = listed.expect("entered").expect("nft runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    server.remove().expect("removed");
    assert_eq!(tables(&world), "");
}

#[test]
fn a_port_that_another_pod_has_is_refused_by_name() {
    let world = World::new();
    let first = world.made(&pod(2, vec![port(8080, Some("192.0.2.1"))]));
    for (number, other) in [(3, port(8080, None)), (4, port(8080, Some("192.0.2.1")))] {
        let error = Sandbox::create(&pod(number, vec![other]), &world.node).expect_err("taken").to_string();
        let expected = format!(
            "sandbox pod-{number}: reserve ports of the node: spec.containers[].ports[].hostPort: \
             tcp-8080-192.0.2.1 is taken by sandbox pod-2"
        );
        assert_eq!(error, expected);
    }
    let mut beside = world.made(&pod(5, vec![port(8080, Some("192.0.2.9")), port(8081, None)]));
    beside.remove().expect("removed");
    drop(first);
    world.assert_empty();
}
