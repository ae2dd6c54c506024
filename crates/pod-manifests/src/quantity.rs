//! Quantities as Kubernetes writes them: `100m`, `1.5Gi`, `2e3`.

/// Whole thousandths of the unit, rounded up; none if the text is no quantity or too large.
pub(crate) fn thousandths(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if digits.is_empty() || digits == "." || fraction.contains('.') || fraction.len() > 12 || whole.len() > 20
    {
        return None;
    }
    let number: u128 = format!("{whole}{fraction}").parse().ok()?;
    let below = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (times, per) = scale(suffix)?;
    let product = number.checked_mul(times)?.checked_mul(1000)?;
    u64::try_from(product.div_ceil(below.checked_mul(per)?)).ok()
}

/// Whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    match scale(suffix)? {
        // Large numbers have no room for thousandths.
        (times, 1) if !digits.contains('.') => {
            digits.parse::<u64>().ok()?.checked_mul(u64::try_from(times).ok()?)
        }
        _ => thousandths(text).map(|thousandths| thousandths.div_ceil(1000)),
    }
}

/// What a suffix multiplies by, and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    const KI: u128 = 1024;
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (KI, 1),
        "Mi" => (KI.pow(2), 1),
        "Gi" => (KI.pow(3), 1),
        "Ti" => (KI.pow(4), 1),
        "Pi" => (KI.pow(5), 1),
        "Ei" => (KI.pow(6), 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{thousandths, units};

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("100m", Some(100)),
            ("0.5", Some(500)),
            ("1.5", Some(1500)),
            (".5", Some(500)),
            ("2k", Some(2_000_000)),
            ("1e2", Some(100_000)),
            ("1u", Some(1)),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("-1", None),
            ("1 Gi", None),
        ] {
            assert_eq!(thousandths(text), expected, "{text:?}");
        }
        for (text, expected) in [
            ("1.5Gi", Some(3 << 29)),
            ("128Mi", Some(128 << 20)),
            ("129M", Some(129_000_000)),
            ("15Ei", Some(15 << 60)),
            ("16Ei", None),
            ("1500m", Some(2)),
        ] {
            assert_eq!(units(text), expected, "{text:?}");
        }
    }
}
