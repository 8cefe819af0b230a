//! What a script can hold.

use proptest::{collection::vec, prelude::*};

/// Several clients are tabs of one browser, and present the same cookie.
pub(crate) const BROWSER_OF_CLIENT: [usize; 5] = [0, 0, 0, 1, 1];
pub(crate) const BROWSERS: usize = 2;

#[derive(Clone, Debug)]
pub(crate) enum Move {
    /// A client that waits for no answer sends a request.
    Start(Start),
    /// One request or commit that waits at a gate goes on to the next.
    GoOn(usize),
    /// A client goes away before it has an answer.
    Abort { client: usize },
    /// Time passes: enough for deadlines to be written again, never enough for a session to expire.
    Wait,
}

#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) client: usize,
    pub(crate) presents: Presents,
    pub(crate) plan: Plan,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Presents {
    /// What the browser holds.
    Own,
    /// One of all the ids that were ever handed out.
    Old(usize),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Logs out before it loads anything.
    pub(crate) logout: bool,
    pub(crate) acts: Vec<Act>,
    pub(crate) status: u16,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// Counts one up and puts a mark of this request into a list.
    Mark,
    /// Puts a value under the client's own key.
    Put,
    /// Removes the client's own key.
    Remove,
    Login(&'static str),
    Cycle,
    Flush,
    Clear,
}

pub(crate) fn scripts() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        4 => starts().prop_map(Move::Start),
        12 => (0..12_usize).prop_map(Move::GoOn),
        1 => (0..BROWSER_OF_CLIENT.len()).prop_map(|client| Move::Abort { client }),
        1 => Just(Move::Wait),
    ];
    vec(step, 1..60)
}

fn starts() -> impl Strategy<Value = Start> {
    let presents = prop_oneof![
        8 => Just(Presents::Own),
        1 => (0..8_usize).prop_map(Presents::Old),
    ];
    let client = 0..BROWSER_OF_CLIENT.len();
    (client, presents, plans()).prop_map(|(client, presents, plan)| Start {
        client,
        presents,
        plan,
    })
}

fn plans() -> impl Strategy<Value = Plan> {
    let logout = prop::bool::weighted(0.05);
    let status = prop_oneof![8 => Just(200), 1 => Just(404), 1 => Just(500)];
    (logout, vec(acts(), 0..4), status).prop_map(|(logout, acts, status)| Plan {
        logout,
        acts,
        status,
    })
}

fn acts() -> impl Strategy<Value = Act> {
    let user = prop::sample::select(vec!["ada", "bob"]);
    prop_oneof![
        12 => Just(Act::Mark),
        6 => Just(Act::Put),
        2 => Just(Act::Remove),
        2 => user.prop_map(Act::Login),
        2 => Just(Act::Cycle),
        1 => Just(Act::Flush),
        1 => Just(Act::Clear),
    ]
}
