use super::*;

fn settings() -> IpvsSettings {
    IpvsSettings::default()
}

#[test]
fn a_release_begins_with_its_version() {
    assert_eq!(kernel_version("6.1.176"), Some((6, 1)));
    assert_eq!(kernel_version("5.10-rc1-amd64"), Some((5, 10)));
    assert_eq!(kernel_version("unknown"), None);
}

#[test]
fn strict_arp_is_two_settings_more() {
    let strict = IpvsSettings { strict_arp: StrictArp::Yes, ..settings() };
    let all = |settings| sysctls(settings, Some((6, 1))).len();
    assert_eq!(all(&strict), all(&settings()) + 2);
}

#[test]
fn a_port_that_is_used_again_waits_for_nobody_whatever_the_kernel() {
    let kernels = [
        (Some((4, 0)), None),
        (Some((4, 1)), Some("0")),
        (Some((5, 8)), Some("0")),
        (Some((5, 9)), None),
        (Some((6, 18)), None),
        (None, None),
    ];
    for (kernel, expected) in kernels {
        let all = sysctls(&settings(), kernel);
        let mode = all.iter().find(|(name, _)| *name == "net.ipv4.vs.conn_reuse_mode");
        assert_eq!(mode.map(|(_, value)| *value), expected, "{kernel:?}");
    }
}

#[test]
fn what_is_missing_is_told_in_one_line() {
    let missing = [
        IpvsError::from(ipvs::OpenError::Missing),
        ipset::OpenError::Missing { what: "ipset".to_owned(), module: "ip_set".to_owned() }.into(),
    ];
    let lines =
        ["the kernel has no IPVS; load the module ip_vs", "the kernel has no ipset; load the module ip_set"];
    for (error, line) in missing.into_iter().zip(lines) {
        assert!(error.is_absence());
        assert_eq!(error.to_string(), line);
    }
}
