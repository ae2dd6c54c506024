use std::net::Ipv4Addr;

use crate::{KubeProxyConfiguration, OwnSettings, ProxyMode};

use super::*;

#[test]
fn what_comes_before_the_first_lists_are_whole_is_kept_but_not_yet_served() {
    let settings = KubeProxyConfiguration::default().checked(&OwnSettings::default(), || ProxyMode::Iptables);
    let settings = settings.expect("the defaults are sound").settings;
    let mut knowledge = Knowledge::new(settings, "node-1".into(), Ipv4Addr::UNSPECIFIED.into());
    let batch = |events| Batch { events, ..Batch::default() };
    let early =
        knowledge.take(batch(vec![Event::ServiceRanges(vec!["10.96.0.0/12".parse().expect("a range")])]));
    assert_eq!((knowledge.listed(), early), (Listed::NotYet, Touched::everything()));
    assert_eq!(knowledge.take(batch(vec![])), Touched::nothing());
    assert_eq!(knowledge.listed(), Listed::NotYet);
    let all = knowledge.take(batch(vec![Event::Listed]));
    assert_eq!((knowledge.listed(), all), (Listed::Yes, Touched::everything()));
    assert_eq!(knowledge.plan(&Touched::nothing(), Family::V4).node.service_ranges.len(), 1);
}

#[test]
fn the_address_that_the_operator_knows_comes_before_the_others() {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    for (ips, bind_address, expected) in [
        (&["10.0.0.1", "fd00::1"][..], "0.0.0.0", &["10.0.0.1", "fd00::1"][..]),
        (&["10.0.0.1", "fd00::1"], "::", &["10.0.0.1", "fd00::1"]),
        (&["10.0.0.1", "fd00::1"], "10.0.0.9", &["10.0.0.9", "fd00::1"]),
        (&["10.0.0.1", "fd00::1"], "fd00::9", &["fd00::9", "10.0.0.1"]),
        (&[], "10.0.0.9", &["10.0.0.9"]),
    ] {
        let ips: Vec<IpAddr> = ips.iter().map(|text| ip(text)).collect();
        let expected: Vec<IpAddr> = expected.iter().map(|text| ip(text)).collect();
        assert_eq!(with_bind_address(&ips, ip(bind_address)), expected, "{bind_address}");
    }
}
