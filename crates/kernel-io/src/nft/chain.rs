//! Base chains' hooks (`NFTA_CHAIN_*`).

use kernel_state::nft::{ChainKind, Hook, HookPoint};

use super::wire::chain;
use crate::netlink::{Attributes, Malformed, Message};

const POINTS: [HookPoint; 5] =
    [HookPoint::Prerouting, HookPoint::Input, HookPoint::Forward, HookPoint::Output, HookPoint::Postrouting];

/// What a chain is hooked to.
#[derive(Clone, Copy)]
pub(super) enum Hooked {
    /// Nothing: other chains lead to it.
    Nowhere,
    /// A hook, with the policy to accept.
    At(Hook),
    /// In a way that no chain of ours is.
    Strangely,
}

/// Appends a hook.
pub(super) fn write(out: &mut Message, hook: Hook) {
    out.be32(chain::POLICY, chain::ACCEPT);
    out.text(
        chain::TYPE,
        match hook.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        },
    );
    out.nested(chain::HOOK, |out| {
        out.be32(chain::HOOK_NUMBER, hook.at as u32);
        out.attribute(chain::HOOK_PRIORITY, &hook.priority.to_be_bytes());
    });
}

/// Reads a hook.
pub(super) fn read(attributes: &Attributes<'_>) -> Result<Hooked, Malformed> {
    let Some(hook) = attributes.find(chain::HOOK)? else { return Ok(Hooked::Nowhere) };
    let (Some(number), Some(priority)) =
        (hook.nested().find(chain::HOOK_NUMBER)?, hook.nested().find(chain::HOOK_PRIORITY)?)
    else {
        return Ok(Hooked::Strangely);
    };
    let number = number.be32()?;
    let at = POINTS.into_iter().find(|point| *point as u32 == number);
    let kind = match attributes.find(chain::TYPE)?.map(|kind| kind.text()).transpose()? {
        Some("filter") => Some(ChainKind::Filter),
        Some("nat") => Some(ChainKind::Nat),
        Some(_) | None => None,
    };
    let policy = attributes.find(chain::POLICY)?.map(|policy| policy.be32()).transpose()?;
    let priority = priority.array().map(i32::from_be_bytes)?;
    Ok(match (kind, at, policy) {
        (Some(kind), Some(at), None | Some(chain::ACCEPT)) => Hooked::At(Hook { kind, at, priority }),
        _ => Hooked::Strangely,
    })
}
