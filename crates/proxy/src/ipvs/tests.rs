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
    assert_eq!(sysctls(&strict).len(), sysctls(&settings()).len() + 2);
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
