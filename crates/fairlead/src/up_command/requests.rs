//! Requests that pods tell of in their logs.

use std::collections::BTreeMap;

use pod_manifests::ObjectName;
use pod_runtime::{Follow, Root};
use up::PodRow;

/// How often each pod told of a request.
#[derive(Debug)]
pub(crate) struct Requests {
    root: Root,
    pods: BTreeMap<ObjectName, Followed>,
}

#[derive(Debug)]
struct Followed {
    logs: Vec<Follow>,
    count: u64,
}

/// How a request's line begins, whatever stands before it.
const METHODS: [&str; 7] = ["GET /", "HEAD /", "POST /", "PUT /", "PATCH /", "DELETE /", "OPTIONS /"];

impl Requests {
    pub(crate) fn of(root: Root) -> Self {
        Self { root, pods: BTreeMap::new() }
    }

    /// Reads on in the logs of these pods.
    pub(crate) fn read(&mut self, pods: &[PodRow]) {
        let name = |pod: &PodRow| ObjectName { namespace: pod.namespace.clone(), name: pod.name.clone() };
        let names: Vec<_> = pods.iter().map(name).collect();
        self.pods.retain(|pod, _| names.contains(pod));
        for name in names {
            let root = &self.root;
            let followed = self.pods.entry(name.clone()).or_insert_with(|| {
                let containers = root.status(&name).map(|status| status.containers).unwrap_or_default();
                let logs = containers.iter().filter_map(|one| root.log(&name, Some(&one.name)).ok());
                Followed { logs: logs.collect(), count: 0 }
            });
            followed.read();
        }
    }

    /// How often a pod told of one.
    pub(crate) fn count(&self, pod: &PodRow) -> u64 {
        let name = ObjectName { namespace: pod.namespace.clone(), name: pod.name.clone() };
        self.pods.get(&name).map_or(0, |followed| followed.count)
    }
}

impl Followed {
    fn read(&mut self) {
        for log in &mut self.logs {
            while let Ok(Some(line)) = log.line() {
                self.count += u64::from(tells_of_request(&String::from_utf8_lossy(&line.text)));
            }
        }
    }
}

/// Whether a line tells of a request: by its method and path, or as busybox's httpd does.
fn tells_of_request(line: &str) -> bool {
    METHODS.iter().any(|method| line.contains(method)) || line.contains("url:/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_in_many_ways() {
        for (line, tells) in [
            ("10.0.0.1 - - [05/Oct/2026] \"GET /index.html HTTP/1.1\" 200", true),
            ("POST /messages", true),
            ("[::ffff:192.0.2.1]:41820: url:/cgi-bin/list", true),
            ("[::ffff:192.0.2.1]:41820: response:200", false),
            ("listening on /tmp/socket", false),
        ] {
            assert_eq!(tells_of_request(line), tells, "{line}");
        }
    }
}
