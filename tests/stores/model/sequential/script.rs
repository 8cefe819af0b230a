//! What a script can hold.

use std::time::{Duration, SystemTime};

use proptest::{collection::vec, option, prelude::*};
use tower_keep::Expiry;

pub(crate) const CLIENTS: usize = 3;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Request(Request),
    Wait(Wait),
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) client: usize,
    pub(crate) presents: Presents,
    pub(crate) plan: Plan,
    /// The client goes away after the request has been polled so many times.
    pub(crate) polls: Option<usize>,
}

/// Which cookies a request carries. Old ones are counted among all that were ever handed out; one
/// who presents them keeps none of the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Presents {
    Own,
    Old(usize),
    OwnAndOld(usize),
}

/// What the handler does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Logs out before it loads anything.
    pub(crate) logout: bool,
    pub(crate) ops: Vec<Op>,
    pub(crate) status: u16,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Insert(&'static str, u8),
    Remove(&'static str),
    Count,
    Append(u8),
    Login(&'static str),
    Cycle,
    Flush,
    Clear,
    Expire(Rule),
    ResetExpiry,
    Save,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    Idle(u64),
    /// So many seconds from now.
    At(u64),
    BrowserClose,
}

/// How long the clients do nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    Seconds(u64),
    /// Until shortly before something happens to the session of a client, or to the very point.
    Until {
        client: usize,
        event: Event,
        millis_before: i64,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// It expires unless it is used.
    Expiry,
    /// It expires, used or not.
    AbsoluteDeadline,
    /// Its deadline is due to be written again.
    Touch,
}

impl Rule {
    pub(crate) fn expiry(self, now: SystemTime) -> Expiry {
        match self {
            Self::Idle(secs) => Expiry::Idle(Duration::from_secs(secs)),
            Self::At(secs) => Expiry::At(now + Duration::from_secs(secs)),
            Self::BrowserClose => Expiry::BrowserClose,
        }
    }
}

pub(crate) fn scripts() -> impl Strategy<Value = Vec<Step>> {
    vec(
        prop_oneof![4 => requests().prop_map(Step::Request), 1 => waits().prop_map(Step::Wait)],
        1..30,
    )
}

/// Scripts that have found a fault, to be run always.
pub(crate) fn regressions() -> Vec<Vec<Step>> {
    let request = |ops: &[Op], polls| {
        Step::Request(Request {
            client: 0,
            presents: Presents::Own,
            plan: Plan {
                logout: false,
                ops: ops.to_vec(),
                status: 200,
            },
            polls,
        })
    };
    // A save whose client goes away at the very poll that began it.
    let save_and_go = |polls| vec![request(&[Op::Count, Op::Save], Some(polls))];
    (0..14).map(save_and_go).collect()
}

fn requests() -> impl Strategy<Value = Request> {
    let polls = option::weighted(0.15, 0..14_usize);
    (0..CLIENTS, presents(), plans(), polls).prop_map(|(client, presents, plan, polls)| Request {
        client,
        presents,
        plan,
        polls,
    })
}

fn presents() -> impl Strategy<Value = Presents> {
    prop_oneof![
        6 => Just(Presents::Own),
        1 => (0..12_usize).prop_map(Presents::Old),
        1 => (0..12_usize).prop_map(Presents::OwnAndOld),
    ]
}

fn plans() -> impl Strategy<Value = Plan> {
    let logout = prop::bool::weighted(0.05);
    let status = prop_oneof![7 => Just(200), 1 => Just(404), 1 => Just(500)];
    (logout, vec(ops(), 0..4), status).prop_map(|(logout, ops, status)| Plan {
        logout,
        ops,
        status,
    })
}

fn ops() -> impl Strategy<Value = Op> {
    let key = || prop::sample::select(vec!["a", "b"]);
    let user = prop::sample::select(vec!["ada", "bob"]);
    prop_oneof![
        3 => (key(), 0..3_u8).prop_map(|(key, value)| Op::Insert(key, value)),
        1 => key().prop_map(Op::Remove),
        2 => Just(Op::Count),
        2 => any::<u8>().prop_map(Op::Append),
        2 => user.prop_map(Op::Login),
        1 => Just(Op::Cycle),
        1 => Just(Op::Flush),
        1 => Just(Op::Clear),
        2 => rules().prop_map(Op::Expire),
        1 => Just(Op::ResetExpiry),
        1 => Just(Op::Save),
    ]
}

fn rules() -> impl Strategy<Value = Rule> {
    prop_oneof![
        prop::sample::select(vec![100, 2000, 5000]).prop_map(Rule::Idle),
        prop::sample::select(vec![50, 700, 9000]).prop_map(Rule::At),
        Just(Rule::BrowserClose),
    ]
}

fn waits() -> impl Strategy<Value = Wait> {
    let event = prop_oneof![
        Just(Event::Expiry),
        Just(Event::AbsoluteDeadline),
        Just(Event::Touch)
    ];
    let until = (0..CLIENTS, event, prop::sample::select(vec![0, 1, 1000]));
    prop_oneof![
        (1..1100_u64).prop_map(Wait::Seconds),
        until.prop_map(|(client, event, millis_before)| Wait::Until {
            client,
            event,
            millis_before,
        }),
    ]
}
