//! `--proxy-mode auto`: the best mode that this kernel can do.

use kernel_io::nft;
use kernel_state::nft::Family;
use tracing::info;

use crate::modes::{NFT_LAYOUT, ProxyMode};

/// nftables, whose work does not grow with the cluster, or else iptables.
pub fn best_mode() -> ProxyMode {
    match nft::Nft::open(Family::Ip, NFT_LAYOUT) {
        Ok(_) => {
            info!("mode nftables: this kernel has nf_tables");
            ProxyMode::Nftables
        }
        Err(error) => {
            info!(reason = %error, "mode iptables: nftables cannot be used");
            ProxyMode::Iptables
        }
    }
}
