//! Pods in the stage's own namespace that answer each datagram with their address.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

use kernel_io::link::Link;

use crate::stage::Stage;

pub(crate) const POD_PORT: u16 = 5353;

/// The conditions of an endpoint that serves.
pub(crate) const READY: &str = "ready: true";

/// Starts pods.
pub(crate) fn answer_datagrams(stage: &Stage, pods: &[Ipv4Addr]) {
    let lo = Link::loopback(&stage.netns);
    for pod in pods.iter().copied() {
        lo.add_address(format!("{pod}/32").parse().expect("an address")).expect("added");
        let socket = stage.netns.run(|| UdpSocket::bind((pod, POD_PORT))).expect("entered").expect("a port");
        thread::spawn(move || {
            let mut question = [0; 16];
            while let Ok((_, client)) = socket.recv_from(&mut question) {
                // Whoever is gone has lost interest.
                let _ = socket.send_to(pod.to_string().as_bytes(), client);
            }
        });
    }
}

/// The endpoints of Service dns, each with its conditions.
pub(crate) fn slice(endpoints: &[(Ipv4Addr, &str)]) -> String {
    let endpoint = |(address, conditions): &(Ipv4Addr, &str)| {
        format!("  - {{addresses: [\"{address}\"], conditions: {{{conditions}}}}}\n")
    };
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: dns-1
  namespace: default
  labels: {{kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{{name: dns, port: {POD_PORT}, protocol: UDP}}]
endpoints:
{}",
        endpoints.iter().map(endpoint).collect::<String>()
    )
}
