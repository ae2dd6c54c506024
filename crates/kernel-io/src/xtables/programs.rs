//! Which of the two iptables of a machine. Rules of one are invisible to the other, so all who write rules on a host
//! must use the same one.
//!
//! Where `iptables` itself is there, an administrator has chosen. An image that runs on any host has only the tools
//! of both backends by their own names; then the kubelet's choice is followed, which shows in the chains that it makes
//! in the table `mangle` (KEP-3178, and `KUBE-KUBELET-CANARY` before it), or else that of whoever has more rules there.

use std::io::ErrorKind;

use super::{NO_INPUT, Tool, ToolError, run};

/// A tool by the name that it goes by on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Programs {
    /// The name alone, such as `iptables-save`.
    Chosen(Tool),
    /// With the backend in it, such as `iptables-nft-save`.
    Nft(Tool),
    Legacy(Tool),
}

/// Chains by which the kubelet tells which backend it uses.
const HINTS: [&str; 2] = [":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY "];

impl Programs {
    /// Those of this machine.
    pub(super) fn find(tool: Tool) -> Self {
        let is_absent = |programs: Self| {
            matches!(run(&programs.name(), &["--version"], NO_INPUT),
                Err(ToolError::Start { source, .. }) if source.kind() == ErrorKind::NotFound)
        };
        let both = [Self::Nft(tool), Self::Legacy(tool)];
        if !is_absent(Self::Chosen(tool)) || both.iter().all(|programs| is_absent(*programs)) {
            return Self::Chosen(tool);
        }
        let save = |programs: fn(Tool) -> Self| {
            // Both families: a host has one choice. A backend that the kernel does not have shows nothing.
            let saved = [Tool::Iptables, Tool::Ip6tables]
                .map(|tool| run(&programs(tool).program("save"), &[], NO_INPUT).map(|output| output.stdout));
            String::from_utf8_lossy(&saved.into_iter().flatten().flatten().collect::<Vec<u8>>()).into_owned()
        };
        Self::of_host(tool, &save(Self::Nft), &save(Self::Legacy))
    }

    /// By what both backends have saved.
    fn of_host(tool: Tool, nft: &str, legacy: &str) -> Self {
        let hints = |saved: &str| saved.lines().any(|line| HINTS.iter().any(|hint| line.starts_with(hint)));
        let rules = |saved: &str| saved.lines().filter(|line| line.starts_with("-A")).count();
        let is_legacy = match (hints(nft), hints(legacy)) {
            (false, true) => true,
            (true, false) => false,
            (true, true) | (false, false) => rules(legacy) > rules(nft),
        };
        if is_legacy { Self::Legacy(tool) } else { Self::Nft(tool) }
    }

    /// The tool itself.
    pub(super) fn name(self) -> String {
        match self {
            Self::Chosen(tool) => tool.name().to_owned(),
            Self::Nft(tool) => format!("{}-nft", tool.name()),
            Self::Legacy(tool) => format!("{}-legacy", tool.name()),
        }
    }

    /// One of its programs, such as `save`.
    pub(super) fn program(self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_is_followed_before_the_number_of_rules() {
        let hinted = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n";
        let older = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n";
        let ruled = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j ACCEPT\nCOMMIT\n";
        let (nft, legacy) = (Programs::Nft(Tool::Iptables), Programs::Legacy(Tool::Iptables));
        for (in_nft, in_legacy, expected) in [
            ("", "", nft),
            (hinted, ruled, nft),
            (ruled, hinted, legacy),
            (ruled, older, legacy),
            ("", ruled, legacy),
            (ruled, ruled, nft),
            (hinted, &[older, ruled].concat(), legacy),
        ] {
            assert_eq!(Programs::of_host(Tool::Iptables, in_nft, in_legacy), expected);
        }
    }

    #[test]
    fn programs_have_debians_names() {
        assert_eq!(Programs::Chosen(Tool::Iptables).program("save"), "iptables-save");
        assert_eq!(Programs::Nft(Tool::Ip6tables).program("restore"), "ip6tables-nft-restore");
        assert_eq!(Programs::Legacy(Tool::Iptables).name(), "iptables-legacy");
    }
}
