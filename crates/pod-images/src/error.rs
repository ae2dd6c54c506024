//! Why there is no image.

use std::io;

use thiserror::Error;

use crate::{Digest, UnpackError};

/// An image that is not there, not what it says it is, or not for this machine; the source says which.
#[derive(Debug, Error)]
#[error("image {image}")]
pub struct ImageError {
    /// As it was asked for.
    pub image: String,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// What is wrong with an image.
#[derive(Debug, Error)]
pub enum Problem {
    /// It must not be pulled and was not before.
    #[error("is not here, and the pull policy is Never")]
    NeverPulled,
    /// Nothing of that name.
    #[error("not found: {0}")]
    NotFound(String),
    /// Several images, and the name does not say which.
    #[error("there are several: {}; name one", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// Only for other machines.
    #[error("not for linux/{wanted}: there is {}", offered.join(", "))]
    NoPlatform {
        /// This machine's architecture.
        wanted: &'static str,
        /// What there is.
        offered: Vec<String>,
    },
    /// Bytes that are not those that were promised.
    #[error("{what} should have the digest {expected} and has {found}")]
    BadDigest {
        /// The manifest, the configuration, a layer.
        what: String,
        /// As promised.
        expected: Digest,
        /// As computed.
        found: Digest,
    },
    /// More or fewer bytes than were promised.
    #[error("{what} should have {expected} bytes and has {found}")]
    BadSize {
        /// The manifest, the configuration, a layer.
        what: String,
        /// As promised.
        expected: u64,
        /// As counted.
        found: u64,
    },
    /// Larger than we take.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// Of what.
        what: String,
        /// How many are allowed.
        limit: u64,
    },
    /// Not what the specification says.
    #[error("{what}: {why}")]
    Malformed {
        /// The manifest, the configuration, an index, the archive.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry does not give the image, and says why.
    #[error("the registry {registry} refuses: {why}")]
    Registry {
        /// Host and port.
        registry: String,
        /// What it answers, or what is wrong with its answer.
        why: String,
    },
    /// The registry cannot be spoken with.
    #[error("cannot reach {url}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A layer cannot be unpacked.
    #[error("the layer {layer}")]
    Layer {
        /// By its digest, or its path in the archive.
        layer: String,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// A file cannot be read, or the store cannot be written.
    #[error("cannot {what}")]
    File {
        /// Verb and path.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Problem {
    /// For `map_err`: what was tried with which file.
    pub(crate) fn file(verb: &str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{verb} {}", path.display());
        |source| Self::File { what, source }
    }

    pub(crate) fn malformed(what: impl Into<String>, why: &dyn ToString) -> Self {
        Self::Malformed { what: what.into(), why: why.to_string() }
    }
}
