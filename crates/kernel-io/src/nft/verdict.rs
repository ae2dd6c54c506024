//! Verdicts (`NFTA_VERDICT_*`), as rules and elements hold them.

use kernel_state::nft::Verdict;

use super::wire::data;
use crate::netlink::{Attributes, Malformed, Message};

/// Appends a verdict.
pub(super) fn write(out: &mut Message, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Accept => (data::ACCEPT, None),
        Verdict::Drop => (data::DROP, None),
        Verdict::Jump(chain) => (data::JUMP, Some(chain)),
        Verdict::Goto(chain) => (data::GOTO, Some(chain)),
        Verdict::Return => (data::RETURN, None),
    };
    out.nested(data::VERDICT, |out| {
        out.attribute(data::CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            out.text(data::CHAIN, chain);
        }
    });
}

/// Reads the attributes of a verdict.
pub(super) fn read(attributes: &Attributes<'_>) -> Result<Verdict, Malformed> {
    let missing = |kind| Malformed::Missing { kind };
    let code = attributes.find(data::CODE)?.ok_or(missing(data::CODE))?;
    let chain = || attributes.find(data::CHAIN)?.ok_or(missing(data::CHAIN))?.text().map(Into::into);
    Ok(match code.array().map(i32::from_be_bytes)? {
        data::ACCEPT => Verdict::Accept,
        data::DROP => Verdict::Drop,
        data::JUMP => Verdict::Jump(chain()?),
        data::GOTO => Verdict::Goto(chain()?),
        data::RETURN => Verdict::Return,
        _ => return Err(missing(data::CODE)),
    })
}
