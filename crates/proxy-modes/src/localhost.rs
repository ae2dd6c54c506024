//! Node ports on localhost, for a mode whose rules cannot serve them: a listener at 127.0.0.1 or `::1` for each.
//!
//! Whoever asks there is the node itself, so the plan's verdict for the node decides. A node port that it does not
//! forward has no listener: the kernel refuses who asks, or another process answers.

use std::net::SocketAddr;

use kernel_state::listeners::{Key, Listeners, ListenersState, Transport};
use service_plan::{
    Address, Entrance, LocalhostNodePorts, NodePlan, PoolName, Protocol, ServicePlan, Source, Verdict,
};

use crate::{Mode, relayed};

/// The part of a mode that serves localhost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Localhost;

impl Mode for Localhost {
    type Objects = Listeners;

    fn skeleton(&self, _node: &NodePlan) -> ListenersState {
        ListenersState::new()
    }

    fn render(&self, plan: &ServicePlan, node: &NodePlan) -> ListenersState {
        let mut state = ListenersState::new();
        let is_relayed = node.localhost_node_ports == LocalhostNodePorts::Relay;
        if !is_relayed || plan.name.protocol != Protocol::Tcp {
            return state;
        }
        for entrance in &plan.entrances {
            let Address::NodePort(port) = entrance.at else { continue };
            let Some(pool) = pool_of_node(entrance) else { continue };
            let listener = relayed::listener(plan, pool);
            if !listener.endpoints.is_empty() {
                let at = SocketAddr::new(node.family.localhost(), port.get());
                state.put(Key::at(at, Transport::Tcp), listener);
            }
        }
        state
    }
}

/// Where the node itself is forwarded to.
fn pool_of_node(entrance: &Entrance) -> Option<PoolName> {
    let is_node = |source: &Source| match source {
        Source::Node | Source::Anyone => true,
        Source::Pod | Source::Outside(_) => false,
    };
    match entrance.verdicts.iter().find(|(source, _)| is_node(source))? {
        (_, Verdict::Forward { pool, .. }) => Some(*pool),
        (_, Verdict::Reject | Verdict::Drop) => None,
    }
}
