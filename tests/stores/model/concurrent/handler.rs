//! The application of the overlapping requests: it does what the plan of a request says, and writes
//! into each value whose it is.

use std::sync::{Arc, Mutex, MutexGuard};

use axum::{
    Router,
    extract::{Path, State},
    routing::post,
};
use http::StatusCode;
use tower_keep::{Error, LazySession, Session};

use super::{
    record::{Answered, Deed, Life, Loaded, Record, View},
    script::{Act, BROWSER_OF_CLIENT, Plan},
};
use crate::model::{gates::Gates, world::World};

/// Where everything is written down. Clones are the same log.
#[derive(Clone)]
pub(super) struct Log {
    gates: Gates,
    records: Arc<Mutex<(usize, Vec<Record>)>>,
}

impl Log {
    pub(super) fn new(world: &World) -> Self {
        Self {
            gates: world.gates.clone(),
            records: Arc::default(),
        }
    }

    /// The application behind the layer.
    pub(super) fn app(&self, world: &World) -> Router {
        Router::new()
            .route("/{number}", post(work))
            .with_state(self.clone())
            .layer(world.layer.clone())
    }

    /// Notes that a client starts a request, and answers its number.
    pub(super) fn start(&self, client: usize, presented: Option<String>, plan: Plan) -> usize {
        let mut log = self.lock();
        let (time, records) = &mut *log;
        *time += 1;
        records.push(Record {
            number: records.len(),
            client,
            plan,
            presented,
            started: *time,
            loaded: None,
            flushed: false,
            deeds: Vec::new(),
            finished: None,
            answer: None,
        });
        records.len() - 1
    }

    /// Notes the answer that a client has received.
    pub(super) fn answer(&self, number: usize, answer: impl FnOnce(usize) -> Answered) {
        self.note(number, |time, record| record.answer = Some(answer(time)));
    }

    pub(super) fn records(&self) -> Vec<Record> {
        self.lock().1.clone()
    }

    pub(super) fn record(&self, number: usize) -> Record {
        self.lock().1[number].clone()
    }

    fn note(&self, number: usize, note: impl FnOnce(usize, &mut Record)) {
        let mut log = self.lock();
        log.0 += 1;
        let time = log.0;
        note(time, &mut log.1[number]);
    }

    fn lock(&self) -> MutexGuard<'_, (usize, Vec<Record>)> {
        self.records.lock().unwrap()
    }
}

async fn work(
    State(log): State<Log>,
    Path(number): Path<usize>,
    lazy: LazySession,
) -> Result<StatusCode, Error> {
    let plan = log.record(number).plan;
    if plan.logout {
        lazy.flush()?;
        log.note(number, |_, record| record.flushed = true);
    }
    let session = lazy.load().await?;
    let view = View::of(&session)?;
    log.note(number, |at, record| {
        record.loaded = Some(Loaded { at, view });
    });
    for act in plan.acts {
        perform(act, &session, &log, number)?;
    }
    log.gates.pass().await;
    log.note(number, |at, record| record.finished = Some(at));
    Ok(StatusCode::from_u16(plan.status).unwrap())
}

/// Does it, and writes it down. There is no await in between, so that no client can go away there.
fn perform(act: Act, session: &Session, log: &Log, number: usize) -> Result<(), Error> {
    let record = log.record(number);
    let name = format!("{number}-{}", record.deeds.len());
    let own = format!("{OWN}{}", record.client);
    let mut deeds = record.deeds;
    match act {
        Act::Mark => {
            let life = life_of(session, &name, &mut deeds)?;
            let mark = format!("{}:{name}", life.life);
            let again = mark.clone();
            session.update(COUNT, |n: Option<u64>| n.unwrap_or(0) + 1)?;
            session.update(MARKS, move |marks: Option<Vec<String>>| {
                let mut marks = marks.unwrap_or_default();
                marks.push(again.clone());
                marks
            })?;
            deeds.push(Deed::Mark { life, mark });
        }
        Act::Put => {
            let life = life_of(session, &name, &mut deeds)?;
            let value = format!("{}:{name}", life.life);
            session.insert(&own, &value)?;
            let value = Some(value);
            deeds.push(Deed::Own { life, value });
        }
        Act::Remove => {
            let life = life_of(session, &name, &mut deeds)?;
            session.remove::<String>(&own)?;
            deeds.push(Deed::Own { life, value: None });
        }
        Act::Login(user) => {
            let before = canary(session)?;
            session.login(user)?;
            if canary(session)?.is_none() {
                deeds.retain(|deed| matches!(deed, Deed::Begin(_)));
                if let Some(before) = before {
                    session.insert(CANARY, before.after(name.clone()).canary())?;
                }
            }
            life_of(session, &name, &mut deeds)?;
            deeds.push(Deed::Rotate);
        }
        Act::Cycle => {
            session.cycle_id()?;
            deeds.push(Deed::Rotate);
        }
        Act::Flush => {
            session.flush()?;
            log.note(number, |_, record| record.flushed = true);
            deeds.clear();
        }
        Act::Clear => {
            let life = canary(session)?;
            session.clear()?;
            deeds.retain(|deed| matches!(deed, Deed::Begin(_) | Deed::Rotate));
            if let Some(life) = life {
                session.insert(CANARY, life.canary())?;
                deeds.push(Deed::Clear(life));
            }
        }
    }
    log.note(number, |_, record| record.deeds = deeds);
    Ok(())
}

/// The life that the session is in; begins one where there is none.
fn life_of(session: &Session, name: &str, deeds: &mut Vec<Deed>) -> Result<Life, Error> {
    if let Some(life) = canary(session)? {
        return Ok(life);
    }
    let life = Life::first(name.into());
    session.insert(CANARY, life.canary())?;
    deeds.push(Deed::Begin(life.clone()));
    Ok(life)
}

fn canary(session: &Session) -> Result<Option<Life>, Error> {
    let canary: Option<String> = session.get(CANARY)?;
    Ok(canary.map(|canary| Life::parse(&canary)))
}

impl View {
    fn of(session: &Session) -> Result<Option<Self>, Error> {
        if session.record_id().is_none() {
            return Ok(None);
        }
        let own = |client| Some((client, session.get(&format!("{OWN}{client}")).unwrap()?));
        Ok(Some(Self {
            life: canary(session)?.unwrap_or_else(|| Life::first("none".into())),
            user: session.user().map(|user| user.to_string()),
            count: session.get(COUNT)?.unwrap_or(0),
            marks: session.get(MARKS)?.unwrap_or_default(),
            own: (0..BROWSER_OF_CLIENT.len()).filter_map(own).collect(),
        }))
    }
}

const CANARY: &str = "canary";
const COUNT: &str = "count";
const MARKS: &str = "marks";
const OWN: &str = "own-";
