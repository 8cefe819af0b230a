//! What is explored.

use super::{actors::Act, caches::Flaw, judge::Caches};

/// Who does what, from where on, and what may go wrong.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) caches: Caches,
    pub(super) nodes: usize,
    pub(super) start: Start,
    /// Each with its node.
    pub(super) acts: Vec<(Act, usize)>,
    pub(super) wrong: Wrong,
    /// How many troubles a run has at most.
    pub(super) troubles: usize,
    pub(super) kinds: Kinds,
    /// How often a run lets so much time pass that debts are paid.
    pub(super) waits: usize,
}

/// What is in the cache at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Empty,
    Copy,
    /// A copy, and another reader who was handed a ticket before it came, and whose fill is on its way.
    CopyAndTicket,
    /// That reader without the copy.
    Ticket,
}

impl Start {
    pub(super) const ALL: [Self; 4] = [Self::Empty, Self::Copy, Self::CopyAndTicket, Self::Ticket];
}

/// Which troubles there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinds {
    All,
    /// A call fails: before its effect, after it, or with its effect later.
    Failures,
    /// A request is dropped.
    Abandons,
    /// The cache loses what it has.
    Losses,
}

/// What is deliberately wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Cache(Flaw),
    /// Writes are told to the cache before they are done in the store.
    CacheFirst,
}

impl Scenario {
    pub(super) fn new(caches: Caches, start: Start, acts: &[(Act, usize)]) -> Self {
        let nodes = acts.iter().map(|(_, node)| node + 1).max();
        Self {
            caches,
            nodes: nodes.unwrap_or(1),
            start,
            acts: acts.to_vec(),
            wrong: Wrong::Cache(Flaw::None),
            troubles: 0,
            kinds: Kinds::All,
            waits: 0,
        }
    }

    pub(super) fn with_troubles(mut self, troubles: usize, kinds: Kinds, waits: usize) -> Self {
        (self.troubles, self.kinds, self.waits) = (troubles, kinds, waits);
        self
    }

    pub(super) fn with_wrong(mut self, wrong: Wrong) -> Self {
        self.wrong = wrong;
        self
    }
}

/// All ways in which so many requests are given something to do, on one node. Who is called first and who
/// second makes no difference.
pub(super) fn on_one_node(count: usize) -> Vec<Vec<(Act, usize)>> {
    on_nodes(count, 1)
}

/// The same on two nodes, each of which has something to do; and which is the first makes no difference.
pub(super) fn on_two_nodes(count: usize) -> Vec<Vec<(Act, usize)>> {
    let mut all = on_nodes(count, 2);
    all.retain(|acts| {
        let mirror = sorted(acts.iter().map(|(act, node)| (*act, 1 - node)).collect());
        let is_shared = (0..2).all(|node| acts.iter().any(|(_, at)| *at == node));
        is_shared && *acts <= mirror
    });
    all
}

fn on_nodes(count: usize, nodes: usize) -> Vec<Vec<(Act, usize)>> {
    let each = Act::ALL.into_iter();
    let each: Vec<_> = each
        .flat_map(|act| (0..nodes).map(move |node| (act, node)))
        .collect();
    let mut all: Vec<Vec<(Act, usize)>> = vec![Vec::new()];
    for _ in 0..count {
        let longer = all.iter().flat_map(|acts| {
            let with = |next: &(Act, usize)| acts.iter().copied().chain([*next]).collect();
            each.iter().map(with)
        });
        all = longer.map(sorted).collect();
        all.sort();
        all.dedup();
    }
    // Nothing can go wrong where nobody writes.
    all.retain(|acts| acts.iter().any(|(act, _)| act.writes()));
    all
}

fn sorted(mut acts: Vec<(Act, usize)>) -> Vec<(Act, usize)> {
    acts.sort();
    acts
}
