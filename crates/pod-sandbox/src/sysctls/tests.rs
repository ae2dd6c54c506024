use super::problems;
use crate::spec::{Network, PodName, SandboxSpec, Whose};

#[test]
fn settings_are_safe_allowed_or_told() {
    let pod = || SandboxSpec::new("web", PodName::default());
    let on_the_node = || SandboxSpec { network: Network::Node, ipc: Whose::Node, ..pod() };
    for (spec, name, fine) in [
        (pod(), "net.ipv4.tcp_syncookies", true),
        (pod(), "net/ipv4/tcp_syncookies", true),
        (pod(), "kernel.shm_rmid_forced", true),
        (pod(), "net.core.somaxconn", true),
        (pod(), "kernel.msgmax", true),
        (pod(), "net.ipv4.ip_forward", false),
        (pod(), "kernel.sem", false),
        (pod(), "vm.swappiness", false),
        (pod(), "kernel.hostname", false),
        (on_the_node(), "net.ipv4.tcp_syncookies", false),
        (on_the_node(), "kernel.shm_rmid_forced", false),
    ] {
        let spec = SandboxSpec { sysctls: [(name.to_owned(), "1".to_owned())].into(), ..spec };
        let allowed = ["net.core.*", "kernel.msgmax", "vm.*"].map(str::to_owned);
        assert_eq!(problems(&spec, &allowed).is_empty(), fine, "{name}");
    }
}
