//! The reference model: what a session is, without a store, a lock or a version.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};
use tower_keep::{Expiry, SessionId, Timestamp};

use super::{
    handler::View,
    script::{Event, Op},
};
use crate::model::world::{ABSOLUTE, Cookie, IDLE, Millis};

/// All sessions, by the id that is valid now.
#[derive(Debug, Default)]
pub(super) struct Reference {
    sessions: BTreeMap<String, Live>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Live {
    pub(super) data: BTreeMap<String, Value>,
    pub(super) rule: Option<Expiry>,
    pub(super) user: Option<String>,
    pub(super) created: Millis,
    pub(super) expires: Millis,
    pub(super) absolute: Millis,
}

impl Reference {
    pub(super) fn live(&self, id: &str, now: Millis) -> Option<&Live> {
        self.sessions.get(id).filter(|live| now < live.expires)
    }

    /// When something happens to the session of an id, if it lives.
    pub(super) fn time_of(&self, event: Event, id: &str, now: Millis) -> Option<Millis> {
        let live = self.live(id, now)?;
        Some(match event {
            Event::Expiry => live.expires,
            Event::AbsoluteDeadline => live.absolute,
            Event::Touch => live.expires - idle(live.rule)? * 9 / 10,
        })
    }

    /// A request that presents these ids. The ids that were made while it was at work are those that
    /// it may give out.
    pub(super) fn request(
        &mut self,
        presented: &[String],
        made: Vec<String>,
        now: Millis,
    ) -> Pending<'_> {
        Pending {
            model: self,
            presented: presented.to_vec(),
            made: made.into(),
            now,
            draft: None,
            doomed: Vec::new(),
            cookie: Cookie::Keep,
        }
    }
}

/// A request under way.
pub(super) struct Pending<'a> {
    model: &'a mut Reference,
    presented: Vec<String>,
    made: VecDeque<String>,
    now: Millis,
    draft: Option<Draft>,
    doomed: Vec<String>,
    cookie: Cookie,
}

#[derive(Clone, Debug, Default)]
struct Draft {
    origin: Option<(String, Live)>,
    data: BTreeMap<String, Value>,
    rule: Option<Expiry>,
    login: Option<String>,
    rotate: bool,
}

impl Pending<'_> {
    /// A logout before anything was loaded: whatever the client presents is ended.
    pub(super) fn logout(&mut self) {
        self.doomed.extend(self.presented.iter().cloned());
        self.draft = Some(Draft::default());
    }

    pub(super) fn view(&mut self) -> View {
        let now = self.now;
        let draft = self.draft();
        let origin = draft.origin.as_ref();
        View {
            data: draft.data.clone(),
            user: draft.user(),
            record: origin.map(|(id, _)| {
                let id = SessionId::parse(id.as_bytes()).unwrap();
                id.record_id().to_hex()
            }),
            created: origin.map(|(_, live)| live.created),
            expires: draft.next(now).expires,
            rule: draft.rule,
        }
    }

    pub(super) fn apply(&mut self, op: Op) -> Result<(), String> {
        let now = self.now;
        let draft = self.draft();
        match op {
            Op::Insert(key, value) => drop(draft.data.insert(key.into(), json!(value))),
            Op::Remove(key) => drop(draft.data.remove(key)),
            Op::Count => {
                let count = draft.data.entry("count".into()).or_insert(json!(0));
                *count = json!(count.as_u64().unwrap() + 1);
            }
            Op::Append(value) => {
                let list = draft.data.entry("list".into()).or_insert(json!([]));
                list.as_array_mut().unwrap().push(json!(value));
            }
            Op::Login(user) => {
                if draft.user().is_some_and(|before| before != user) {
                    draft.clear();
                }
                draft.login = Some(user.into());
                draft.rotate = true;
            }
            Op::Cycle => draft.rotate = true,
            Op::Flush => {
                let ended = draft.origin.take().map(|(id, _)| id);
                *draft = Draft::default();
                match ended {
                    Some(id) => self.doomed.push(id),
                    // Not one alone was alive: whatever was presented is to end.
                    None if self.doomed.is_empty() => self.doomed.clone_from(&self.presented),
                    None => {}
                }
            }
            Op::Clear => draft.clear(),
            Op::Expire(rule) => {
                draft.rule = Some(rule.expiry(Timestamp::from_millis(now).into()));
            }
            Op::ResetExpiry => draft.rule = None,
            Op::Save => self.commit()?,
        }
        Ok(())
    }

    /// The request has come to its end; answers what becomes of the cookie.
    pub(super) fn end(mut self, success: bool) -> Result<Cookie, String> {
        match success {
            true => self.commit()?,
            false => self.end_doomed(),
        }
        match self.made.is_empty() {
            true => Ok(self.cookie),
            false => Err("an id was made that the model knows no use of".into()),
        }
    }

    fn commit(&mut self) -> Result<(), String> {
        self.end_doomed();
        let draft = self.draft().clone();
        let next = draft.next(self.now);
        // A cookie that ends with the browser does not age.
        let ages = next.rule != Some(Expiry::BrowserClose);
        let (id, told) = match &draft.origin {
            None if draft.user().is_none() && draft.data.is_empty() => return Ok(()),
            // Its own rule has ended it before it began.
            None if next.expires <= self.now => return Ok(()),
            None => (self.new_id()?, true),
            Some((old, _)) if draft.rotate => {
                self.model.sessions.remove(old);
                (self.new_id()?, true)
            }
            Some((id, base)) => {
                let aged = ages && next.expires != base.expires;
                let told = aged || next.rule != base.rule;
                (id.clone(), told)
            }
        };
        if told {
            self.cookie = Cookie::Set {
                id: id.clone(),
                max_age: ages.then_some((next.expires - self.now + 999) / 1000),
            };
        }
        self.model.sessions.insert(id.clone(), next.clone());
        self.draft = Some(Draft::of(id, next));
        Ok(())
    }

    fn end_doomed(&mut self) {
        for id in std::mem::take(&mut self.doomed) {
            let ended = self.model.sessions.remove(&id);
            if ended.is_some_and(|live| self.now < live.expires) {
                self.cookie = Cookie::Remove;
            }
        }
    }

    fn new_id(&mut self) -> Result<String, String> {
        let id = self.made.pop_front();
        id.ok_or_else(|| "no id was made where the model needs a new one".into())
    }

    /// What the client presents counts only if exactly one of it lives.
    fn draft(&mut self) -> &mut Draft {
        let Self {
            model,
            presented,
            now,
            draft,
            ..
        } = self;
        draft.get_or_insert_with(|| {
            presented.sort();
            presented.dedup();
            let live = |id: &String| Some((id.clone(), model.live(id, *now)?.clone()));
            let live: Vec<_> = presented.iter().filter_map(live).collect();
            match &live[..] {
                [(id, live)] => Draft::of(id.clone(), live.clone()),
                _ => Draft::default(),
            }
        })
    }
}

impl Draft {
    fn of(id: String, live: Live) -> Self {
        Self {
            data: live.data.clone(),
            rule: live.rule,
            origin: Some((id, live)),
            ..Self::default()
        }
    }

    fn user(&self) -> Option<String> {
        let stored = || self.origin.as_ref()?.1.user.clone();
        self.login.clone().or_else(stored)
    }

    fn clear(&mut self) {
        self.data.clear();
        self.rule = None;
    }

    /// The session if it is stored now.
    fn next(&self, now: Millis) -> Live {
        let base = self.origin.as_ref().filter(|_| self.login.is_none());
        let (created, absolute) = match base {
            Some((_, base)) => (base.created, base.absolute),
            None => (now, now + millis(ABSOLUTE)),
        };
        let deadline = deadline(self.rule, now).min(absolute);
        let expires = match base {
            Some((_, base)) if !self.rotate && self.rule == base.rule => {
                let due = idle(self.rule).is_some_and(|idle| deadline - base.expires >= idle / 10);
                if due { deadline } else { base.expires }
            }
            _ => deadline,
        };
        Live {
            data: self.data.clone(),
            rule: self.rule,
            user: self.user(),
            created,
            expires,
            absolute,
        }
    }
}

fn deadline(rule: Option<Expiry>, now: Millis) -> Millis {
    match rule {
        Some(Expiry::At(end)) => Timestamp::from(end).as_millis(),
        Some(Expiry::Idle(idle)) => now + millis(idle),
        Some(Expiry::BrowserClose) | None => now + millis(IDLE),
    }
}

/// The idle time by which a deadline is postponed; `None` where it stands.
fn idle(rule: Option<Expiry>) -> Option<Millis> {
    match rule {
        Some(Expiry::At(_)) => None,
        Some(Expiry::Idle(idle)) => Some(millis(idle)),
        Some(Expiry::BrowserClose) | None => Some(millis(IDLE)),
    }
}

fn millis(duration: std::time::Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap()
}
