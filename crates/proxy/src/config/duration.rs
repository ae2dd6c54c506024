//! Durations as Kubernetes writes them: `15m`, `1h30m`, `250ms`, `0`.

use std::time::Duration;

/// A duration that may be negative, as Go's may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    NotNegative(Duration),
    Negative,
}

/// Reads a duration; nothing if it is none.
pub(super) fn parse(text: &str) -> Option<Signed> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let total = match text {
        "" => return None,
        "0" => Duration::ZERO,
        _ => sum(text)?,
    };
    Some(if negative && !total.is_zero() { Signed::Negative } else { Signed::NotNegative(total) })
}

fn sum(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| letter != '.' && !letter.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|letter: char| letter == '.' || letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        let whole = |seconds| Some(Signed::NotNegative(Duration::from_secs(seconds)));
        let rows = [
            ("0", whole(0)),
            ("0s", whole(0)),
            ("15m", whole(900)),
            ("1h30m", whole(5400)),
            ("1.5s", Some(Signed::NotNegative(Duration::from_millis(1500)))),
            ("250ms", Some(Signed::NotNegative(Duration::from_millis(250)))),
            ("-5s", Some(Signed::Negative)),
            ("", None),
            ("15", None),
            ("m", None),
            ("15 m", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
