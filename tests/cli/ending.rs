//! `revoke` and `delete-expired`.

use expect_test::expect;
use serde_json::json;
use tower_keep::Timestamp;

use super::{
    place::Place,
    program::tower_keep,
    sessions::{id, many, three},
};

on_each_store!(revoke_ends_one_session revoke_ends_the_sessions_of_a_user_but_one revoke_ends_all delete_expired_leaves_the_living);

async fn revoke_ends_one_session(kind: &str) {
    let place = Place::new(kind).await;
    place.put(&three()).await;
    let revoke = format!("revoke --store {} --json --id {}", place.url, id('1'));
    let looked = tower_keep(&format!("{revoke} --dry-run")).await;
    assert_eq!(looked.json(), json!({ "would_end": 1 }));
    assert_eq!(place.all().await.len(), 3);
    assert_eq!(tower_keep(&revoke).await.json(), json!({ "ended": 1 }));
    let again = tower_keep(&revoke).await;
    assert_eq!(again.code, Some(1), "{again}");
    assert_eq!(again.stdout, "{\"ended\":0}\n");
    let left: Vec<_> = place.all().await.into_keys().collect();
    assert_eq!(left, three().map(|session| session.id)[1..]);
}

async fn revoke_ends_the_sessions_of_a_user_but_one(kind: &str) {
    let place = Place::new(kind).await;
    place.put(&three()).await;
    let revoke = format!("revoke --store {} --user ada", place.url);
    let unconfirmed = tower_keep(&revoke).await;
    expect![[r#"
        tower-keep: End 2 sessions of the user ada? Say so with --yes: there is no terminal to ask on

        exit code 2"#]].assert_eq(&unconfirmed.to_string());
    let looked = tower_keep(&format!("{revoke} --dry-run")).await;
    assert_eq!(looked.stdout(), "would end: 2\n");
    assert_eq!(place.all().await.len(), 3);
    // One of somebody else, and none at all.
    for wrong in ['3', '9'] {
        for words in ["--yes", "--dry-run"] {
            let kept = tower_keep(&format!("{revoke} --keep {} {words}", id(wrong))).await;
            assert_eq!(kept.code, Some(2), "{kept}");
            assert_eq!(place.all().await.len(), 3);
        }
    }
    let done = tower_keep(&format!("{revoke} --keep {} --yes", id('2'))).await;
    assert_eq!(done.stdout(), "ended: 1\n");
    let left: Vec<_> = place.all().await.into_keys().collect();
    assert_eq!(left, three().map(|session| session.id)[1..]);
    let rest = tower_keep(&format!("{revoke} --yes")).await;
    assert_eq!(rest.stdout(), "ended: 1\n");
    let none = tower_keep(&format!("{revoke} --yes")).await;
    assert_eq!(none.code, Some(1), "{none}");
    let unconfirmed = tower_keep(&revoke).await;
    assert_eq!(unconfirmed.code, Some(2), "{unconfirmed}");
}

async fn revoke_ends_all(kind: &str) {
    let place = Place::new(kind).await;
    place.put(&many(30).collect::<Vec<_>>()).await;
    let revoke = format!("revoke --store {} --all", place.url);
    let unconfirmed = tower_keep(&revoke).await;
    assert_eq!(unconfirmed.code, Some(2), "{unconfirmed}");
    let looked = tower_keep(&format!("{revoke} --dry-run --json")).await;
    assert_eq!(looked.json(), json!({ "would_end": 30 }));
    assert_eq!(place.all().await.len(), 30);
    let done = tower_keep(&format!("{revoke} --yes --json")).await;
    assert_eq!(done.json(), json!({ "ended": 30 }));
    assert_eq!(place.all().await.len(), 0);
    let none = tower_keep(&format!("{revoke} --yes")).await;
    assert_eq!(none.stdout(), "ended: 0\n");
}

async fn delete_expired_leaves_the_living(kind: &str) {
    let place = Place::new(kind).await;
    place.put(&three()).await;
    let sweeps = place.store.as_delete_expired().is_some();
    if sweeps {
        let mut long_over: Vec<_> = many(25).collect();
        for session in &mut long_over {
            session.record.expires_at = Timestamp::from_millis(1);
        }
        place.put(&long_over).await;
    }
    let sweep = format!("delete-expired --store {} --batch 10", place.url);
    let first = tower_keep(&format!("{sweep} --json")).await.json();
    assert_eq!(first, json!({ "deleted": if sweeps { 25 } else { 0 } }));
    let second = tower_keep(&sweep).await.stdout();
    match sweeps {
        true => assert_eq!(second, "deleted: 0\n"),
        false => assert_eq!(second, "redis lets go of expired sessions by itself\n"),
    }
    assert_eq!(place.all().await.len(), 3);
}
