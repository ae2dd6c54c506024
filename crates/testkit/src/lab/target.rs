//! The real target, in the node's namespace.

use kernel_io::netns::Netns;
use kernel_io::xtables::{Tool, Xtables};
use kernel_io::{ReadError, Target, WriteError};
use kernel_state::xtables::{self, GuardedChain, Key, Rules, XtablesState};
use kernel_state::{Change, State};
use proxy_modes::Iptables;

use super::LabError;

/// It enters the namespace for each call.
pub(super) struct TargetInside {
    netns: Netns,
    xtables: Xtables,
}

impl TargetInside {
    pub(super) fn open(netns: &Netns, tool: Tool, guarded_chain: GuardedChain) -> Result<Self, LabError> {
        let xtables = netns.run(|| Xtables::open(tool, Iptables::layout(guarded_chain)))??;
        Ok(Self { netns: netns.clone(), xtables })
    }

    /// All that is ours there.
    pub(super) fn found(&mut self) -> Result<XtablesState, LabError> {
        let mut state = State::new();
        self.read(&mut |key, rules| state.put(key, rules))?;
        Ok(state)
    }
}

impl Target<xtables::Xtables> for TargetInside {
    fn read(&mut self, found: &mut dyn FnMut(Key, Rules)) -> Result<(), ReadError> {
        let mut objects = Vec::new();
        let xtables = &mut self.xtables;
        let read = || xtables.read(&mut |key, rules| objects.push((key, rules)));
        self.netns.run(read).map_err(|source| ReadError { source: source.into() })??;
        for (key, rules) in objects {
            found(key, rules);
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change<xtables::Xtables>]) -> Result<(), WriteError> {
        let xtables = &mut self.xtables;
        let write = || xtables.write(changes);
        self.netns.run(write).map_err(|source| WriteError {
            applied: kernel_io::Applied::Nothing,
            refused: None,
            source: source.into(),
        })?
    }
}
