//! `--init-only`, and what a proxy does to itself before it serves.

use std::fs;
use std::sync::Arc;

use service_plan::{Family, LocalPodsSetting, NodePortSetting};
use tracing::{info, warn};

use crate::conductor::{self, ProxyError};
use crate::config::Configuration;
use crate::knowledge::Knowledge;
use crate::modes::ProxyMode;

/// Does all that needs full privileges, and writes no rule. Asks no API server.
pub fn initialize(configuration: &Configuration) -> Result<(), ProxyError> {
    let Configuration { settings, node_name, bind_address, .. } = configuration;
    let knowledge = Knowledge::new(settings.clone(), Arc::clone(node_name), *bind_address);
    drop(conductor::open(configuration, &knowledge)?);
    info!("initialized; from here on CAP_NET_ADMIN is enough");
    Ok(())
}

/// Takes our place in the line of those that the kernel ends when memory is short. Not worth more than a word.
pub(crate) fn take_place(oom_score_adj: i32) {
    const FILE: &str = "/proc/self/oom_score_adj";
    let score = oom_score_adj.to_string();
    if fs::read_to_string(FILE).is_ok_and(|found| found.trim() == score) {
        return;
    }
    if let Err(error) = fs::write(FILE, &score) {
        warn!(oom_score_adj, %error, "the score stays as it is, so that we may be ended sooner when memory is short");
    }
}

/// Where a node has one family alone, ranges of pods of the other alone are a mistake that upstream does not start with.
pub(crate) fn check_families(configuration: &Configuration, served: &[Family]) -> Result<(), ProxyError> {
    match (&configuration.settings.local_pods, served) {
        (LocalPodsSetting::Ranges(ranges), [only]) if families_without(ranges, served).next().is_some() => {
            Err(ProxyError::WrongFamily(*only))
        }
        _ => Ok(()),
    }
}

/// Tells what an operator may not have meant, once the families that are served are known.
pub(crate) fn advise(configuration: &Configuration, families: &[Family]) {
    let Configuration { settings, mode, .. } = configuration;
    if let NodePortSetting::Ranges(ranges) = &settings.node_ports {
        if ranges.is_empty() && *mode != ProxyMode::Nftables {
            info!(
                "nodePortAddresses is not set: node ports are served on every address; \"primary\" would be fewer"
            );
        }
        for family in families_without(ranges, families) {
            warn!(%family, "nodePortAddresses has no range of this family, so its node ports are served on every address");
        }
    }
    if let LocalPodsSetting::Ranges(ranges) = &settings.local_pods {
        for family in families_without(ranges, families) {
            warn!(%family, "clusterCIDR has no range of this family, so its pods are not told from the rest");
        }
    }
}

/// Where there are ranges at all, the families that have none.
fn families_without<'a>(
    ranges: &'a [ipnet::IpNet],
    families: &'a [Family],
) -> impl Iterator<Item = Family> + 'a {
    let has_none = |family: &&Family| !ranges.iter().any(|range| family.has(&range.addr()));
    families.iter().filter(move |family| !ranges.is_empty() && has_none(family)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_without_a_range_is_known_where_another_has_one() {
        let of = |text: &str| {
            let ranges: Vec<ipnet::IpNet> =
                text.split_whitespace().map(|range| range.parse().expect("a range")).collect();
            families_without(&ranges, &Family::BOTH).collect::<Vec<_>>()
        };
        assert_eq!(of(""), []);
        assert_eq!(of("10.0.0.0/8"), [Family::V6]);
        assert_eq!(of("fd00::/48"), [Family::V4]);
        assert_eq!(of("10.0.0.0/8 fd00::/48"), []);
    }
}
