//! What must be true of every history of overlapping requests.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Deed, Life, Record, View};
use crate::model::world::Cookie;

pub(super) struct History<'a> {
    records: &'a [Record],
    /// What the live ids show in the end.
    left: &'a BTreeMap<String, View>,
    minted: &'a [String],
    /// Lives of which somebody has cleared the data: what was there before may be gone.
    cleared: BTreeSet<&'a Life>,
    /// To which session an id belongs, as far as anybody has seen.
    session_of: BTreeMap<&'a str, &'a str>,
}

type Judgement = Result<(), String>;

impl<'a> History<'a> {
    pub(super) fn new(
        records: &'a [Record],
        left: &'a BTreeMap<String, View>,
        minted: &'a [String],
    ) -> Self {
        let deeds = records.iter().flat_map(|record| &record.deeds);
        let shown = left.iter().map(|(id, view)| (&**id, &*view.life.session));
        let loaded = records.iter().filter_map(|record| {
            let session = &*record.view()?.life.session;
            Some((record.presented.as_deref()?, session))
        });
        let told = records
            .iter()
            .filter_map(|record| Some((handed_out(record)?, record.session()?)));
        Self {
            records,
            left,
            minted,
            cleared: deeds.filter_map(Deed::cleared).collect(),
            session_of: shown.chain(loaded).chain(told).collect(),
        }
    }

    pub(super) fn judge(&self) -> Judgement {
        self.answers_are_the_handlers()?;
        for (reader, view) in self.views() {
            self.view_is_whole_and_holds_nothing_of_others(view)
                .map_err(|problem| format!("{problem}: {view:?}"))?;
            self.view_holds_nothing_from_before_a_clear(reader, view)
                .map_err(|problem| format!("{problem}: {view:?}"))?;
            self.view_holds_all_acknowledged(reader, view)
                .map_err(|problem| format!("{problem}: {view:?}"))?;
        }
        for view in self.left.values() {
            self.own_keys_are_the_last_ones(view)?;
        }
        self.a_life_has_one_user()?;
        self.what_is_dead_stays_dead()?;
        self.what_was_handed_out_works()?;
        self.each_session_has_one_id_or_none()
    }

    /// No conflict, outage or other trouble shows.
    fn answers_are_the_handlers(&self) -> Judgement {
        for record in self.records {
            let Some(answer) = &record.answer else {
                continue;
            };
            ensure(answer.status == record.plan.status, || {
                format!("an answer is {}: {record:?}", answer.status)
            })?;
            ensure(answer.cookie != Cookie::Remove || record.flushed, || {
                format!("one that ended nothing removes the cookie: {record:?}")
            })?;
        }
        Ok(())
    }

    fn view_is_whole_and_holds_nothing_of_others(&self, view: &View) -> Judgement {
        let marks: BTreeSet<_> = view.marks.iter().collect();
        ensure(marks.len() == view.marks.len(), || {
            "a mark is there twice".into()
        })?;
        ensure(view.count == view.marks.len() as u64, || {
            "the counter and the list differ".into()
        })?;
        for mark in &view.marks {
            self.is_from(view, mark, Deed::mark)?;
        }
        for value in view.own.values() {
            self.is_from(view, value, |deed| {
                let (life, value) = deed.own()?;
                Some((life, value?))
            })?;
        }
        Ok(())
    }

    /// Whether a value comes from a request of the same life that was to be committed.
    fn is_from(
        &self,
        view: &View,
        value: &String,
        put: impl Fn(&Deed) -> Option<(&Life, &String)>,
    ) -> Judgement {
        let effective = self.records.iter().filter(|record| record.is_effective());
        let deeds = effective.flat_map(|record| &record.deeds);
        let found = deeds
            .filter_map(put)
            .any(|(life, put)| put == value && *life == view.life);
        ensure(found, || {
            format!("{value} is of another session, or of a request that failed")
        })
    }

    /// What was acknowledged before the reader started, and nobody has taken away.
    fn view_holds_all_acknowledged(&self, reader: Option<&Record>, view: &View) -> Judgement {
        if self.cleared.contains(&view.life) {
            return Ok(());
        }
        for record in self.records.iter().filter(|record| self.is_kept(record)) {
            if reader.is_some_and(|reader| !record.is_answered_before(reader.started)) {
                continue;
            }
            let marks = record.deeds.iter().filter_map(Deed::mark);
            for (_, mark) in marks.filter(|(life, _)| **life == view.life) {
                ensure(view.marks.contains(mark), || {
                    format!("{mark} is lost, which was acknowledged")
                })?;
            }
        }
        Ok(())
    }

    fn view_holds_nothing_from_before_a_clear(
        &self,
        reader: Option<&Record>,
        view: &View,
    ) -> Judgement {
        let clears = |record: &&Record| {
            let mut lives = record.deeds.iter().filter_map(Deed::cleared);
            lives.any(|life| *life == view.life)
                && self.is_kept(record)
                && reader.is_none_or(|reader| record.is_answered_before(reader.started))
        };
        for clear in self.records.iter().filter(clears) {
            let before = |record: &&Record| record.is_answered_before(clear.started);
            let before = self.records.iter().filter(before);
            for (_, mark) in before.flat_map(|record| record.deeds.iter().filter_map(Deed::mark)) {
                ensure(!view.marks.contains(mark), || {
                    format!("{mark} is there, which was cleared")
                })?;
            }
        }
        Ok(())
    }

    /// Whether what a request did must be in the store in the end: its client has an answer, or has
    /// gone away too late to stop the commit, and no other may have replaced or ended the id before.
    fn is_kept(&self, record: &Record) -> bool {
        let unharmed = |id: &str| {
            self.others(record).all(|other| {
                (!other.rotates(id) || record.is_answered_before_commit_of(other))
                    && (!other.ends(id) || record.is_answered_before(other.started))
            })
        };
        record.is_effective() && record.target().is_none_or(unharmed)
    }

    /// Of a client's values the last one is there; of those that it does not know about, any may be.
    fn own_keys_are_the_last_ones(&self, view: &View) -> Judgement {
        if self.cleared.contains(&view.life) {
            return Ok(());
        }
        let clients: BTreeSet<_> = self.records.iter().map(|record| record.client).collect();
        for client in clients {
            let mut known = BTreeSet::from([None]);
            let mut unknown = BTreeSet::new();
            let of_client = |record: &&Record| record.client == client && record.is_effective();
            for record in self.records.iter().filter(of_client) {
                let own = record.deeds.iter().rev().filter_map(Deed::own);
                let last = own
                    .filter(|(life, _)| **life == view.life)
                    .map(|(_, value)| value)
                    .next();
                let Some(last) = last else { continue };
                match (record.answer.is_some(), self.is_kept(record)) {
                    (true, true) => known = BTreeSet::from([last]),
                    (true, false) => drop(known.insert(last)),
                    (false, _) => drop(unknown.insert(last)),
                }
            }
            let value = view.own.get(&client);
            ensure(known.contains(&value) || unknown.contains(&value), || {
                format!("of client {client} is {value:?} there, and should be {known:?}")
            })?;
        }
        Ok(())
    }

    fn a_life_has_one_user(&self) -> Judgement {
        let mut users = BTreeMap::new();
        for (_, view) in self.views() {
            if let Some(user) = &view.user {
                let first = *users.entry(&view.life).or_insert(user);
                ensure(first == user, || {
                    format!("{user} sees what was {first}'s: {view:?}")
                })?;
            }
        }
        Ok(())
    }

    fn what_is_dead_stays_dead(&self) -> Judgement {
        for record in self.records {
            let Some(id) = &record.presented else {
                continue;
            };
            let seen_dead = !record.plan.logout && record.view().is_none();
            let seen_dead = record.loaded.as_ref().filter(|_| seen_dead);
            let seen_dead = seen_dead.map(|loaded| loaded.at);
            let killed = record.ends(id) || record.rotates(id);
            ensure(
                !(killed || seen_dead.is_some()) || !self.left.contains_key(id),
                || format!("a dead id works: {record:?}"),
            )?;
            let killed = record.answer.as_ref().filter(|_| killed);
            let dead_since = seen_dead.or(killed.map(|answer| answer.at));
            let later = |other: &&Record| dead_since.is_some_and(|dead| dead < other.started);
            for other in self.others(record).filter(later) {
                let revived = other.presented.as_ref() == Some(id) && other.view().is_some();
                ensure(!revived, || {
                    format!("an id works that was dead before:\n{record:?}\n{other:?}")
                })?;
            }
        }
        Ok(())
    }

    fn what_was_handed_out_works(&self) -> Judgement {
        for record in self.records {
            let Some(id) = handed_out(record) else {
                continue;
            };
            ensure(self.minted.iter().any(|minted| minted == id), || {
                format!("an id was handed out that was not made here: {record:?}")
            })?;
            let replaced = |other: &Record| other.rotates(id) || other.ends(id);
            let works = self.left.contains_key(id) || self.records.iter().any(replaced);
            ensure(works, || {
                format!("an id was handed out that does not work: {record:?}")
            })?;
        }
        Ok(())
    }

    /// One, unless somebody has ended it: then none. Where a rotation overlapped with the end, either.
    fn each_session_has_one_id_or_none(&self) -> Judgement {
        let live = |session: &str| {
            let views = self.left.values();
            views.filter(|view| view.life.session == session).count()
        };
        for view in self.left.values() {
            ensure(live(&view.life.session) == 1, || {
                format!("several ids of one session work: {view:?}")
            })?;
        }
        let ended = |record: &'a Record| {
            let id = record.presented.as_deref().filter(|_| record.flushed)?;
            Some((id, record, *self.session_of.get(id)?))
        };
        let ended: Vec<_> = self.records.iter().filter_map(ended).collect();
        for (id, record, session) in &ended {
            let overtaken = self
                .others(record)
                .any(|other| other.rotates(id) && !record.is_answered_before_commit_of(other));
            ensure(overtaken || live(session) == 0, || {
                format!("a session works that was ended: {record:?}")
            })?;
        }
        for record in self.records.iter().filter(|record| record.is_effective()) {
            // What follows the flush of a session that somebody else has just ended or rotated is
            // dropped: its cookie would overwrite the other's.
            let overtaken = record.flushed
                && record.view().is_some()
                && record.presented.as_deref().is_some_and(|id| {
                    self.others(record)
                        .any(|other| other.rotates(id) || other.ends(id))
                });
            for life in record.deeds.iter().filter_map(Deed::begun) {
                let ended = ended.iter().any(|(_, _, session)| *session == life.session);
                ensure(ended || overtaken || live(&life.session) == 1, || {
                    format!("the session that was begun is lost: {record:?}")
                })?;
            }
        }
        Ok(())
    }

    /// What was seen: by the requests, and in the end.
    fn views(&self) -> impl Iterator<Item = (Option<&'a Record>, &'a View)> {
        let seen = |record: &'a Record| Some((Some(record), record.view()?));
        let left = self.left.values().map(|view| (None, view));
        self.records.iter().filter_map(seen).chain(left)
    }

    fn others(&self, record: &Record) -> impl Iterator<Item = &'a Record> {
        let number = record.number;
        self.records
            .iter()
            .filter(move |other| other.number != number)
    }
}

fn handed_out(record: &Record) -> Option<&str> {
    match &record.answer.as_ref()?.cookie {
        Cookie::Set { id, .. } => Some(id),
        Cookie::Keep | Cookie::Remove => None,
    }
}

fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Judgement {
    if holds { Ok(()) } else { Err(problem()) }
}
