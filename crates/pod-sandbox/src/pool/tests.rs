use super::{hosts, rotated};

#[test]
fn a_range_has_these_addresses() {
    for (range, expected) in [
        ("10.1.0.0/30", &["10.1.0.2"][..]),
        ("10.1.0.0/29", &["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]),
        ("10.1.0.7/32", &["10.1.0.7"]),
        ("fd00::/126", &["fd00::2", "fd00::3"]),
    ] {
        let range = range.parse().expect("a range");
        let all: Vec<_> = rotated(range, 0).map(|address| address.to_string()).collect();
        assert_eq!(all, expected, "{range}");
    }
}

#[test]
fn a_range_is_gone_through_once_from_any_place() {
    let range = "10.1.0.0/24".parse().expect("a range");
    let count = hosts(range).1;
    for offset in [0, 1, 100, count - 1, count, count + 5] {
        let mut all: Vec<_> = rotated(range, offset).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), usize::try_from(count).expect("a small range"), "{offset}");
    }
}

#[test]
fn a_huge_range_is_not_gone_through_to_its_end() {
    assert_eq!(hosts("fd00::/64".parse().expect("a range")).1, super::MOST);
    assert_eq!(hosts("::/0".parse().expect("a range")).1, super::MOST);
}
