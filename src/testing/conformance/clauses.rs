//! The clauses of `SessionStore`.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use tokio::task::JoinSet;

use super::fixtures::{
    create, create_and_outlive, later, load, new_id, new_record, new_token, new_user, next, now,
    put,
};
use crate::{
    error::StoreError,
    id::RecordId,
    record::Record,
    store::{Created, Rotated, SessionStore, Updated},
};

type Shared = Arc<dyn SessionStore>;

pub async fn c01_load_is_honest(store: Shared) {
    let store = &*store;
    assert_eq!(load(store, &new_id()).await, None, "an unknown id");

    let record = new_record(b"alive");
    let alive = create(store, &record).await;
    let dead = create_and_outlive(store, new_record(b"dead")).await;
    assert_eq!(load(store, &dead).await, None, "an expired record");
    assert_eq!(
        load(store, &alive).await,
        Some(record),
        "a live one beside it"
    );

    let mut stillborn = new_record(b"stillborn");
    stillborn.expires_at = now();
    let id = new_id();
    let _ = store.create(&id, &stillborn).await.expect("create");
    assert_eq!(load(store, &id).await, None, "expired when it was created");
}

pub async fn c01_an_outage_is_an_error(store: Shared) {
    let _ = store
        .load(&new_id())
        .await
        .expect_err("an outage is never `None`");
}

pub async fn c02_create_inserts_and_never_replaces(store: Shared) {
    let first = new_record(b"first");
    let id = create(&*store, &first).await;
    let second = store
        .create(&id, &new_record(b"second"))
        .await
        .expect("create");
    assert_eq!(second, Created::Exists);
    assert_eq!(load(&*store, &id).await, Some(first));

    // Many at once for one id: one is stored, and it is the one that was told so.
    let id = new_id();
    let mut racers = JoinSet::new();
    for racer in 0..16_u8 {
        let store = Arc::clone(&store);
        racers.spawn(async move {
            let record = new_record(&[racer]);
            let created = store.create(&id, &record).await.expect("create");
            (created == Created::Done).then_some(record)
        });
    }
    let winners: Vec<Record> = racers.join_all().await.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(load(&*store, &id).await.as_ref(), winners.first());

    let expired = create_and_outlive(&*store, new_record(b"expired")).await;
    let fresh = new_record(b"fresh");
    put(&*store, &expired, &fresh).await;
    assert_eq!(
        load(&*store, &expired).await,
        Some(fresh),
        "an expired id is free"
    );
}

pub async fn c03_nothing_comes_back(store: Shared) {
    let store = &*store;
    let record = new_record(b"was here");
    let deleted = create(store, &record).await;
    assert!(store.delete(&deleted).await.expect("delete"));
    let expired = create_and_outlive(store, record.clone()).await;
    for (id, what) in [
        (new_id(), "unknown"),
        (deleted, "deleted"),
        (expired, "expired"),
    ] {
        for _ in 0..2 {
            let next = next(&record, b"back again");
            let updated = store.update(&id, &next, record.version).await;
            assert_eq!(updated.expect("update"), Updated::Gone, "{what}");
            let new = new_id();
            let rotated = store.rotate(&id, &new, &next, record.version).await;
            assert_eq!(rotated.expect("rotate"), Rotated::Gone, "{what}");
            let touched = store.touch(&id, later(), record.version).await;
            assert!(!touched.expect("touch"), "{what}");
            assert_eq!(load(store, &id).await, None, "{what}");
            assert_eq!(load(store, &new).await, None, "{what}");
        }
    }
}

pub async fn c04_update_and_rotate_compare_and_set(store: Shared) {
    let store = &*store;
    let first = new_record(b"first");
    let id = create(store, &first).await;
    let second = next(&first, b"second");
    let updated = store.update(&id, &second, first.version).await;
    assert_eq!(updated.expect("update"), Updated::Done);
    assert_eq!(load(store, &id).await.as_ref(), Some(&second));

    let late = next(&first, b"too late");
    let updated = store.update(&id, &late, first.version).await;
    assert_eq!(updated.expect("update"), Updated::Conflict(second.clone()));
    let new = new_id();
    let rotated = store.rotate(&id, &new, &late, first.version).await;
    assert_eq!(rotated.expect("rotate"), Rotated::Conflict(second.clone()));

    // The same revision, but of another write: also outdated.
    let mut other = second.version;
    other.token = new_token();
    let updated = store.update(&id, &next(&second, b"other"), other).await;
    assert_eq!(updated.expect("update"), Updated::Conflict(second.clone()));

    assert_eq!(load(store, &id).await, Some(second), "nothing was changed");
    assert_eq!(load(store, &new).await, None);
}

pub async fn c05_sent_twice_is_applied_once(store: Shared) {
    let store = &*store;
    let first = new_record(b"first");
    let id = create(store, &first).await;
    let _ = store.create(&id, &first).await.expect("create again");
    assert_eq!(load(store, &id).await.as_ref(), Some(&first));

    let second = next(&first, b"second");
    for _ in 0..2 {
        let updated = store.update(&id, &second, first.version).await;
        assert_eq!(updated.expect("update"), Updated::Done);
        assert_eq!(load(store, &id).await.as_ref(), Some(&second));
    }

    // Somebody may have used the session before it is sent again: the deadline does not come back.
    let touched = postpone(store, &id, &second).await;
    let updated = store.update(&id, &second, first.version).await;
    assert_eq!(updated.expect("update once more"), Updated::Done);
    assert_eq!(load(store, &id).await, Some(touched));

    let third = next(&second, b"third");
    let new = new_id();
    for _ in 0..2 {
        let rotated = store.rotate(&id, &new, &third, second.version).await;
        assert_eq!(rotated.expect("rotate"), Rotated::Done);
        assert_eq!(load(store, &new).await.as_ref(), Some(&third));
        assert_eq!(load(store, &id).await, None);
    }

    let touched = postpone(store, &new, &third).await;
    let rotated = store.rotate(&id, &new, &third, second.version).await;
    assert_eq!(rotated.expect("rotate once more"), Rotated::Done);
    assert_eq!(load(store, &new).await, Some(touched));
    assert_eq!(load(store, &id).await, None);
}

/// Moves the deadline of what is stored.
async fn postpone(store: &dyn SessionStore, id: &RecordId, present: &Record) -> Record {
    let touched = Record {
        expires_at: present.expires_at.saturating_add(Duration::from_secs(60)),
        ..present.clone()
    };
    let done = store.touch(id, touched.expires_at, present.version).await;
    assert!(done.expect("touch"));
    touched
}

pub async fn c06_rotation_leaves_exactly_one_live_id(store: Shared) {
    let mut first = new_record(b"first");
    first.user = Some(new_user());
    let old = create(&*store, &first).await;
    let second = next(&first, b"second");
    let new = new_id();
    let rotated = store.rotate(&old, &new, &second, first.version).await;
    assert_eq!(rotated.expect("rotate"), Rotated::Done);
    assert_eq!(load(&*store, &old).await, None, "the old id is dead");
    assert_eq!(load(&*store, &new).await.as_ref(), Some(&second));
    let touched = store.touch(&old, later(), first.version).await;
    assert!(!touched.expect("touch"));

    // Onto the id of somebody else.
    let other = new_record(b"somebody else");
    let taken = create(&*store, &other).await;
    let third = next(&second, b"third");
    let rotated = store.rotate(&new, &taken, &third, second.version).await;
    assert_eq!(rotated.expect("rotate"), Rotated::Exists);
    assert_eq!(load(&*store, &taken).await, Some(other));
    let rotated = store.rotate(&new, &new, &third, second.version).await;
    assert_eq!(rotated.expect("rotate"), Rotated::Exists, "onto itself");
    let rotated = store.rotate(&new, &new, &second, first.version).await;
    assert_eq!(rotated.expect("rotate"), Rotated::Exists, "again");
    assert_eq!(load(&*store, &new).await, Some(second));

    for _ in 0..10 {
        race_rotations(&store).await;
    }
}

/// Several rotate one record at once, while a reader makes sure that it is always there.
async fn race_rotations(store: &Shared) {
    let record = new_record(b"wanted by many");
    let old = create(&**store, &record).await;
    let targets: Vec<RecordId> = (0..8).map(|_| new_id()).collect();
    let mut racers = JoinSet::new();
    for new in targets.clone() {
        let (store, record) = (Arc::clone(store), record.clone());
        racers.spawn(async move {
            let next = next(&record, b"mine");
            let rotated = store.rotate(&old, &new, &next, record.version).await;
            rotated.expect("rotate") == Rotated::Done
        });
    }
    let mut wins = 0;
    while !racers.is_empty() {
        // A dead old id means that a new one is alive already.
        if load(&**store, &old).await.is_none() {
            assert_eq!(
                count_live(store, &targets).await,
                1,
                "no live id, or several"
            );
        }
        while let Some(won) = racers.try_join_next() {
            wins += usize::from(won.expect("a racer"));
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(wins, 1);
    assert_eq!(load(&**store, &old).await, None);
    assert_eq!(count_live(store, &targets).await, 1);
}

async fn count_live(store: &Shared, ids: &[RecordId]) -> usize {
    let mut live = 0;
    for id in ids {
        live += usize::from(load(&**store, id).await.is_some());
    }
    live
}

pub async fn c07_touch_moves_the_deadline_alone_and_only_later(store: Shared) {
    let store = &*store;
    let record = new_record(b"touched");
    let id = create(store, &record).await;
    let postponed = record
        .expires_at
        .saturating_add(Duration::from_millis(1500));
    let touched = Record {
        expires_at: postponed,
        ..record.clone()
    };
    for deadline in [postponed, record.expires_at, now()] {
        let touch = store.touch(&id, deadline, record.version).await;
        assert!(touch.expect("touch"));
        assert_eq!(
            load(store, &id).await.as_ref(),
            Some(&touched),
            "never back"
        );
    }
    let second = next(&touched, b"the version still stands");
    let updated = store.update(&id, &second, record.version).await;
    assert_eq!(updated.expect("update"), Updated::Done);
    assert_eq!(load(store, &id).await.as_ref(), Some(&second));

    let later = second.expires_at.saturating_add(Duration::from_secs(60));
    let touch = store.touch(&id, later, record.version).await;
    assert!(!touch.expect("touch"), "of an outdated version");
    assert_eq!(load(store, &id).await, Some(second));
}

pub async fn c08_a_record_comes_back_byte_for_byte(store: Shared) {
    let store = &*store;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let large = all_bytes.repeat(256);
    assert_eq!(large.len(), 64 * 1024);
    let payloads: [&[u8]; 5] = [
        b"",
        b"\0",
        b"\xff\xfe not text \xc3\x28",
        &all_bytes,
        &large,
    ];
    let longest = "é".repeat(127);
    let users = [
        None,
        Some("7"),
        Some("ada@example.org' OR 1=1 --"),
        Some(&*longest),
    ];
    for (payload, user) in payloads.iter().zip(users.iter().cycle()) {
        let mut record = new_record(payload);
        record.user = user.map(|user| crate::user::UserId::new(user).expect("a user id"));
        record.created_at = crate::timestamp::Timestamp::from_millis(1);
        let id = create(store, &record).await;
        assert_eq!(load(store, &id).await.as_ref(), Some(&record), "created");

        let updated_record = next(&record, payload);
        let updated = store.update(&id, &updated_record, record.version).await;
        assert_eq!(updated.expect("update"), Updated::Done);
        assert_eq!(
            load(store, &id).await.as_ref(),
            Some(&updated_record),
            "updated"
        );

        let mut rotated_record = next(&updated_record, payload);
        rotated_record.user = Some(new_user());
        rotated_record.created_at = now();
        rotated_record.absolute_deadline = later().saturating_add(Duration::from_millis(1));
        let new = new_id();
        let rotated = store
            .rotate(&id, &new, &rotated_record, updated_record.version)
            .await;
        assert_eq!(rotated.expect("rotate"), Rotated::Done);
        assert_eq!(load(store, &new).await, Some(rotated_record), "rotated");
    }
}

pub async fn c09_deleting_nothing_is_no_error(store: Shared) {
    let store = &*store;
    let id = create(store, &new_record(b"once")).await;
    assert!(store.delete(&id).await.expect("delete"));
    assert!(!store.delete(&id).await.expect("delete"), "deleted already");
    assert!(
        !store.delete(&new_id()).await.expect("delete"),
        "never there"
    );
    let expired = create_and_outlive(store, new_record(b"expired")).await;
    assert!(!store.delete(&expired).await.expect("delete"), "expired");
}

pub async fn c10_concurrent_writers_lose_nothing(store: Shared) {
    const WRITERS: usize = 16;
    const ROUNDS: usize = 25;
    let id = create(&*store, &new_record(b"")).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for _ in 0..ROUNDS {
                append(&*store, &id, u8::try_from(writer).expect("few writers")).await;
            }
        });
    }
    writers.join_all().await;
    let record = load(&*store, &id).await.expect("it is still there");
    assert_eq!(record.payload.len(), WRITERS * ROUNDS, "changes were lost");
    assert_eq!(record.version.revision, 1 + (WRITERS * ROUNDS) as u64);
}

/// Adds a byte to the payload, however often it takes.
async fn append(store: &dyn SessionStore, id: &RecordId, byte: u8) {
    let mut record = load(store, id).await.expect("it is there");
    loop {
        let payload = [record.payload.as_bytes(), &[byte]].concat();
        let next = next(&record, &payload);
        match store
            .update(id, &next, record.version)
            .await
            .expect("update")
        {
            Updated::Done => return,
            Updated::Conflict(newer) => record = newer,
            Updated::Gone => panic!("the record is gone"),
        }
    }
}

pub async fn c11_a_cancelled_call_leaves_before_or_after(store: Shared) {
    let store = &*store;
    for polls in 0..40 {
        let before = new_record(b"before");
        let id = create(store, &before).await;
        let after = next(&before, b"after");
        cancel_after(polls, store.update(&id, &after, before.version)).await;
        let present = load(store, &id).await.expect("never lost");
        assert!(
            [&before, &after].contains(&&present),
            "{polls}: {present:?}"
        );

        let new = new_id();
        let moved = next(&present, b"moved");
        cancel_after(polls, store.rotate(&id, &new, &moved, present.version)).await;
        // Old first: what is not there any more has been moved before.
        let old = load(store, &id).await;
        let (live, record) = match old {
            Some(record) => (id, record),
            None => (new, load(store, &new).await.expect("never lost")),
        };
        // A server may come to the dropped update only now.
        let possible = [&before, &after, &moved];
        assert!(possible.contains(&&record), "{polls}: {record:?}");

        cancel_after(polls, store.touch(&live, later(), record.version)).await;
        cancel_after(polls, store.load(&live)).await;
        cancel_after(polls, store.delete(&live)).await;
        let _ = store.delete(&live).await.expect("the store is usable");
        assert_eq!(load(store, &live).await, None);

        let id = new_id();
        let record = new_record(b"cancelled");
        cancel_after(polls, store.create(&id, &record)).await;
        let _ = store
            .create(&id, &record)
            .await
            .expect("the store is usable");
        assert_eq!(load(store, &id).await, Some(record));
    }
}

/// Polls a call so many times, a turn of the scheduler apart, and then drops it.
async fn cancel_after<T>(polls: u32, call: impl Future<Output = T>) {
    let mut call = pin!(call);
    for _ in 0..polls {
        let done = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
        if done {
            return;
        }
        tokio::task::yield_now().await;
    }
}

pub async fn c12_errors_and_debug_are_quiet(store: Shared) {
    let id = create(&*store, &new_record(SECRET)).await;
    assert_quiet(&format!("{store:?} {store:#?}"), &id);
}

pub async fn c12_the_errors_of_an_outage_are_quiet(store: Shared) {
    let id = new_id();
    let record = new_record(SECRET);
    let next = next(&record, SECRET);
    let version = record.version;
    let errors: [StoreError; 6] = [
        store.load(&id).await.expect_err("an outage"),
        store.create(&id, &record).await.expect_err("an outage"),
        store
            .update(&id, &next, version)
            .await
            .expect_err("an outage"),
        store
            .rotate(&id, &new_id(), &next, version)
            .await
            .expect_err("an outage"),
        store
            .touch(&id, later(), version)
            .await
            .expect_err("an outage"),
        store.delete(&id).await.expect_err("an outage"),
    ];
    for error in errors {
        assert_error_is_quiet(&error, &id);
    }
}

pub(super) fn assert_error_is_quiet(error: &StoreError, id: &RecordId) {
    assert!(!error.store().is_empty(), "an error names its store");
    let mut texts = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    assert!(source.is_some(), "an error keeps its source");
    while let Some(beneath) = source {
        texts += &format!(" {beneath} {beneath:?}");
        source = beneath.source();
    }
    assert_quiet(&texts, id);
}

pub(super) fn assert_quiet(texts: &str, id: &RecordId) {
    let hex = id.to_hex();
    let lower = texts.to_lowercase();
    assert!(!lower.contains(&hex[8..]), "a text shows an id: {texts}");
    let secret = str::from_utf8(SECRET).expect("text");
    assert!(!texts.contains(secret), "a text shows a payload: {texts}");
    assert!(
        !texts.contains("hunter2"),
        "a text shows the password `hunter2`, which a test may have in its URL: {texts}"
    );
}

pub(super) const SECRET: &[u8] = b"the payload of a session";
