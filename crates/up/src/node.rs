//! What the node must be for pods to reach one another: the kernel forwards between their links.

use std::collections::BTreeMap;

use ipnet::IpNet;
use kernel_io::sysctl;

use crate::UpError;

/// Has the kernel forward packets, and notes how it was before in what is kept.
pub(crate) fn prepared(ranges: &[IpNet], kept: &mut BTreeMap<String, String>) -> Result<(), UpError> {
    let v4 = ranges.iter().any(|range| range.addr().is_ipv4()).then_some("net.ipv4.ip_forward");
    let v6 = ranges.iter().any(|range| range.addr().is_ipv6()).then_some("net.ipv6.conf.all.forwarding");
    for name in v4.into_iter().chain(v6) {
        let before = sysctl::read(name)?.trim().to_owned();
        if before != "1" {
            kept.entry(name.to_owned()).or_insert(before);
            sysctl::write(name, "1")?;
        }
    }
    Ok(())
}

/// Sets what was changed to what it was.
pub(crate) fn restored(kept: &BTreeMap<String, String>) -> Result<(), UpError> {
    kept.iter().try_for_each(|(name, value)| Ok(sysctl::write(name, value)?))
}
