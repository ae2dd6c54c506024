//! What is wanted for which machine, and what becomes of it in a namespace.

use kernel_io::netns::Netns;

use super::*;

/// As upstream has it by default.
const DEFAULT: ConntrackSettings = ConntrackSettings {
    max_per_core: Some(32_768),
    min: 131_072,
    tcp_established: Some(Duration::from_hours(24)),
    tcp_close_wait: Some(Duration::from_hours(1)),
    udp: None,
    udp_stream: None,
    tcp_be_liberal: TcpBeLiberal::AsItIs,
};

fn most(settings: &ConntrackSettings, cores: u32) -> Option<u64> {
    let wanted = wanted(settings, cores);
    wanted.iter().find(|setting| setting.name == "nf_conntrack_max").map(|setting| setting.value)
}

#[test]
fn the_limit_grows_with_the_cores_between_its_bounds() {
    assert_eq!(most(&DEFAULT, 1), Some(131_072));
    assert_eq!(most(&DEFAULT, 8), Some(262_144));
    assert_eq!(most(&DEFAULT, 1000), Some(1_048_576));
    let large = ConntrackSettings { min: 2_000_000, ..DEFAULT };
    assert_eq!(most(&large, 8), Some(2_000_000));
    assert_eq!(most(&large, 1000), Some(1_048_576), "the bound of the product goes before the least");
    assert_eq!(most(&ConntrackSettings { max_per_core: Some(u32::MAX), ..DEFAULT }, 8), Some(1_048_576));
}

#[test]
fn without_a_number_per_core_the_limit_is_left_alone() {
    let settings = ConntrackSettings { max_per_core: None, ..DEFAULT };
    assert_eq!(
        wanted(&settings, 8).iter().map(|setting| setting.name).collect::<Vec<_>>(),
        ["nf_conntrack_tcp_timeout_established", "nf_conntrack_tcp_timeout_close_wait"]
    );
}

#[test]
fn cores_are_counted_by_their_ranges() {
    assert_eq!(counted("0"), Some(1));
    assert_eq!(counted("0-3,8,10-11"), Some(7));
    assert_eq!(counted("3-0"), None);
    assert_eq!(counted(""), None);
    assert!(cores() > 0);
}

#[test]
fn what_a_namespace_may_set_is_set_and_the_rest_is_refused_with_its_reason() {
    let netns = Netns::new().expect("a namespace");
    let read = |name: &str| sysctl::read(&format!("net.netfilter.{name}")).expect("a setting");
    netns
        .run(|| {
            let settings = ConntrackSettings {
                max_per_core: None,
                udp: Some(Duration::from_secs(17)),
                udp_stream: Some(Duration::from_secs(170)),
                tcp_be_liberal: TcpBeLiberal::Yes,
                ..DEFAULT
            };
            assert!(set(&settings).0.is_empty());
            let set = [
                ("nf_conntrack_tcp_timeout_established", "86400"),
                ("nf_conntrack_tcp_timeout_close_wait", "3600"),
                ("nf_conntrack_tcp_be_liberal", "1"),
                ("nf_conntrack_udp_timeout", "17"),
                ("nf_conntrack_udp_timeout_stream", "170"),
            ];
            for (name, value) in set {
                assert_eq!(read(name), value, "{name}");
            }
            super::set(&DEFAULT).tell();
            assert_eq!(read("nf_conntrack_tcp_be_liberal"), "1", "it is never switched off");
            let limit = |value| Setting { name: "nf_conntrack_max", value, kind: Kind::Limit };
            let before = read("nf_conntrack_max");
            assert_eq!(limit(1).apply(), Ok(()), "it is higher already");
            let refused = limit(u64::from(u32::MAX) >> 1).apply().expect_err("the limit is the machine's");
            assert!(refused.starts_with("nf_conntrack_max=2147483647: "), "{refused}");
            assert_eq!(read("nf_conntrack_max"), before);
        })
        .expect("entered");
}
