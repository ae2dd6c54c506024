//! Container images: read from files or pulled from a registry, verified, unpacked into layers and kept; and packed.
//!
//! [`Store::ensure`] takes what a manifest calls an image, a [`Reference`], and gives an [`Image`]: directories to
//! lay over each other, and how a container runs. Nothing of an image is believed: every byte is hashed, and no
//! entry of a layer reaches out of its directory. [`pack`] makes archives, the same bytes for the same inputs.

mod archive;
mod choose;
mod config;
mod credentials;
mod decompress;
mod digest;
mod entries;
mod error;
mod oci;
pub mod pack;
mod reference;
mod registry;
mod store;
mod unpack;
mod verify;

pub use config::Config;
pub use credentials::{Credentials, CredentialsError};
pub use digest::{Digest, DigestError};
pub use entries::TarError;
pub use error::{ImageError, Problem};
pub use reference::{Name, Reference, ReferenceError};
pub use store::{Image, PullPolicy, Removed, Store};
pub use unpack::{Limits, UnpackError};
