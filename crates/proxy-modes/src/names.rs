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

#[cfg(test)]
mod tests;
