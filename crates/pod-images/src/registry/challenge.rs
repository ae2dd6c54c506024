//! What a registry wants to see before it answers, in the words of `WWW-Authenticate`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How one has to show who one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// By name and password.
    Basic,
    /// By a token from this address.
    Bearer(String),
}

/// The challenge of a header, if we can meet it.
pub(super) fn challenge(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameters = parameters(rest);
    let mut url = parameters.get("realm")?.clone();
    for (key, value) in parameters.iter().filter(|(key, _)| matches!(key.as_str(), "service" | "scope")) {
        let sign = if url.contains('?') { '&' } else { '?' };
        let _ = write!(url, "{sign}{key}={}", encoded(value));
    }
    Some(Challenge::Bearer(url))
}

/// `KEY="VALUE"`, with commas between; a value may hold commas itself.
fn parameters(mut text: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    while let Some((key, rest)) = text.split_once('=') {
        let key = key.trim_matches([',', ' ']).to_ascii_lowercase();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(rest) => rest.split_once('"').unwrap_or((rest, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        parameters.insert(key, value.trim().to_owned());
        text = rest;
    }
    parameters
}

/// As a part of a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
