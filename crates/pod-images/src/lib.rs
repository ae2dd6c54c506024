//! Container images: read from files or pulled from a registry, verified, unpacked into layers and kept; and packed.
//!
//! [`pack`] makes archives, the same bytes for the same inputs.

mod digest;
mod oci;
pub mod pack;

pub use digest::{Digest, DigestError};
