//! Which steps may change places without a difference.

use super::board::Call;

/// What a step reads and alters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Footprint {
    /// Of everything: changes places with none.
    pub(super) all: bool,
    pub(super) store: Access,
    pub(super) cache: Option<(usize, Access)>,
    /// What the node itself remembers: its debts, its breaker.
    pub(super) node: Option<(usize, Access)>,
    /// A load may begin.
    pub(super) begins: bool,
    /// A write may be acknowledged, or told of.
    pub(super) is_due: bool,
    /// One of a bounded number.
    pub(super) is_trouble: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Access {
    #[default]
    None,
    Read,
    Write,
}

impl Footprint {
    pub(super) const ALL: Self = Self {
        all: true,
        store: Access::None,
        cache: None,
        node: None,
        begins: false,
        is_due: false,
        is_trouble: false,
    };

    pub(super) fn of_effect(call: Call) -> Self {
        let mut footprint = Self::default();
        match call {
            Call::Load => footprint.store = Access::Read,
            Call::Write(_) => footprint.store = Access::Write,
            Call::Get(cache) => footprint.cache = Some((cache, Access::Read)),
            Call::Alter(cache, _) => footprint.cache = Some((cache, Access::Write)),
        }
        footprint
    }

    pub(super) fn of_node(node: usize, access: Access) -> Self {
        Self {
            node: Some((node, access)),
            ..Self::default()
        }
    }

    /// Whether nothing is altered, and nothing read that can still be altered while nothing fails.
    pub(super) fn is_unseen(self) -> bool {
        let is_still = self.store == Access::None && self.cache.is_none();
        is_still && !(self.all || self.begins || self.is_due || self.is_trouble)
    }

    pub(super) fn is_independent_of(self, other: Self) -> bool {
        let both_at = |one: Option<(usize, Access)>, two: Option<(usize, Access)>| match (one, two)
        {
            (Some((one, one_access)), Some((two, two_access))) => {
                one == two && one_access.disturbs(two_access)
            }
            _ => false,
        };
        !(self.all
            || other.all
            || self.store.disturbs(other.store)
            || both_at(self.cache, other.cache)
            || both_at(self.node, other.node)
            || (self.begins && other.is_due)
            || (self.is_due && other.begins)
            || (self.is_trouble && other.is_trouble))
    }
}

impl Access {
    fn disturbs(self, other: Self) -> bool {
        match (self, other) {
            (Self::None, _) | (_, Self::None) | (Self::Read, Self::Read) => false,
            (Self::Write, _) | (_, Self::Write) => true,
        }
    }
}
