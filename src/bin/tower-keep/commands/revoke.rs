//! `tower-keep revoke`

use std::time::SystemTime;

use serde_json::json;
use tower_keep::{
    RecordId, ScanSessions, SessionStore, StoredSession, Timestamp, UserId, stores::OpenStore,
};

use crate::{
    arguments::Revoke,
    concurrently::{self, at_once},
    confirmation::confirm,
    exit::{Exit, Refusal},
    interrupt::Interrupt,
    open::{open, scan_of, users_of},
    output,
    progress::Progress,
    warnings,
};

pub(crate) async fn run(arguments: Revoke, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let store = interrupt.or(open(&arguments.store.url)).await?;
    let ended = match (&arguments.which.id, &arguments.which.user) {
        (Some(id), _) => interrupt.or(one(&arguments, &store, id)).await?,
        (None, Some(user)) => interrupt.or(of_user(&arguments, &store, user)).await?,
        (None, None) => all(&arguments, &store, interrupt).await?,
    };
    let (name, told) = match arguments.dry_run {
        true => ("would_end", "would end"),
        false => ("ended", "ended"),
    };
    match arguments.json.is_wanted {
        true => output::json(&json!({ name: ended }))?,
        false => output::line(format!("{told}: {ended}"))?,
    }
    // Of all there may be none, and then all are ended; somebody else was asked for by name.
    let is_found = ended > 0 || arguments.which.all;
    // What was left out of a list may live.
    let is_whole = !(arguments.which.all && warnings::were_shown());
    Ok(if is_found && is_whole {
        Exit::Done
    } else {
        Exit::No
    })
}

async fn one(arguments: &Revoke, store: &OpenStore, id: &RecordId) -> anyhow::Result<u64> {
    let is_there = match arguments.dry_run {
        true => store.load(id).await?.is_some(),
        false => store.delete(id).await?,
    };
    Ok(is_there.into())
}

async fn of_user(arguments: &Revoke, store: &OpenStore, user: &UserId) -> anyhow::Result<u64> {
    let users = users_of(store)?;
    let keep = arguments.keep.as_ref();
    let present = users.sessions_of(user).await?;
    if let Some(keep) = keep
        && !present.iter().any(|session| session.id == *keep)
    {
        let no_such = format!("the session to keep is none of the user {user}; nothing was ended");
        return Err(Refusal::Usage(no_such).into());
    }
    let to_end = present.iter().filter(|session| Some(&session.id) != keep);
    let to_end = to_end.count() as u64;
    if arguments.dry_run {
        return Ok(to_end);
    }
    // Also if none was found: what can not be read is ended too.
    let question = match to_end {
        0 => format!("End the sessions of the user {user} that can not be read?"),
        _ => format!("End {to_end} sessions of the user {user}?"),
    };
    confirm(question, arguments.yes).await?;
    Ok(users.delete_all_of(user, keep).await?.len() as u64)
}

async fn all(arguments: &Revoke, store: &OpenStore, interrupt: &Interrupt) -> anyhow::Result<u64> {
    let scan = scan_of(store)?;
    if arguments.dry_run {
        let mut count = 0;
        let counted = async |sessions: Vec<StoredSession>| {
            count += sessions.len() as u64;
            Ok(())
        };
        each_page(&*scan, counted, interrupt, "nothing was ended").await?;
        return Ok(count);
    }
    let question = format!("End every session in {}?", store.kind());
    interrupt.or(confirm(question, arguments.yes)).await?;
    let progress = Progress::new("ended");
    let began = Timestamp::from(SystemTime::now());
    let mut ended = 0;
    for _ in 0..PASSES_MAX {
        let mut old_ones = 0;
        let end_old = async |sessions: Vec<StoredSession>| {
            let old = |session: &&StoredSession| session.record.created_at <= began;
            old_ones += sessions.iter().filter(old).count();
            let some = end(store, sessions).await?;
            ended += some;
            progress.add(some);
            Ok(())
        };
        each_page(
            &*scan,
            end_old,
            interrupt,
            "some sessions are left; run it again",
        )
        .await?;
        if old_ones == 0 {
            return Ok(ended);
        }
    }
    let left =
        format!("ended: {ended}, and there are still sessions that began before; run it again");
    Err(Refusal::No(left).into())
}

async fn each_page(
    scan: &dyn ScanSessions,
    mut act: impl AsyncFnMut(Vec<StoredSession>) -> anyhow::Result<()>,
    interrupt: &Interrupt,
    if_stopped: &str,
) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = scan.scan(after.as_ref(), PAGE).await?;
        act(page.sessions).await?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
        if interrupt.is_requested() {
            return Err(Refusal::Interrupted(format!("stopped: {if_stopped}")).into());
        }
    }
}

async fn end(store: &OpenStore, sessions: Vec<StoredSession>) -> anyhow::Result<u64> {
    let deleted = concurrently::each(sessions, at_once(store), |session| {
        let store = store.clone();
        async move { Ok(store.delete(&session.id).await?) }
    });
    let deleted = deleted.await?;
    Ok(deleted.into_iter().filter(|deleted| *deleted).count() as u64)
}

const PAGE: usize = 1000;

/// A session that takes a new id while the store is read may be missed, and is found by the next pass. No
/// session is that lucky as often as this.
const PASSES_MAX: u32 = 16;
