//! The application of the sequential scripts: it does what the plan of a request says, and notes how
//! far it has come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    extract::{Path, State},
    routing::post,
};
use http::StatusCode;
use serde_json::Value;
use tokio::task::yield_now;
use tower_keep::{Clock, Error, Expiry, LazySession, Session, Timestamp, testing::ManualClock};

use super::script::{Op, Plan};
use crate::model::world::{Millis, World};

/// Where plans are laid down for the handler, and its notes found.
#[derive(Clone)]
pub(super) struct Desk {
    clock: ManualClock,
    sheets: Arc<Mutex<Vec<(Plan, Notes)>>>,
}

/// What a handler tells of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// How much of its plan it has begun: the logout, then each operation.
    pub(super) steps: usize,
    /// The session as it was loaded.
    pub(super) before: Option<View>,
    /// The session after all operations.
    pub(super) after: Option<View>,
    /// It has answered.
    pub(super) finished: bool,
}

/// All that a session shows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) data: BTreeMap<String, Value>,
    pub(super) user: Option<String>,
    pub(super) record: Option<String>,
    pub(super) created: Option<Millis>,
    pub(super) expires: Millis,
    pub(super) rule: Option<Expiry>,
}

impl Desk {
    pub(super) fn new(world: &World) -> Self {
        Self {
            clock: world.clock.clone(),
            sheets: Arc::default(),
        }
    }

    /// The application behind the layer.
    pub(super) fn app(&self, world: &World) -> Router {
        Router::new()
            .route("/{sheet}", post(work))
            .with_state(self.clone())
            .layer(world.layer.clone())
    }

    /// Lays a plan down and answers the path of the request that is to carry it out.
    pub(super) fn lay(&self, plan: &Plan) -> String {
        let mut sheets = self.sheets();
        sheets.push((plan.clone(), Notes::default()));
        format!("/{}", sheets.len() - 1)
    }

    /// The notes on the plan that was laid down last.
    pub(super) fn notes(&self) -> Notes {
        let sheets = self.sheets();
        sheets
            .last()
            .map(|(_, notes)| notes.clone())
            .unwrap_or_default()
    }

    fn note(&self, sheet: usize, note: impl FnOnce(&mut Notes)) {
        note(&mut self.sheets()[sheet].1);
    }

    fn sheets(&self) -> MutexGuard<'_, Vec<(Plan, Notes)>> {
        self.sheets.lock().unwrap()
    }
}

async fn work(
    State(desk): State<Desk>,
    Path(sheet): Path<usize>,
    lazy: LazySession,
) -> Result<StatusCode, Error> {
    let plan = desk.sheets()[sheet].0.clone();
    if plan.logout {
        desk.note(sheet, |notes| notes.steps += 1);
        lazy.flush()?;
    }
    yield_now().await;
    let session = lazy.load().await?;
    desk.note(sheet, |notes| notes.before = Some(View::of(&session)));
    for op in plan.ops {
        yield_now().await;
        desk.note(sheet, |notes| notes.steps += 1);
        perform(op, &session, &desk.clock).await?;
    }
    desk.note(sheet, |notes| notes.after = Some(View::of(&session)));
    yield_now().await;
    desk.note(sheet, |notes| notes.finished = true);
    Ok(StatusCode::from_u16(plan.status).unwrap())
}

async fn perform(op: Op, session: &Session, clock: &ManualClock) -> Result<(), Error> {
    match op {
        Op::Insert(key, value) => session.insert(key, value),
        Op::Remove(key) => session.remove::<Value>(key).map(drop),
        Op::Count => session
            .update("count", |n: Option<u64>| n.unwrap_or(0) + 1)
            .map(drop),
        Op::Append(value) => session
            .update("list", move |list: Option<Vec<u8>>| {
                let mut list = list.unwrap_or_default();
                list.push(value);
                list
            })
            .map(drop),
        Op::Login(user) => session.login(user),
        Op::Cycle => session.cycle_id(),
        Op::Flush => session.flush(),
        Op::Clear => session.clear(),
        Op::Expire(rule) => session.set_expiry(rule.expiry(clock.now())),
        Op::ResetExpiry => session.reset_expiry(),
        Op::Save => session.save().await,
    }
}

impl View {
    fn of(session: &Session) -> Self {
        let entries = session.iter();
        let millis = |time| Timestamp::from(time).as_millis();
        Self {
            data: entries
                .map(|entry| (entry.key().to_owned(), entry.value().unwrap()))
                .collect(),
            user: session.user().map(|user| user.to_string()),
            record: session.record_id().map(|id| id.to_hex()),
            created: session.created_at().map(millis),
            expires: millis(session.expires_at()),
            rule: session.expiry(),
        }
    }
}
