//! A session of the program's own, which is made, found, changed and ended.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use tower_keep::{
    Created, Record, RecordId, SessionId, SessionStore, SystemRandom, Timestamp, Updated, UserId,
    Version, WriteToken, stores::OpenStore,
};

use super::finding::Finding;
use crate::exit::line;

pub(super) async fn run(store: &OpenStore) -> Finding {
    let done = match new() {
        Ok((id, record)) => {
            let done = round_trip(store, &id, &record).await;
            if done.is_err() {
                // It lives no longer than a minute, if this fails too.
                let _ended = store.delete(&id).await;
            }
            done
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => Finding::ok(
            "round trip",
            "a session can be made, found, changed and ended",
        ),
        Err(error) => Finding::fail("round trip", line(&error)),
    }
}

async fn round_trip(store: &OpenStore, id: &RecordId, record: &Record) -> anyhow::Result<()> {
    ensure!(
        store.create(id, record).await? == Created::Done,
        "a new id is taken"
    );
    let same = store.load(id).await?.as_ref() == Some(record);
    ensure!(same, "what is read is not what was written");
    if let Some(users) = store.as_user_sessions()
        && let Some(user) = &record.user
    {
        let found = users.sessions_of(user).await?;
        let is_found = found.iter().any(|session| session.id == *id);
        ensure!(is_found, "the session is not found by its user");
    }
    let [next, late] = [version(2)?, version(2)?].map(|version| Record {
        version,
        ..record.clone()
    });
    let updated = store.update(id, &next, record.version).await?;
    ensure!(updated == Updated::Done, "a change is refused");
    let late = store.update(id, &late, record.version).await?;
    ensure!(late == Updated::Conflict(next), "a late change is taken");
    ensure!(store.delete(id).await?, "an end is refused");
    ensure!(
        store.load(id).await?.is_none(),
        "what has ended is still there"
    );
    Ok(())
}

fn new() -> anyhow::Result<(RecordId, Record)> {
    let now = Timestamp::from(SystemTime::now());
    let deadline = now.saturating_add(Duration::from_secs(60));
    let record = Record {
        version: version(1)?,
        user: Some(UserId::new("tower-keep doctor")?),
        created_at: now,
        expires_at: deadline,
        absolute_deadline: deadline,
        payload: Vec::new().into(),
    };
    Ok((SessionId::generate(&SystemRandom)?.record_id(), record))
}

fn version(revision: u64) -> anyhow::Result<Version> {
    let token = WriteToken::generate(&SystemRandom)?;
    Ok(Version { revision, token })
}
