//! What the processes of a group may use, in the words of either layout.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::group::Cgroup;
use super::{CgroupError, Layout};

/// What the processes of a group may use together. What is left out is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a processor that it gets when all are busy.
    pub cpu_request: Option<u64>,
    /// Thousandths of a processor that it may use at most.
    pub cpu_limit: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// By the size of a huge page in bytes, the bytes in pages of that size.
    pub huge_pages: BTreeMap<u64, u64>,
}

/// In which time a limit of processors is reckoned, in microseconds.
const PERIOD: u64 = 100_000;
/// The least that the kernel takes, in microseconds of a period.
const LEAST_QUOTA: u64 = 1_000;
/// What one processor weighs in the layout of a tree a controller, and the least and most there.
const SHARES: u64 = 1024;
const LEAST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;

impl Cgroup {
    /// Limits it. The first limit that cannot be set is the error; what is not limited is left as it is.
    pub fn limit(&self, resources: &Resources) -> Result<(), CgroupError> {
        if let Some(bytes) = resources.memory {
            let file = self.named("memory.max", "memory.limit_in_bytes");
            self.set("memory", "memory", file, &bytes.to_string())?;
        }
        if let Some(count) = resources.pids {
            self.set("processes", "pids", "pids.max", &count.to_string())?;
        }
        if let Some(request) = resources.cpu_request {
            let shares = shares(request);
            let (file, value) = match self.layout {
                Layout::OneTree => ("cpu.weight", weight(shares)),
                Layout::TreePerController => ("cpu.shares", shares),
            };
            self.set("the share of processors", "cpu", file, &value.to_string())?;
        }
        if let Some(limit) = resources.cpu_limit {
            self.limit_cpu(quota(limit))?;
        }
        resources.huge_pages.iter().try_for_each(|(size, bytes)| {
            let ending = self.named("max", "limit_in_bytes");
            let file = format!("hugetlb.{}.{ending}", page_size(*size));
            self.set("huge pages", "hugetlb", &file, &bytes.to_string())
        })
    }

    fn limit_cpu(&self, quota: u64) -> Result<(), CgroupError> {
        const LIMIT: &str = "processors";
        match self.layout {
            Layout::OneTree => self.set(LIMIT, "cpu", "cpu.max", &format!("{quota} {PERIOD}")),
            Layout::TreePerController => {
                self.set(LIMIT, "cpu", "cpu.cfs_period_us", &PERIOD.to_string())?;
                self.set(LIMIT, "cpu", "cpu.cfs_quota_us", &quota.to_string())
            }
        }
    }

    fn named(&self, one_tree: &'static str, tree_per_controller: &'static str) -> &'static str {
        match self.layout {
            Layout::OneTree => one_tree,
            Layout::TreePerController => tree_per_controller,
        }
    }
}

fn quota(thousandths: u64) -> u64 {
    thousandths.saturating_mul(PERIOD / 1000).max(LEAST_QUOTA)
}

fn shares(thousandths: u64) -> u64 {
    (thousandths.saturating_mul(SHARES) / 1000).clamp(LEAST_SHARES, MOST_SHARES)
}

/// The range of shares laid over the range 1 to 10,000 of weights, as the kubelet does it.
fn weight(shares: u64) -> u64 {
    1 + (shares - LEAST_SHARES) * 9_999 / (MOST_SHARES - LEAST_SHARES)
}

/// The kernel's name for a size of huge pages, such as 2MB.
fn page_size(bytes: u64) -> String {
    match bytes.trailing_zeros() {
        30.. => format!("{}GB", bytes >> 30),
        20.. => format!("{}MB", bytes >> 20),
        _ => format!("{}KB", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::{page_size, quota, shares, weight};

    #[test]
    fn thousandths_of_a_processor_in_the_kernels_words() {
        // request or limit, shares, weight, quota
        for (thousandths, expected) in [
            (0, (2, 1, 1_000)),
            (100, (102, 4, 10_000)),
            (1_000, (1_024, 39, 100_000)),
            (1_500, (1_536, 59, 150_000)),
            (1_000_000, (262_144, 10_000, 100_000_000)),
        ] {
            let shares = shares(thousandths);
            assert_eq!((shares, weight(shares), quota(thousandths)), expected, "{thousandths}");
        }
    }

    #[test]
    fn huge_pages_by_the_kernels_names() {
        for (bytes, name) in [(64 << 10, "64KB"), (2 << 20, "2MB"), (1 << 30, "1GB"), (16 << 30, "16GB")] {
            assert_eq!(page_size(bytes), name);
        }
    }
}
