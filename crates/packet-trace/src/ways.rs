//! What the ways that a packet may go come to, all together.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kernel_state::listeners::Listener;

use crate::{Next, Outcome, Puzzle, SeenAs};

/// A packet that nothing stopped.
pub(crate) struct Arrived {
    /// The endpoint that its destination was rewritten to.
    pub(crate) at: Option<SocketAddr>,
    pub(crate) masqueraded: bool,
    /// Whether the kernel knows the client from now on.
    pub(crate) remembered: bool,
}

impl Arrived {
    pub(crate) fn outcome(&self) -> Result<Outcome, Puzzle> {
        match (self.at, self.masqueraded) {
            (None, false) => Ok(Outcome::Untouched),
            (None, true) => Err(Puzzle::MasqueradedOnly),
            (Some(at), masqueraded) => {
                let seen_as = if masqueraded { SeenAs::Node } else { SeenAs::Itself };
                let next = if self.remembered { Next::Same } else { Next::Anywhere };
                Ok(Outcome::Forwarded { to: BTreeMap::from([(at, seen_as)]), next })
            }
        }
    }
}

/// What is sent to a listener ends there, and the relay sends on to its endpoints.
pub(crate) fn relayed(listener: &Listener, seen_as: impl Fn(&SocketAddr) -> SeenAs) -> Outcome {
    let to = listener.endpoints.iter().map(|endpoint| (*endpoint, seen_as(endpoint))).collect();
    let next = if listener.kept.is_some() { Next::Same } else { Next::Anywhere };
    Outcome::Forwarded { to, next }
}

/// Two ways that chance may choose between, as one outcome.
pub(crate) fn joined(one: Outcome, other: Outcome) -> Result<Outcome, Puzzle> {
    match (one, other) {
        (Outcome::Forwarded { mut to, next }, Outcome::Forwarded { to: others, next: other_next })
            if next == other_next
                && others.iter().all(|(at, seen_as)| to.get(at).is_none_or(|known| known == seen_as)) =>
        {
            to.extend(others);
            Ok(Outcome::Forwarded { to, next })
        }
        (one, other) if one == other => Ok(one),
        (one, other) => Err(Puzzle::Mixed(format!("{one}; {other}"))),
    }
}
