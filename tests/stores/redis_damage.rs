//! Keys that somebody else has written to.

use http::Method;
use tower_keep::{
    Created, Record, RecordId, RedisStore, ScanSessions, SessionStore, StoreError, StoreErrorKind,
    UserId, UserSessions,
};

use crate::{
    redis_places::{Place, Which, id_of, on_each_topology, order},
    sql_places::{HOUR, new_id, next, now, record},
    support::{Browser, app, eventually, layer_over},
};

on_each_topology!(
    a_damaged_value_is_an_error_of_its_kind_and_is_not_overwritten,
    a_record_cut_short_at_any_byte_is_an_error_or_has_a_shorter_payload,
    a_note_cut_short_at_any_byte_is_no_session_and_no_panic,
    a_key_of_another_type_is_an_error_and_is_not_overwritten,
    damaged_values_are_left_out_of_lists_that_go_on_behind_them,
    a_key_of_another_type_is_left_out_of_lists,
    a_damaged_session_is_ended_like_any_other,
    a_session_whose_key_is_of_another_type_is_ended_like_any_other,
    what_was_moved_from_a_damaged_key_is_in_nobodys_way,
    a_damaged_record_is_anonymous_and_not_overwritten,
    a_record_of_a_newer_format_is_refused_and_not_overwritten,
    foreign_entries_in_the_index_of_a_user_are_left_out,
    keys_that_only_look_like_sessions_are_left_out_of_a_scan,
    an_index_of_another_type_is_an_error_and_ends_no_session,
);

/// Ways to damage a record, and the kind that a load answers.
fn damages(record: &Record) -> Vec<(&'static str, Vec<u8>, StoreErrorKind)> {
    let whole = record.to_bytes();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let corrupt = StoreErrorKind::Corrupt;
    let unsupported = StoreErrorKind::Unsupported;
    vec![
        ("newer format", with(0, 2), unsupported),
        ("text", b"not a session at all".to_vec(), unsupported),
        ("no format", with(0, 0), unsupported),
        ("user longer than all", with(49, 255), corrupt),
        ("user with a control character", with(50, b'\n'), corrupt),
        ("header cut short", whole[..49].to_vec(), corrupt),
        ("one byte", vec![1], corrupt),
        ("a zero", vec![0], corrupt),
        ("another note", b"\0?whatever".to_vec(), unsupported),
        ("a note cut short", b"\0m short".to_vec(), corrupt),
        ("a pending note cut short", b"\0p short".to_vec(), corrupt),
    ]
}

fn ours() -> Record {
    record(now(), HOUR, Some("ada"))
}

async fn create(store: &RedisStore, record: &Record) -> RecordId {
    let id = new_id();
    assert_eq!(store.create(&id, record).await.unwrap(), Created::Done);
    id
}

/// What all operations but `delete` answer.
async fn errors_of_all(store: &RedisStore, id: &RecordId, record: &Record) -> Vec<StoreError> {
    let other = next(record);
    // A version that nobody can have read there.
    let version = next(&other).version;
    let mut errors = Vec::new();
    errors.extend(store.load(id).await.err());
    errors.extend(store.create(id, &next(&other)).await.err());
    errors.extend(store.update(id, &other, version).await.err());
    errors.extend(store.rotate(id, &new_id(), &other, version).await.err());
    let later = record.expires_at.saturating_add(HOUR);
    errors.extend(store.touch(id, later, version).await.err());
    // Whatever is there, it is not free.
    let source = create(store, record).await;
    let rotated = store.rotate(&source, id, &other, record.version).await;
    errors.extend(rotated.err());
    errors
}

async fn a_damaged_value_is_an_error_of_its_kind_and_is_not_overwritten(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    for (what, bytes, kind) in damages(&ours()) {
        let ours = ours();
        let id = create(&store, &ours).await;
        let key = place.session_key(&id);
        place.set(&key, &bytes).await;
        let error = store.load(&id).await.expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
        // What is a note of a move is the place of no session, however it is damaged.
        let is_moved = bytes.starts_with(b"\0m");
        if !is_moved {
            let errors = errors_of_all(&store, &id, &ours).await;
            for error in errors {
                assert_eq!(error.kind(), kind, "{what}: {error:?}");
                let shown = format!("{error:?}");
                assert!(!shown.contains("ada"), "{shown}");
            }
            assert_eq!(place.get(&key).await.unwrap(), bytes, "{what}");
        }
    }
}

async fn a_record_cut_short_at_any_byte_is_an_error_or_has_a_shorter_payload(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ours = ours();
    let whole = ours.to_bytes();
    let id = create(&store, &ours).await;
    let key = place.session_key(&id);
    let head = whole.len() - ours.payload.len();
    for length in 0..whole.len() {
        let bytes = &whole[..length];
        place.set(&key, bytes).await;
        match store.load(&id).await {
            Err(error) => {
                assert!((1..head).contains(&length), "{length}");
                assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{length}");
            }
            // No session is empty.
            Ok(None) => assert_eq!(length, 0),
            Ok(Some(record)) => {
                assert!(length >= head, "{length}");
                assert_eq!(
                    record.payload.as_bytes(),
                    &ours.payload.as_bytes()[..length - head]
                );
            }
        }
        if length > 0 {
            errors_of_all(&store, &id, &ours).await;
            assert_eq!(place.get(&key).await.unwrap(), bytes, "{length}");
        }
    }
}

async fn a_note_cut_short_at_any_byte_is_no_session_and_no_panic(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ours = ours();
    let (old, new) = (new_id(), new_id());
    let version = &ours.to_bytes()[1..25];
    let moved = [b"\0m", version, &new.as_bytes()[..]].concat();
    let pending = [b"\0p", &old.as_bytes()[..], &ours.to_bytes()].concat();
    let ended = b"\0e".to_vec();
    let id = new_id();
    let key = place.session_key(&id);
    for note in [moved, pending, ended] {
        for length in 1..=note.len() {
            place.set(&key, &note[..length]).await;
            let place_of = format!("{:?} of {length}", &note[..2]);
            if let Ok(found) = store.load(&id).await {
                assert_eq!(found, None, "{place_of}");
            }
            errors_of_all(&store, &id, &ours).await;
            if let Ok(Some(record)) = store.load(&id).await {
                // What is a note may be written over, but only by a whole session.
                assert!(record.user == ours.user, "{place_of}");
            }
            // It is put out of the way.
            place.set(&key, &note[..length]).await;
            if let Ok(was_live) = store.delete(&id).await {
                assert!(!was_live || length == 1, "{place_of}");
            }
        }
    }
}

async fn make_list(place: &Place, key: &str) {
    place.raw("DEL", key, &[]).await;
    place.raw("RPUSH", key, &[b"a list"]).await;
}

async fn a_key_of_another_type_is_an_error_and_is_not_overwritten(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ours = ours();
    let id = create(&store, &ours).await;
    let key = place.session_key(&id);
    make_list(&place, &key).await;
    let before = place.dump(&key).await;
    let errors = errors_of_all(&store, &id, &ours).await;
    assert_eq!(errors.len(), 6, "{errors:?}");
    let encoded = key.rsplit(':').next().unwrap();
    for error in errors {
        let typed = [StoreErrorKind::Corrupt, StoreErrorKind::Other];
        assert!(typed.contains(&error.kind()), "{error:?}");
        let shown = format!("{error:?}");
        assert!(
            !shown.contains(encoded) && !shown.contains("ada"),
            "{shown}"
        );
    }
    assert_eq!(place.dump(&key).await, before);
}

async fn ids_by_scan(store: &RedisStore) -> Vec<RecordId> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = store.scan(after.as_ref(), 1000).await.unwrap();
        ids.extend(page.sessions.iter().map(|session| session.id));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    ids.sort();
    ids
}

async fn ids_by_user(store: &RedisStore, user: &UserId) -> Vec<RecordId> {
    let sessions = store.sessions_of(user).await.unwrap();
    let mut ids: Vec<_> = sessions.into_iter().map(|session| session.id).collect();
    ids.sort();
    ids
}

async fn damaged_values_are_left_out_of_lists_that_go_on_behind_them(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ours = ours();
    let user = ours.user.clone().unwrap();
    let mut whole = Vec::new();
    for (what, bytes, _) in damages(&ours) {
        let id = create(&store, &ours).await;
        place.set(&place.session_key(&id), &bytes).await;
        whole.push(create(&store, &ours).await);
        whole.sort();
        assert_eq!(ids_by_scan(&store).await, whole, "{what}");
        assert_eq!(ids_by_user(&store, &user).await, whole, "{what}");
    }
}

async fn a_key_of_another_type_is_left_out_of_lists(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ours = ours();
    let id = create(&store, &ours).await;
    let whole = [create(&store, &ours).await];
    make_list(&place, &place.session_key(&id)).await;
    assert_eq!(ids_by_user(&store, &ours.user.unwrap()).await, whole);
    assert_eq!(ids_by_scan(&store).await, whole);
}

async fn a_damaged_session_is_ended_like_any_other(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ours = ours();
    let user = ours.user.clone().unwrap();
    for (what, bytes, _) in damages(&ours) {
        if bytes[0] == 0 && bytes.len() > 1 && bytes[1] != b'?' {
            // A note; there is no session.
            continue;
        }
        let id = create(&store, &ours).await;
        place.set(&place.session_key(&id), &bytes).await;
        assert!(store.delete(&id).await.unwrap(), "{what}");
        assert_eq!(store.load(&id).await.unwrap(), None, "{what}");

        let id = create(&store, &ours).await;
        place.set(&place.session_key(&id), &bytes).await;
        store.delete_all_of(&user, None).await.expect(what);
        assert_eq!(store.load(&id).await.unwrap(), None, "{what}");
    }
}

async fn a_session_whose_key_is_of_another_type_is_ended_like_any_other(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ours = ours();
    let user = ours.user.clone().unwrap();
    let id = create(&store, &ours).await;
    make_list(&place, &place.session_key(&id)).await;
    assert!(store.delete(&id).await.unwrap());
    assert_eq!(store.load(&id).await.unwrap(), None);

    // More than are ended at once.
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(create(&store, &ours).await);
    }
    for id in ids.iter().step_by(10) {
        make_list(&place, &place.session_key(id)).await;
    }
    store.delete_all_of(&user, None).await.unwrap();
    for id in &ids {
        assert_eq!(store.load(id).await.unwrap(), None);
    }
    assert_eq!(ids_by_user(&store, &user).await, []);
}

/// A rotation stands still, and the key that it came from is damaged: nobody can tell whether it was done.
async fn what_was_moved_from_a_damaged_key_is_in_nobodys_way(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ours = ours();
    let user = ours.user.clone().unwrap();
    let (from, to) = (new_id(), create(&store, &ours).await);
    let pending = [b"\0p", &from.as_bytes()[..], &ours.to_bytes()].concat();
    place.set(&place.session_key(&to), &pending).await;
    place.set(&place.session_key(&from), b"\0m short").await;
    let whole = [create(&store, &ours).await];
    let error = store.load(&to).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error:?}");
    assert_eq!(ids_by_user(&store, &user).await, whole);
    assert_eq!(ids_by_scan(&store).await, whole);
    assert_eq!(store.delete_all_of(&user, None).await.unwrap(), whole);
    assert_eq!(store.load(&to).await.unwrap(), None);
}

async fn a_damaged_record_is_anonymous_and_not_overwritten(which: Which) {
    let place = Place::new(which).await;
    let mut browser = Browser::new(&app(layer_over(place.store())));
    browser.post("/put/cart/full").await.assert_ok();
    let key = place.session_key(&id_of(&browser));
    let mut damaged_bytes = place.get(&key).await.unwrap();
    damaged_bytes.truncate(40);
    place.set(&key, &damaged_bytes).await;
    let damaged = browser.clone();
    for (method, path, body) in [
        (Method::GET, "/dump", "{}"),
        (Method::POST, "/cycle", ""),
        (Method::POST, "/remove/cart", ""),
        (Method::POST, "/clear", ""),
    ] {
        let answer = damaged.clone().send(method, path).await.assert_ok();
        assert_eq!(answer.body, body, "{path}");
        assert_eq!(place.keys().await, [&*key], "{path}");
        assert_eq!(place.get(&key).await.unwrap(), damaged_bytes, "{path}");
    }
    browser.post("/put/new/data").await.assert_ok().the_cookie();
    assert_ne!(browser.id(), damaged.id());
    assert_eq!(place.get(&key).await.unwrap(), damaged_bytes);
    assert_eq!(place.keys().await.len(), 2);
    // The first one can still be ended.
    damaged.clone().post("/logout").await.assert_ok();
    assert_ne!(place.get(&key).await, Some(damaged_bytes));
}

async fn a_record_of_a_newer_format_is_refused_and_not_overwritten(which: Which) {
    let place = Place::new(which).await;
    let mut browser = Browser::new(&app(layer_over(place.store())));
    browser.post("/put/cart/full").await.assert_ok();
    let key = place.session_key(&id_of(&browser));
    let mut newer = place.get(&key).await.unwrap();
    newer[0] = 2;
    place.set(&key, &newer).await;
    for path in ["/cycle", "/put/cart/empty", "/remove/cart", "/login/ada"] {
        let answer = browser.clone().post(path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.set_cookies(), [""; 0], "{path}");
        assert_eq!(place.keys().await, [&*key], "{path}");
        assert_eq!(place.get(&key).await.unwrap(), newer, "{path}");
    }
}

async fn foreign_entries_in_the_index_of_a_user_are_left_out(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ours = ours();
    let user = ours.user.clone().unwrap();
    let whole = [create(&store, &ours).await];
    let index = place.user_key(&user);
    let score = ours.absolute_deadline.as_millis().to_string();
    for foreign in [
        b"".as_slice(),
        b"short",
        &[7; RecordId::LEN - 1],
        &[7; RecordId::LEN + 1],
        &[7; RecordId::LEN],
    ] {
        place
            .raw("ZADD", &index, &[score.as_bytes(), foreign])
            .await;
        let length = foreign.len();
        let found = store.sessions_of(&user).await;
        let found = found.unwrap_or_else(|error| panic!("of {length}: {error:?}"));
        assert_eq!(found.len(), 1, "of {length}");
        assert_eq!(found[0].id, whole[0], "of {length}");
    }
    // The session of another user, even if the index says otherwise.
    let bob = record(now(), HOUR, Some("bob"));
    let his = create(&store, &bob).await;
    let entry = [score.as_bytes(), his.as_bytes()];
    place.raw("ZADD", &index, &entry).await;
    assert_eq!(ids_by_user(&store, &user).await, whole);
    assert_eq!(store.delete_all_of(&user, None).await.unwrap().len(), 1);
    assert!(store.load(&his).await.unwrap().is_some());
}

async fn keys_that_only_look_like_sessions_are_left_out_of_a_scan(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ours = ours();
    let whole = [create(&store, &ours).await];
    for name in ["", "short", "not-base64!", &"A".repeat(44)] {
        let key = format!("{}:session:{name}", place.prefix);
        place.set(&key, &ours.to_bytes()).await;
    }
    assert_eq!(ids_by_scan(&store).await, whole);
}

async fn an_index_of_another_type_is_an_error_and_ends_no_session(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ours = ours();
    let user = ours.user.clone().unwrap();
    let id = create(&store, &ours).await;
    let index = place.user_key(&user);
    place.set(&index, b"a string").await;
    let new = new_id();
    let newer = next(&ours);
    let errors = [
        store.sessions_of(&user).await.unwrap_err(),
        store.delete_all_of(&user, None).await.unwrap_err(),
        store.create(&new_id(), &next(&ours)).await.unwrap_err(),
        store
            .rotate(&id, &new, &newer, ours.version)
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error:?}");
        assert!(!format!("{error:?}").contains("ada"), "{error:?}");
    }
    let old = store.load(&id).await.unwrap();
    let new = store.load(&new).await.unwrap();
    assert_eq!(
        (old.is_some(), new.is_some()),
        (true, false),
        "the old id lives, which the client has"
    );
    assert_eq!(place.get(&index).await.unwrap(), b"a string");
}

#[tokio::test]
async fn an_index_is_cleared_of_what_ended_when_it_grows() {
    let place = Place::new(Which::Single).await;
    let store = place.store();
    let ours = ours();
    for _ in 0..200 {
        let id = create(&store, &next(&ours)).await;
        assert!(store.delete(&id).await.unwrap());
    }
    let index = place.user_key(ours.user.as_ref().unwrap());
    let server = &place.primaries()[0];
    eventually("a short index", || async {
        let entries = order(server, &["ZCARD", &index]).await;
        (entries.parse::<u32>().unwrap() < 130).then_some(())
    })
    .await;
}
