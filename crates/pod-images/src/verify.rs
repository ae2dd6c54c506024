//! Bytes from strangers, counted and hashed while they are read.

use std::io::{self, Read};

use crate::Digest;
use crate::digest::Hasher;
use crate::error::Problem;
use crate::oci::Descriptor;

/// Manifests and configurations are far smaller.
pub(crate) const DOCUMENT_LIMIT: u64 = 4 << 20;

/// A stream that knows what it has read.
pub(crate) struct Hashed<R> {
    source: R,
    hasher: Hasher,
    count: u64,
}

impl<R: Read> Hashed<R> {
    /// Hashes as a digest was hashed.
    pub(crate) fn like(digest: &Digest, source: R) -> Self {
        Self { source, hasher: digest.hasher(), count: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// What was read, after the rest was read too; what it is called if it is not what a descriptor promised.
    pub(crate) fn check(mut self, what: &str, promised: &Descriptor) -> Result<(), Problem> {
        let rest = promised.size.saturating_sub(self.count).saturating_add(1);
        io::copy(&mut self.by_ref().take(rest), &mut io::sink())
            .map_err(|source| Problem::File { what: format!("read {what}"), source })?;
        if self.count != promised.size {
            // A longer one was not read to its end.
            return Err(Problem::BadSize {
                what: what.to_owned(),
                expected: promised.size,
                found: self.count,
            });
        }
        compare(what, &promised.digest, self.digest())
    }

    /// The digest of what was read.
    pub(crate) fn digest(self) -> Digest {
        self.hasher.digest()
    }
}

/// Whether something has the digest that it should have.
pub(crate) fn compare(what: &str, expected: &Digest, found: Digest) -> Result<(), Problem> {
    if found == *expected {
        return Ok(());
    }
    Err(Problem::BadDigest { what: what.to_owned(), expected: expected.clone(), found })
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}

/// The bytes of a document, if they are those that were promised.
pub(crate) fn document(source: impl Read, what: &str, promised: &Descriptor) -> Result<Vec<u8>, Problem> {
    if promised.size > DOCUMENT_LIMIT {
        return Err(Problem::TooLarge { what: what.to_owned(), limit: DOCUMENT_LIMIT });
    }
    let mut source = Hashed::like(&promised.digest, source);
    let mut bytes = Vec::new();
    source
        .by_ref()
        .take(promised.size)
        .read_to_end(&mut bytes)
        .map_err(|source| Problem::File { what: format!("read {what}"), source })?;
    source.check(what, promised)?;
    Ok(bytes)
}

/// The bytes of a document of which nothing is known before.
pub(crate) fn unpromised(source: impl Read, what: &str) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    source
        .take(DOCUMENT_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Problem::File { what: format!("read {what}"), source })?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(Problem::TooLarge { what: what.to_owned(), limit: DOCUMENT_LIMIT });
    }
    Ok(bytes)
}
