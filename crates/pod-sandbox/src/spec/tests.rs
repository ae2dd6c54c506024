use super::{Hostname, Network, PidSharing, PodName, SandboxSpec, Shown, Whose};

fn spec() -> SandboxSpec {
    SandboxSpec::new("web", PodName { name: "web-1".to_owned(), ..PodName::default() })
}

#[test]
fn what_cannot_be_is_told_by_its_field() {
    let long = || "x".repeat(60);
    let fqdn = Hostname {
        name: long(),
        domain: Some("web.default.svc.cluster.local".to_owned()),
        shown: Shown::Full,
    };
    for (spec, fields) in [
        (spec(), &[][..]),
        (SandboxSpec { name: "a/b".to_owned(), ..spec() }, &["metadata.name"]),
        (SandboxSpec { name: "..".to_owned(), ..spec() }, &["metadata.name"]),
        (SandboxSpec { hostname: Hostname::default(), ..spec() }, &["spec.hostname"]),
        (SandboxSpec { hostname: fqdn.clone(), ..spec() }, &["spec.setHostnameAsFQDN"]),
        (SandboxSpec { hostname: Hostname { shown: Shown::Name, ..fqdn }, ..spec() }, &[]),
        (
            SandboxSpec { users: Whose::Pod, network: Network::Node, pids: PidSharing::Node, ..spec() },
            &["spec.hostNetwork", "spec.hostPID"],
        ),
    ] {
        let found: Vec<_> = spec.problems().iter().map(|problem| problem.field).collect();
        assert_eq!(found, fields, "{spec:?}");
    }
}

#[test]
fn a_pods_name_is_cut_to_what_a_host_name_may_be() {
    let name = format!("{}-{}", "x".repeat(62), "y".repeat(10));
    let spec = SandboxSpec::new("web", PodName { name, ..PodName::default() });
    assert_eq!(spec.hostname.kernel(), "x".repeat(62));
}
