//! The clauses of `UserSessions`, `DeleteExpired` and `ScanSessions`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::fixtures::{
    create, create_and_outlive, load, new_id, new_record, new_user, next, now, outlive,
};
use crate::{
    id::RecordId,
    record::Record,
    store::{DeleteExpired, Rotated, ScanSessions, SessionStore, StoredSession, UserSessions},
    user::UserId,
};

fn of_user(user: &UserId) -> Record {
    Record {
        user: Some(user.clone()),
        ..new_record(b"of a user")
    }
}

fn by_id(sessions: Vec<StoredSession>) -> BTreeMap<RecordId, Record> {
    let count = sessions.len();
    let by_id: BTreeMap<_, _> = sessions.into_iter().map(|s| (s.id, s.record)).collect();
    assert_eq!(by_id.len(), count, "each session once");
    by_id
}

pub async fn u01_the_sessions_of_a_user_are_complete<S: UserSessions>(store: Arc<S>) {
    let store = &*store;
    let (ada, bob) = (new_user(), new_user());
    let mut expected = BTreeMap::new();
    for _ in 0..5 {
        let record = of_user(&ada);
        expected.insert(create(store, &record).await, record);
    }
    create(store, &of_user(&bob)).await;
    create(store, &new_record(b"nobody's")).await;
    create_and_outlive(store, of_user(&ada)).await;
    let deleted = create(store, &of_user(&ada)).await;
    assert!(store.delete(&deleted).await.expect("delete"));

    // One that ada's login made of an anonymous session, and one that bob took over from ada.
    let anonymous = new_record(b"anonymous");
    let old = create(store, &anonymous).await;
    let mut logged_in = next(&anonymous, b"logged in");
    logged_in.user = Some(ada.clone());
    expected.insert(rotate(store, &old, &anonymous, &logged_in).await, logged_in);
    let of_ada = of_user(&ada);
    let old = create(store, &of_ada).await;
    let mut of_bob = next(&of_ada, b"bob's now");
    of_bob.user = Some(bob.clone());
    rotate(store, &old, &of_ada, &of_bob).await;

    let found = by_id(store.sessions_of(&ada).await.expect("sessions_of"));
    assert_eq!(found, expected);
    let found = store.sessions_of(&bob).await.expect("sessions_of");
    assert_eq!(found.len(), 2);
    let nobody = store.sessions_of(&new_user()).await.expect("sessions_of");
    assert_eq!(nobody, []);
}

async fn rotate(store: &dyn SessionStore, old: &RecordId, from: &Record, to: &Record) -> RecordId {
    let new = new_id();
    let rotated = store.rotate(old, &new, to, from.version).await;
    assert_eq!(rotated.expect("rotate"), Rotated::Done);
    new
}

pub async fn u02_ending_them_is_final<S: UserSessions>(store: Arc<S>) {
    let (ada, bob) = (new_user(), new_user());
    let kept = create(&*store, &of_user(&ada)).await;
    let other = create(&*store, &of_user(&bob)).await;
    let mut alive = BTreeSet::new();
    for _ in 0..5 {
        alive.insert(create(&*store, &of_user(&ada)).await);
    }
    let expired = create_and_outlive(&*store, of_user(&ada)).await;
    let deleted = create(&*store, &of_user(&ada)).await;
    assert!(store.delete(&deleted).await.expect("delete"));
    assert_eq!(end_all(&*store, &ada, Some(&kept)).await, alive);
    for id in alive.iter().chain([&expired, &deleted]) {
        assert_eq!(load(&*store, id).await, None);
    }
    assert!(load(&*store, &kept).await.is_some(), "the one to keep");
    assert!(load(&*store, &other).await.is_some(), "somebody else's");
    let none = BTreeSet::new();
    assert_eq!(end_all(&*store, &new_user(), None).await, none);
    assert_eq!(end_all(&*store, &ada, Some(&kept)).await, none);
    assert_eq!(end_all(&*store, &ada, None).await, [kept].into());
    assert_eq!(load(&*store, &kept).await, None);

    end_others_after_a_rotation(&*store).await;
    for _ in 0..20 {
        race_rotation_with_the_end(&store).await;
    }
}

async fn end_all<S: UserSessions>(
    store: &S,
    user: &UserId,
    keep: Option<&RecordId>,
) -> BTreeSet<RecordId> {
    let ended = store.delete_all_of(user, keep).await;
    let ended = ended.expect("delete_all_of");
    let ids: BTreeSet<_> = ended.iter().copied().collect();
    assert_eq!(ids.len(), ended.len(), "each session once");
    ids
}

/// A session that has just taken a new id is kept under it; one that has become another user's is theirs.
async fn end_others_after_a_rotation<S: UserSessions>(store: &S) {
    let (ada, bob) = (new_user(), new_user());
    let record = of_user(&ada);
    let old = create(store, &record).await;
    let kept = rotate(store, &old, &record, &next(&record, b"kept")).await;
    let lent = create(store, &record).await;
    let mut of_bob = next(&record, b"now of somebody else");
    of_bob.user = Some(bob);
    let lent = rotate(store, &lent, &record, &of_bob).await;
    let moved = create(store, &record).await;
    let moved = rotate(store, &moved, &record, &next(&record, b"moved")).await;
    assert_eq!(end_all(store, &ada, Some(&kept)).await, [moved].into());
    assert_eq!(load(store, &moved).await, None);
    assert!(load(store, &kept).await.is_some(), "the one to keep");
    assert!(load(store, &lent).await.is_some(), "somebody else's");
}

/// Whichever comes first, a session does not slip through by taking a new id meanwhile.
async fn race_rotation_with_the_end<S: UserSessions>(store: &Arc<S>) {
    let user = new_user();
    let record = of_user(&user);
    let old = create(&**store, &record).await;
    let new = new_id();
    let rotation = tokio::spawn({
        let (store, record) = (Arc::clone(store), record.clone());
        async move {
            let next = next(&record, b"rotated");
            store.rotate(&old, &new, &next, record.version).await
        }
    });
    let ended = end_all(&**store, &user, None).await;
    let last = match rotation.await.expect("a task").expect("rotate") {
        Rotated::Done => new,
        // It was ended before.
        Rotated::Gone => old,
        other @ (Rotated::Conflict(_) | Rotated::Exists) => panic!("{other:?}"),
    };
    assert_eq!(ended, [last].into(), "told by the id that was alive");
    assert_eq!(load(&**store, &old).await, None);
    assert_eq!(load(&**store, &new).await, None, "it slipped through");
}

pub async fn d01_only_the_expired_are_deleted<S: DeleteExpired>(store: Arc<S>) {
    let record = new_record(b"alive");
    let alive = create(&*store, &record).await;
    create_and_outlive(&*store, new_record(b"dead")).await;
    let deleted = store.delete_expired(100).await.expect("delete_expired");
    assert!(deleted >= 1, "the expired record");
    assert_eq!(load(&*store, &alive).await, Some(record));
    let deleted = store.delete_expired(100).await.expect("delete_expired");
    assert_eq!(deleted, 0, "nothing is left to delete");
}

pub async fn d02_a_call_deletes_no_more_than_its_limit<S: DeleteExpired>(store: Arc<S>) {
    const EXPIRED: u64 = 7;
    const LIMIT: usize = 3;
    let end = now().saturating_add(Duration::from_millis(500));
    for _ in 0..EXPIRED {
        let mut short = new_record(b"short");
        short.expires_at = end;
        create(&*store, &short).await;
    }
    outlive(&*store, end).await;
    let mut total = 0;
    loop {
        let deleted = store.delete_expired(LIMIT).await.expect("delete_expired");
        assert!(deleted <= LIMIT as u64);
        total += deleted;
        if deleted < LIMIT as u64 {
            break;
        }
    }
    assert!(total >= EXPIRED, "{total} of {EXPIRED}");
}

pub async fn s01_a_scan_is_complete<S: ScanSessions>(store: Arc<S>) {
    let store = &*store;
    let mut expected = BTreeMap::new();
    for _ in 0..25 {
        let record = of_user(&new_user());
        expected.insert(create(store, &record).await, record);
    }
    let expired = create_and_outlive(store, new_record(b"expired")).await;
    let deleted = create(store, &new_record(b"deleted")).await;
    assert!(store.delete(&deleted).await.expect("delete"));
    for limit in [1, 4, 1000] {
        let found = scan(store, limit).await;
        for (id, record) in &expected {
            assert_eq!(found.get(id), Some(record), "pages of {limit}");
        }
        assert!(!found.contains_key(&expired) && !found.contains_key(&deleted));
    }
}

pub async fn s02_pages_are_bounded<S: ScanSessions>(store: Arc<S>) {
    for _ in 0..25 {
        create(&*store, &new_record(b"one of many")).await;
    }
    let page = store.scan(None, 5).await.expect("scan");
    assert!(page.sessions.len() < 25, "a page is not the whole store");
    let next = page.next.expect("there is more");
    let again = store.scan(Some(&next), 5).await.expect("scan");
    let resumed = store.scan(Some(&next), 5).await.expect("scan");
    assert_eq!(again, resumed, "a cursor can be used again");
}

async fn scan<S: ScanSessions>(store: &S, limit: usize) -> BTreeMap<RecordId, Record> {
    let mut found = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page = store.scan(cursor.as_ref(), limit).await.expect("scan");
        found.extend(page.sessions.into_iter().map(|s| (s.id, s.record)));
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}
