//! Which texts are digests.

use super::{Digest, DigestError};

/// SHA-256 of nothing.
const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_digest_is_the_hash_in_lower_case() {
    assert_eq!(Digest::of(b"").to_string(), EMPTY);
    assert_eq!(EMPTY.parse(), Ok(Digest::of(b"")));
}

#[test]
fn a_longer_hash_is_compared_as_one() {
    let text = format!("sha512:{}", "0".repeat(128));
    let digest: Digest = text.parse().expect("a digest");
    assert_eq!(digest.hasher().digest().algorithm(), "sha512");
    assert!(!digest.is_of(b""));
    assert!(digest.hasher().digest().is_of(b""));
}

#[test]
fn what_could_lead_out_of_a_directory_is_no_digest() {
    let long = format!("sha256:../{}", "0".repeat(61));
    let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
    for text in ["", "sha256", "sha256:", "sha256:../../etc/passwd", &long, &upper, &EMPTY[..70]] {
        assert_eq!(text.parse::<Digest>(), Err(DigestError::Malformed(text.to_owned())));
    }
    assert_eq!("md5:00".parse::<Digest>(), Err(DigestError::Unknown("md5:00".to_owned())));
}
