//! Times as people and Kubernetes write them.

use jiff::Timestamp;

/// Now, in UTC with nanoseconds, as RFC 3339 has it.
pub(crate) fn now() -> String {
    format!("{:.9}", Timestamp::now())
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_have_all_their_digits_and_are_utc() {
        let now = super::now();
        let fraction = now.split_once('.').and_then(|(_, rest)| rest.strip_suffix('Z'));
        assert_eq!(fraction.map(str::len), Some(9), "{now}");
    }
}
