//! What a request's session needs when the request is over.

/// What is known when the decision is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, all combinations tested"
)]
pub(crate) struct Facts {
    /// A `flush` has asked for a session to be ended.
    pub(crate) flushed: bool,
    /// The client presented a live session, and it has not been flushed.
    pub(crate) live: bool,
    /// A new id is asked for, by `cycle_id` or `login`.
    pub(crate) rotate: bool,
    /// Data, user or expiry differ from what is stored.
    pub(crate) changed: bool,
    /// There is something worth storing: data, or a user.
    pub(crate) filled: bool,
    /// Enough of the idle time has passed for the deadline to be written again.
    pub(crate) due: bool,
}

/// How the request has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// An answer below 500, or an explicit save.
    Success,
    /// An answer of 500 and above, an error of the service, a panic, a handler that was dropped.
    Failure,
}

/// What is to be done in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    Nothing,
    /// Write the deadline.
    Touch,
    /// Store a new session under a new id.
    Create,
    /// Write the changes.
    Update,
    /// Write the changes under a new id.
    Rotate,
    /// End what was flushed.
    Delete,
    /// End what was flushed, then store a new session under a new id.
    Replace,
}

/// Chooses what to do.
///
/// 1. What was flushed is ended, however the request has ended: a logout is never taken back.
/// 2. Nothing else happens after a failure.
/// 3. A session that holds nothing is never created.
/// 4. A session that exists is written only if something changed, else touched if that is due.
pub(crate) const fn decide(facts: Facts, ending: Ending) -> Commit {
    match (facts, ending) {
        (
            Facts {
                flushed: true,
                filled: true,
                ..
            },
            Ending::Success,
        ) => Commit::Replace,
        (Facts { flushed: true, .. }, _) => Commit::Delete,
        (_, Ending::Failure) => Commit::Nothing,
        (
            Facts {
                live: false,
                filled: true,
                ..
            },
            _,
        ) => Commit::Create,
        (Facts { live: false, .. }, _) => Commit::Nothing,
        (Facts { rotate: true, .. }, _) => Commit::Rotate,
        (Facts { changed: true, .. }, _) => Commit::Update,
        (Facts { due: true, .. }, _) => Commit::Touch,
        _ => Commit::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row: a fact is `1`, `0`, or `x` for both, in the order flushed, live, rotate, changed,
    /// filled, due; then the commit after a success and after a failure.
    const TABLE: [(&str, Commit, Commit); 9] = [
        ("0 0 x x 0 x", Commit::Nothing, Commit::Nothing),
        ("0 0 x x 1 x", Commit::Create, Commit::Nothing),
        ("0 1 0 0 x 0", Commit::Nothing, Commit::Nothing),
        ("0 1 0 0 x 1", Commit::Touch, Commit::Nothing),
        ("0 1 0 1 x x", Commit::Update, Commit::Nothing),
        ("0 1 1 x x x", Commit::Rotate, Commit::Nothing),
        ("1 x x x 0 x", Commit::Delete, Commit::Delete),
        ("1 0 x x 1 x", Commit::Replace, Commit::Delete),
        ("1 1 x x 1 x", Commit::Replace, Commit::Delete),
    ];

    #[test]
    fn every_combination_of_facts_is_in_one_row_of_the_table_and_decided_as_it_says() {
        for bits in 0..64_u8 {
            let fact = |place: u8| bits >> (5 - place) & 1 == 1;
            let facts = Facts {
                flushed: fact(0),
                live: fact(1),
                rotate: fact(2),
                changed: fact(3),
                filled: fact(4),
                due: fact(5),
            };
            let matches = |row: &str| {
                row.split(' ')
                    .zip(0..)
                    .all(|(cell, place)| cell == "x" || (cell == "1") == fact(place))
            };
            let rows: Vec<_> = TABLE.iter().filter(|row| matches(row.0)).collect();
            let [(_, success, failure)] = rows[..] else {
                panic!("{facts:?} is in {} rows", rows.len());
            };
            assert_eq!(decide(facts, Ending::Success), *success, "{facts:?}");
            assert_eq!(decide(facts, Ending::Failure), *failure, "{facts:?}");
        }
    }
}
