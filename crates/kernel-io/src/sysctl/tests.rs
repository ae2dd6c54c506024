//! Needs root for the settings of a network namespace that the test makes.

use super::{path, read, write};
use crate::netns::Netns;

#[test]
fn names_with_dots_and_with_slashes_lead_to_files() {
    for (name, file) in [
        ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/rp_filter", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
        ("net.ipv4.conf.eth0/1.rp_filter", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
    ] {
        assert_eq!(path(name).expect("a name").to_str(), Some(file));
    }
}

#[test]
fn names_never_leave_the_settings() {
    for name in ["", ".", "net..ipv4", "../../etc/passwd", "net/../../x", "/proc/sys/net", "net.ipv4."] {
        assert!(path(name).is_err(), "{name}");
    }
}

#[test]
fn a_namespace_has_its_own_settings() {
    let netns = Netns::new().expect("a namespace");
    let name = "net.ipv4.ip_unprivileged_port_start";
    let ours = read(name).expect("ours");
    let theirs = netns.run(|| write(name, "77").and_then(|()| read(name))).expect("entered").expect("set");
    assert_eq!(theirs, "77");
    assert_eq!(read(name).expect("ours"), ours);
}

#[test]
fn errors_name_the_setting_and_the_value() {
    let netns = Netns::new().expect("a namespace");
    let refused =
        netns.run(|| write("net.ipv4.ip_forward", "maybe")).expect("entered").expect_err("no number");
    assert_eq!(refused.to_string(), "set sysctl net.ipv4.ip_forward to \"maybe\"");
    assert_eq!(read("net.ipv4.no_such").expect_err("not there").to_string(), "read sysctl net.ipv4.no_such");
}
