//! Thousands of objects at once, written where the API server keeps them: no user's client is that fast.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};

use data_encoding::BASE64;

use crate::cluster::Cluster;

/// Writes Services and their slices, `count` of each, all of one pod's address.
pub(crate) fn create(cluster: &Cluster, count: u32, pod: &str) {
    send(cluster, "put", (0..count).flat_map(|number| objects(number, pod)));
}

/// Removes them.
pub(crate) fn delete(cluster: &Cluster, count: u32) {
    let key = |key: String| format!("{{\"key\":\"{}\"}}", BASE64.encode(key.as_bytes()));
    send(cluster, "deleterange", (0..count).flat_map(keys).map(key));
}

/// Number N has an address of its own, which N tells.
pub(crate) fn cluster_ip(number: u32) -> String {
    format!("10.97.{}.{}", number / 250, number % 250 + 1)
}

fn objects(number: u32, pod: &str) -> [String; 2] {
    let ip = cluster_ip(number);
    let metadata = |labels: &str| {
        format!(
            "{{\"name\":\"many-{number}\",\"namespace\":\"bulk\",\"uid\":\"00000000-0000-4000-8000-{number:012}\",\
             \"creationTimestamp\":\"2026-01-01T00:00:00Z\",\"labels\":{{{labels}}}}}"
        )
    };
    let service = format!(
        "{{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{},\"spec\":{{\"type\":\"ClusterIP\",\
         \"clusterIP\":\"{ip}\",\"clusterIPs\":[\"{ip}\"],\"ipFamilies\":[\"IPv4\"],\"ipFamilyPolicy\":\"SingleStack\",\
         \"sessionAffinity\":\"None\",\"internalTrafficPolicy\":\"Cluster\",\
         \"ports\":[{{\"protocol\":\"TCP\",\"port\":80,\"targetPort\":8080}}]}}}}",
        metadata("")
    );
    let slice = format!(
        "{{\"kind\":\"EndpointSlice\",\"apiVersion\":\"discovery.k8s.io/v1\",\"metadata\":{},\
         \"addressType\":\"IPv4\",\"ports\":[{{\"name\":\"\",\"protocol\":\"TCP\",\"port\":8080}}],\
         \"endpoints\":[{{\"addresses\":[\"{pod}\"],\"conditions\":{{\"ready\":true}}}}]}}",
        metadata(&format!("\"kubernetes.io/service-name\":\"many-{number}\""))
    );
    let [service_key, slice_key] = keys(number);
    [put(&service_key, &service), put(&slice_key, &slice)]
}

fn keys(number: u32) -> [String; 2] {
    [
        format!("/registry/services/specs/bulk/many-{number}"),
        format!("/registry/endpointslices/bulk/many-{number}"),
    ]
}

fn put(key: &str, value: &str) -> String {
    format!(
        "{{\"key\":\"{}\",\"value\":\"{}\"}}",
        BASE64.encode(key.as_bytes()),
        BASE64.encode(value.as_bytes())
    )
}

/// One request after another to etcd's own HTTP gateway: the API server counts on a number of its own for each
/// change, which a transaction of many would not give.
fn send(cluster: &Cluster, verb: &str, bodies: impl Iterator<Item = String> + Send) {
    let at = SocketAddr::from(([127, 0, 0, 1], 2379));
    let speak = || {
        let stream = TcpStream::connect(at).expect("etcd answers");
        stream.set_nodelay(true).expect("a socket");
        let mut answers = BufReader::new(stream.try_clone().expect("a socket"));
        let mut requests = stream;
        for body in bodies {
            let length = body.len();
            let head =
                format!("POST /v3/kv/{verb} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n");
            requests.write_all(format!("{head}{body}").as_bytes()).expect("etcd listens");
            let answer = answer(&mut answers);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    };
    cluster.netns.run(speak).expect("entered");
}

/// The head of one answer; its body is read over.
fn answer(answers: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(answers.read_line(&mut head).expect("etcd speaks") > 0, "{head}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.and_then(|length| length.parse().ok()).expect("a length");
    answers.read_exact(&mut vec![0; length]).expect("a body");
    head
}
