//! Who wants an object; most have one owner.

use std::collections::BTreeSet;

use super::OwnerId;

#[expect(
    clippy::box_collection,
    reason = "the many keys with one owner would be as large as those with many"
)]
pub(super) enum Owners {
    /// Nobody, as far as this process knows.
    Nobody,
    /// Nobody any more; this one was the last.
    LeftBy(OwnerId),
    One(OwnerId),
    /// Perhaps as many as there are services (a chain of the nftables mode), so one more or less must cost little.
    Many(Box<BTreeSet<OwnerId>>),
}

impl Owners {
    pub(super) fn add(&mut self, id: OwnerId) {
        match self {
            Self::Nobody | Self::LeftBy(_) => *self = Self::One(id),
            Self::One(same) if *same == id => {}
            Self::One(other) => *self = Self::Many(Box::new(BTreeSet::from([*other, id]))),
            Self::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    pub(super) fn remove(&mut self, id: OwnerId) {
        match self {
            Self::One(last) if *last == id => *self = Self::LeftBy(id),
            Self::Many(ids) => {
                ids.remove(&id);
                if let (1, Some(last)) = (ids.len(), ids.first().copied()) {
                    *self = Self::One(last);
                }
            }
            Self::One(_) | Self::Nobody | Self::LeftBy(_) => {}
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Nobody | Self::LeftBy(_))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = OwnerId> {
        let (one, many) = match self {
            Self::Nobody => (None, None),
            Self::One(id) | Self::LeftBy(id) => (Some(*id), None),
            Self::Many(ids) => (None, Some(ids.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}
