//! Rows that somebody else has written to.

use http::Method;
use tower_keep::{
    Created, Record, RecordId, SessionId, SessionLayer, StoreErrorKind, Timestamp, UserId, Version,
};

use crate::{
    sql_places::{
        HOUR, Place, Sessions, Which, create, new_id, new_token, now, on_each_database, record,
    },
    support::{Browser, PATIENCE, app},
};

on_each_database!(
    a_row_damaged_in_any_column_is_an_error_that_says_which,
    a_damaged_row_is_left_out_of_lists_that_go_on_behind_it,
    a_damaged_row_is_ended_like_any_other,
    a_damaged_row_is_anonymous_and_not_overwritten,
    numbers_of_any_size_come_back,
);

/// Ways to damage a row, as assignments, and the column that the error names. `strict` columns take
/// no value of another length, so the first statement makes them wider.
fn damages(place: &Place) -> Vec<(&'static str, Option<String>, String)> {
    let alter = |column: &str, any_length: &str| {
        let table = &place.table;
        match place.which {
            Which::MySql => Some(format!("ALTER TABLE {table} MODIFY {column} {any_length}")),
            Which::Postgres => Some(format!("ALTER TABLE {table} ALTER {column} DROP NOT NULL")),
            Which::Sqlite => None,
        }
    };
    let bytes = |bytes: &[u8]| place.bytes(bytes);
    let long_user = "u".repeat(256);
    let mut damages = vec![
        (
            "token",
            alter("token", "VARBINARY(64)"),
            format!("token = {}", bytes(&[1; 15])),
        ),
        ("token", None, format!("token = {}", bytes(&[1; 17]))),
        ("token", None, format!("token = {}", bytes(&[]))),
        (
            "user_id",
            alter("user_id", "VARBINARY(999)").filter(|_| place.which == Which::MySql),
            format!("user_id = '{long_user}'"),
        ),
        ("user_id", None, "user_id = ''".to_owned()),
        ("user_id", None, "user_id = 'a\nb'".to_owned()),
    ];
    match place.which {
        Which::Sqlite => {
            // Any column takes any type; only what is no key is bound to be something.
            damages.push(("token", None, "token = 'a text'".to_owned()));
        }
        Which::MySql => {
            damages.push(("value", None, "user_id = x'c328'".to_owned()));
            damages.push(("value", None, "token = NULL".to_owned()));
            let null = alter("revision", "BIGINT");
            damages.push(("value", null, "revision = NULL".to_owned()));
        }
        Which::Postgres => {
            damages.push(("value", None, "token = NULL".to_owned()));
            let null = alter("payload", "");
            damages.push(("value", null, "payload = NULL".to_owned()));
        }
    }
    damages
}

/// Alters the table, if that is needed, and damages the row of that id.
async fn damage(place: &Place, id: &RecordId, alter: Option<&str>, assignment: &str) {
    if let Some(alter) = alter {
        place.pool.run(alter).await;
    }
    let (table, id) = (&place.table, place.bytes(id.as_bytes()));
    place
        .pool
        .run(&format!("UPDATE {table} SET {assignment} WHERE id = {id}"))
        .await;
}

async fn count(place: &Place) -> String {
    let query = format!("SELECT count(*) FROM {}", place.table);
    place.pool.column(&query).await.remove(0)
}

fn ours() -> Record {
    record(now(), HOUR, Some("ada"))
}

async fn ids_by_scan(store: &dyn Sessions, limit: usize) -> Vec<RecordId> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = store.scan(after.as_ref(), limit).await.unwrap();
        ids.extend(page.sessions.iter().map(|session| session.id));
        match page.next {
            Some(next) => after = Some(next),
            None => return ids,
        }
    }
}

async fn a_row_damaged_in_any_column_is_an_error_that_says_which(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    for (column, alter, assignment) in damages(&place) {
        let id = create(&*store, &ours()).await;
        damage(&place, &id, alter.as_deref(), &assignment).await;
        let error = store.load(&id).await.expect_err(&assignment);
        assert_eq!(
            error.kind(),
            StoreErrorKind::Corrupt,
            "{assignment}: {error:?}"
        );
        let shown = format!("{error:?}");
        assert!(
            shown.contains(&format!("`{column}`")),
            "{assignment}: {shown}"
        );
        assert!(!shown.contains("ada") && !shown.contains("uuu"), "{shown}");
    }
}

async fn a_damaged_row_is_left_out_of_lists_that_go_on_behind_it(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ada = UserId::new("ada").unwrap();
    let mut whole = Vec::new();
    for (_, alter, assignment) in damages(&place) {
        let id = create(&*store, &ours()).await;
        damage(&place, &id, alter.as_deref(), &assignment).await;
        whole.push(create(&*store, &ours()).await);
    }
    whole.sort_by_key(|id| *id.as_bytes());
    for limit in [1, 2, 3, 1000] {
        assert_eq!(ids_by_scan(&*store, limit).await, whole, "pages of {limit}");
    }
    let sessions = store.sessions_of(&ada).await.unwrap();
    let mut found: Vec<_> = sessions.into_iter().map(|session| session.id).collect();
    found.sort_by_key(|id| *id.as_bytes());
    assert_eq!(found, whole);

    // An id of another length is nobody's, and a cursor of another length is not taken: the row
    // must not end the scan.
    if which != Which::MySql {
        let id = create(&*store, &ours()).await;
        let short = format!("id = {}", place.bytes(&id.as_bytes()[..31]));
        damage(&place, &id, None, &short).await;
        assert_eq!(store.load(&id).await.unwrap(), None);
        for limit in [1, 2, 3, 1000] {
            assert_eq!(ids_by_scan(&*store, limit).await, whole, "pages of {limit}");
        }
        assert_eq!(store.sessions_of(&ada).await.unwrap().len(), whole.len());
    }
}

async fn a_damaged_row_is_ended_like_any_other(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let ada = UserId::new("ada").unwrap();
    let damages: Vec<_> = damages(&place);
    for (_, alter, assignment) in &damages {
        let id = create(&*store, &ours()).await;
        damage(&place, &id, alter.as_deref(), assignment).await;
        assert!(store.delete(&id).await.unwrap(), "{assignment}");
        assert_eq!(store.load(&id).await.unwrap(), None);

        let expired = create(&*store, &ours()).await;
        damage(&place, &expired, None, assignment).await;
        damage(&place, &expired, None, "expires_at = 1").await;
        assert_eq!(store.delete_expired(10).await.unwrap(), 1, "{assignment}");
    }
    assert_eq!(count(&place).await, "0");
    let by_user = damages
        .iter()
        .filter(|(_, _, assignment)| !assignment.contains("user_id"));
    let mut put = Vec::new();
    for (_, _, assignment) in by_user {
        let id = create(&*store, &ours()).await;
        damage(&place, &id, None, assignment).await;
        put.push(id);
    }
    let mut ended = store.delete_all_of(&ada, None).await.unwrap();
    put.sort_by_key(|id| *id.as_bytes());
    ended.sort_by_key(|id| *id.as_bytes());
    assert_eq!(ended, put);
    assert_eq!(count(&place).await, "0");
}

async fn a_damaged_row_is_anonymous_and_not_overwritten(which: Which) {
    let place = Place::new(which).await;
    let layer = SessionLayer::new(place.store()).with_store_timeout(PATIENCE);
    let mut browser = Browser::new(&app(layer));
    browser.post("/put/cart/full").await.assert_ok();
    let id = SessionId::parse(browser.id().unwrap().as_bytes())
        .unwrap()
        .record_id();
    let token = format!("token = {}", place.bytes(&[7; 15]));
    let (_, alter, _) = damages(&place).remove(0);
    damage(&place, &id, alter.as_deref(), &token).await;
    let row = match which {
        Which::Postgres => "encode(token, 'hex'), encode(payload, 'hex')",
        Which::MySql | Which::Sqlite => "lower(hex(token)), hex(payload)",
    };
    let row = format!("SELECT {row} FROM {} ORDER BY 1", place.table);
    let before = place.pool.rows(&row).await;
    let damaged = browser.clone();
    for (method, path, body) in [
        (Method::GET, "/dump", "{}"),
        (Method::POST, "/cycle", ""),
        (Method::POST, "/remove/cart", ""),
        (Method::POST, "/clear", ""),
    ] {
        let answer = damaged.clone().send(method, path).await.assert_ok();
        assert_eq!(answer.body, body, "{path}");
        assert_eq!(place.pool.rows(&row).await, before, "{path}");
    }
    browser.post("/put/new/data").await.assert_ok().the_cookie();
    assert_ne!(browser.id(), damaged.id());
    let after = place.pool.rows(&row).await;
    assert_eq!(after.len(), 2);
    assert!(after.contains(&before[0]));
}

async fn numbers_of_any_size_come_back(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let last = Timestamp::from_millis(i64::MAX);
    for revision in [0, 1, i64::MAX as u64, 1 << 63, u64::MAX] {
        for created_at in [i64::MIN, -1, 0, i64::MAX] {
            let record = Record {
                version: Version {
                    revision,
                    token: new_token(),
                },
                created_at: Timestamp::from_millis(created_at),
                expires_at: last,
                absolute_deadline: Timestamp::from_millis(created_at),
                ..ours()
            };
            let id = new_id();
            assert_eq!(store.create(&id, &record).await.unwrap(), Created::Done);
            assert_eq!(store.load(&id).await.unwrap().as_ref(), Some(&record));
            let next = Record {
                version: Version {
                    revision: revision.wrapping_add(1),
                    token: new_token(),
                },
                ..record.clone()
            };
            let updated = store.update(&id, &next, record.version).await.unwrap();
            assert_eq!(updated, tower_keep::Updated::Done, "{revision}");
        }
    }
}
