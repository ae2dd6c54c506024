//! When the first lists are in: before that, nothing may be written. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use super::NodeNeeds;
use super::watched::Kind;
use crate::NodeObject;

/// What is still missing.
#[derive(Debug)]
pub(super) struct Gate {
    missing: BTreeSet<Kind>,
    needs: NodeNeeds,
    node: NodeState,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeState {
    /// It was listed this long ago, and did not tell what is needed.
    Wanting(Duration),
    Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open,
}

impl Gate {
    pub(super) fn new(needs: NodeNeeds) -> Self {
        Self {
            missing: Kind::ALL.into_iter().collect(),
            needs,
            node: NodeState::Wanting(Duration::ZERO),
            state: State::Closed,
        }
    }

    /// Our Node is so. Answers whether this was the last thing missing.
    pub(super) fn node(&mut self, node: &NodeObject) -> bool {
        let suffices = match self.needs {
            NodeNeeds::Addresses => !node.ips.is_empty(),
            NodeNeeds::PodRanges => !node.pod_ranges.is_empty(),
        };
        if suffices {
            self.node = NodeState::Known;
        }
        self.opens()
    }

    /// A kind was listed whole, or cannot be had and is done without. Answers whether this was the last one missing.
    pub(super) fn listed(&mut self, kind: Kind) -> bool {
        self.missing.remove(&kind);
        self.opens()
    }

    /// A second more was waited. Answers whether that ended the wait.
    pub(super) fn second_passed(&mut self, patience: Duration) -> bool {
        if let NodeState::Wanting(waited) = self.node
            && self.missing.is_empty()
        {
            self.node = NodeState::Wanting(waited + Duration::from_secs(1));
            if waited >= patience && self.needs == NodeNeeds::Addresses {
                self.node = NodeState::Known;
            }
        }
        self.opens()
    }

    /// Whether it opens now; it never does so twice.
    fn opens(&mut self) -> bool {
        let ready = self.missing.is_empty() && self.node == NodeState::Known && self.state == State::Closed;
        if ready {
            self.state = State::Open;
        }
        ready
    }
}

#[cfg(test)]
mod tests;
