//! Names that outsiders know our objects by. They are kube-proxy's, so that either may take over from the other.

use std::net::SocketAddr;

use data_encoding::BASE32;
use kernel_state::xtables::ChainName;
use sha2::{Digest, Sha256};

use service_plan::ServicePortName;

/// A chain of one service port: the prefix, and 16 letters of what the name, protocol and endpoint hash to.
///
/// Nothing stands between the three parts; any separator would give chains that kube-proxy does not know.
pub(crate) fn service_chain(prefix: &str, name: &ServicePortName, endpoint: Option<SocketAddr>) -> ChainName {
    let protocol = name.protocol.to_string().to_ascii_lowercase();
    let endpoint = endpoint.map(|at| at.to_string()).unwrap_or_default();
    let hash = Sha256::digest(format!("{name}{protocol}{endpoint}"));
    let letters = BASE32.encode(&hash);
    ChainName::new(&format!("{prefix}{}", &letters[..16]))
        .expect("a prefix of at most 12 letters, and 16 more")
}

/// A service port in the names of nftables objects: eight letters that tell it apart, then what people read.
pub(crate) fn service_words(name: &ServicePortName) -> String {
    shortened(&words(name))
}

/// An endpoint of a service port, likewise. nft takes no colons in names.
pub(crate) fn endpoint_words(name: &ServicePortName, endpoint: SocketAddr) -> String {
    let ip = endpoint.ip().to_string().replace(':', ".");
    shortened(&format!("{}__{ip}/{}", words(name), endpoint.port()))
}

fn words(name: &ServicePortName) -> String {
    let protocol = name.protocol.to_string().to_ascii_lowercase();
    format!("{}/{protocol}/{}", name.service, name.port)
}

/// The letters are of the whole text, so that a name that had to be cut is still its own.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 160;
    let letters = BASE32.encode(&Sha256::digest(text));
    let letters = &letters[..8];
    match text.get(..LONGEST) {
        Some(start) if text.len() > LONGEST => format!("{letters}-{start}..."),
        Some(_) | None => format!("{letters}-{text}"),
    }
}

#[cfg(test)]
mod tests;
