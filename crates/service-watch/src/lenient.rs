//! Addresses, ranges and times as Kubernetes has always read them, which is more leniently than std does.
//!
//! Old objects hold IPv4 octets and prefix lengths with leading zeros; they are decimal. An IPv4 address
//! written as IPv6 is an IPv4 address.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// An IP address.
pub(crate) fn ip(text: &str) -> Option<IpAddr> {
    if !text.contains(':') {
        return ipv4(text).map(IpAddr::V4);
    }
    let address = match text.rsplit_once(':') {
        Some((head, tail)) if tail.contains('.') => format!("{head}:{}", ipv4(tail)?).parse(),
        _ => text.parse::<IpAddr>(),
    };
    address.ok().map(|address| address.to_canonical())
}

/// A range of addresses; bits beyond the prefix are cleared.
pub(crate) fn range(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let length = decimal(length)?;
    IpNet::new(ip(address)?, length).ok().map(|range| range.trunc())
}

/// A time of RFC 3339, in whole seconds since 1970.
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, offset) = match rest.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, 0),
        None => utc_offset(rest)?,
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61
        && !fraction.is_empty()
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    in_range.then_some(seconds)
}

fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?)?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// A number that may have leading zeros, but no sign.
fn decimal(text: &str) -> Option<u8> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// `+HH:MM` or `-HH:MM` at the end of a clock time, in seconds.
fn utc_offset(text: &str) -> Option<(&str, i64)> {
    let (clock, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let sign = match offset.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let [hours, minutes] = numbers(offset.get(1..)?, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some((clock, sign * (hours * 3_600 + minutes * 60)))
}

/// Numbers of exactly these widths with a mark between them.
fn numbers<const N: usize>(text: &str, mark: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(mark);
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next()?;
        let digits = part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = if digits { part.parse().ok()? } else { return None };
    }
    parts.next().is_none().then_some(numbers)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Counts in years that begin in March, so that the leap day is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_leniently_and_printed_canonically() {
        for (text, wanted) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("010.000.008.001", Some("10.0.8.1")),
            ("0000000010.0.0.1", Some("10.0.0.1")),
            ("256.0.0.1", None),
            ("10.0.0", None),
            ("10.0.0.0.1", None),
            ("10.0.0.", None),
            ("+10.0.0.1", None),
            (" 10.0.0.1", None),
            ("0x0a.0.0.1", None),
            ("", None),
            ("FD00:0:0::0001", Some("fd00::1")),
            ("::", Some("::")),
            ("::ffff:010.0.0.1", Some("10.0.0.1")),
            ("::ffff:0a00:1", Some("10.0.0.1")),
            ("64:ff9b::010.0.0.1", Some("64:ff9b::a00:1")),
            ("fe80::1%eth0", None),
            ("fd00:::1", None),
            ("[fd00::1]", None),
        ] {
            assert_eq!(ip(text).map(|ip| ip.to_string()).as_deref(), wanted, "{text:?}");
        }
    }

    #[test]
    fn ranges_are_read_leniently_and_printed_canonically() {
        for (text, wanted) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("010.1.2.3/08", Some("10.0.0.0/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("fd00::1/0064", Some("fd00::/64")),
            ("10.0.0.0", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0/-1", None),
            ("10.0.0.0/255.0.0.0", None),
            ("fd00::/129", None),
        ] {
            assert_eq!(range(text).map(|range| range.to_string()).as_deref(), wanted, "{text:?}");
        }
    }

    #[test]
    fn timestamps_are_seconds_since_1970() {
        for (text, wanted) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2024-03-01T00:00:00Z", Some(1_709_251_200)),
            ("2026-10-05T14:30:15.123456789Z", Some(1_791_210_615)),
            ("2026-10-05T16:30:15+02:00", Some(1_791_210_615)),
            ("2026-10-05t09:00:15-05:30", Some(1_791_210_615)),
            ("2026-10-05 14:30:15Z", Some(1_791_210_615)),
            ("2023-02-29T00:00:00Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-01-01T24:00:00Z", None),
            ("2024-01-01T00:00:00", None),
            ("2024-01-01", None),
            ("2024-01-01T00:00:00.Z", None),
            ("2024-01-01T00:00:00é:00", None),
            ("-024-01-01T00:00:00Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(timestamp(text), wanted, "{text:?}");
        }
    }
}
