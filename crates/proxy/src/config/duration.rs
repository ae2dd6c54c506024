//! Spans of time as Go writes them: `15m`, `1h30m`, `-250ms`, `0`; and as it prints them: `15m0s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A span of time, which may be negative, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

/// A text that is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a duration, such as 250ms, 30s or 1h30m")]
pub struct DurationError(String);

/// The units, the longest name of those that begin alike first, with their nanoseconds.
const UNITS: [(&str, i128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    /// None at all.
    pub const ZERO: Self = Self(0);

    /// So many seconds.
    pub const fn of_seconds(seconds: i64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    pub(super) const fn of_nanoseconds(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// Whether it is none at all.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The same where it is not negative.
    pub fn not_negative(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let error = || DurationError(text.to_owned());
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let total = match rest {
            "" => return Err(error()),
            "0" => 0,
            _ => sum(rest).ok_or_else(error)?,
        };
        i64::try_from(sign * total).map(Self).map_err(|_| error())
    }
}

/// Nanoseconds of numbers with units, one after another.
fn sum(text: &str) -> Option<i128> {
    let mut total: i128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| letter != '.' && !letter.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|letter: char| letter == '.' || letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, scale) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, scale)?)?;
        rest = tail;
    }
    Some(total)
}

/// A number, perhaps with a fraction, of units; what is less than a nanosecond is cut off.
fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than these are of no weight in any unit.
    let fraction = &fraction[..fraction.len().min(15)];
    let parts: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let one = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(scale)?.checked_add(parts * scale / one)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let all = self.0.unsigned_abs();
        if all == 0 {
            return write!(out, "0s");
        }
        for (unit, scale) in [("ns", 1_u64), ("µs", 1_000), ("ms", 1_000_000)] {
            if all < scale * 1_000 {
                return write!(out, "{sign}{}{unit}", decimal(all, scale));
            }
        }
        let (minutes, seconds) = (all / 60_000_000_000, all % 60_000_000_000);
        let seconds = decimal(seconds, 1_000_000_000);
        match (minutes / 60, minutes % 60) {
            (0, 0) => write!(out, "{sign}{seconds}s"),
            (0, minutes) => write!(out, "{sign}{minutes}m{seconds}s"),
            (hours, minutes) => write!(out, "{sign}{hours}h{minutes}m{seconds}s"),
        }
    }
}

/// So many units, without zeros at the end.
fn decimal(all: u64, scale: u64) -> String {
    let (whole, rest) = (all / scale, all % scale);
    if rest == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    format!("{whole}.{rest:0width$}").trim_end_matches('0').to_owned()
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_in_go() {
        let rows = [
            ("0", Some("0s")),
            ("0s", Some("0s")),
            ("-0s", Some("0s")),
            ("15m", Some("15m0s")),
            ("1h30m", Some("1h30m0s")),
            ("24h", Some("24h0m0s")),
            ("1.5s", Some("1.5s")),
            (".5s", Some("500ms")),
            ("5.s", Some("5s")),
            ("1.5h", Some("1h30m0s")),
            ("250ms", Some("250ms")),
            ("1500us", Some("1.5ms")),
            ("7ns", Some("7ns")),
            ("61s", Some("1m1s")),
            ("+5s", Some("5s")),
            ("-5s", Some("-5s")),
            ("-1m30.25s", Some("-1m30.25s")),
            ("", None),
            ("-", None),
            ("15", None),
            (".s", None),
            ("1.2.3s", None),
            ("m", None),
            ("5d", None),
            ("15 m", None),
            ("9999999999h", None),
        ];
        for (text, expected) in rows {
            let read = text.parse::<GoDuration>().ok().map(|duration| duration.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
        assert_eq!("90s".parse(), Ok(GoDuration::of_seconds(90)));
        assert_eq!(GoDuration::of_seconds(90).not_negative(), Some(Duration::from_secs(90)));
        assert_eq!(GoDuration::of_seconds(-1).not_negative(), None);
    }
}
