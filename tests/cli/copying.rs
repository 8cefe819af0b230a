//! `copy`, from each store and to each store.

use expect_test::expect;
use serde_json::json;
use tower_keep::SessionStore;

use super::{
    patience::patiently,
    place::Place,
    program::tower_keep,
    sessions::{many, three},
};

on_each_store!(copy_brings_every_byte_there_and_elsewhere copy_move_leaves_nothing_behind);

async fn copy_brings_every_byte_there_and_elsewhere(kind: &str) {
    let sessions: Vec<_> = many(300).collect();
    let [start, there, end] = [
        Place::new("sqlite").await,
        Place::new(kind).await,
        Place::new("sqlite").await,
    ];
    start.put(&sessions).await;
    for (from, to) in [(&start, &there), (&there, &end)] {
        let copy = format!("copy --from {} --to {} --page 70", from.url, to.url);
        let looked = tower_keep(&format!("{copy} --dry-run --json")).await.json();
        assert_eq!(looked["created"], 300);
        assert_eq!(to.all().await.len(), 0);
        let copied = tower_keep(&format!("{copy} --verify --json")).await.json();
        assert_eq!(copied["created"], 300, "{copied}");
        assert_eq!(to.all().await, from.all().await);
        let again = tower_keep(&format!("{copy} --json")).await.json();
        assert_eq!(again["present"], 300, "{again}");
        assert_eq!(again["created"], 0, "{again}");
    }
    assert_eq!(end.all().await, start.all().await);
}

async fn copy_move_leaves_nothing_behind(kind: &str) {
    let sessions: Vec<_> = many(40).collect();
    let [from, to] = [Place::new("sqlite").await, Place::new(kind).await];
    from.put(&sessions).await;
    let before = from.all().await;
    let copy = format!(
        "copy --move --page 9 --json --from {} --to {}",
        from.url, to.url
    );
    let moved = tower_keep(&copy).await.json();
    assert_eq!(moved, json!({ "moved": 40, "failed": 0 }));
    assert_eq!(to.all().await, before);
    assert_eq!(from.all().await.len(), 0);
}

#[tokio::test]
async fn a_copy_tells_people_what_it_did() {
    let [from, to] = [Place::new("sqlite").await, Place::new("file").await];
    from.put(&three()).await;
    let copy = format!("copy --from {} --to {}", from.url, to.url);
    let copied = tower_keep(&copy).await;
    expect![[r#"
         created                      3
         updated                      0
         already there                0
         newer there, left alone      0
         expired meanwhile            0
         not taken                    0
         not the same when read back  0
    "#]]
    .assert_eq(&copied.stdout());
}

#[tokio::test]
async fn memcached_is_copied_to_and_not_from() {
    let [start, there] = [Place::new("sqlite").await, Place::new("memcached").await];
    let sessions: Vec<_> = many(50).collect();
    start.put(&sessions).await;
    let copy = format!("copy --from {} --to {}", start.url, there.url);
    let copied = tower_keep(&format!("{copy} --verify --json")).await.json();
    assert_eq!(copied["created"], 50, "{copied}");
    for session in sessions {
        let loaded = patiently(|| there.store.load(&session.id)).await.unwrap();
        assert_eq!(loaded, Some(session.record));
    }
    let back = format!("copy --from {} --to {}", there.url, start.url);
    let refused = tower_keep(&back).await;
    expect![[r#"
        tower-keep: memcached can not be read from one end to the other

        exit code 4"#]]
    .assert_eq(&refused.to_string());
}

#[tokio::test]
async fn what_the_destination_does_not_take_is_counted_and_named() {
    let [from, to] = [Place::new("sqlite").await, Place::new("memcached").await];
    let mut sessions = three();
    // More than the server takes.
    sessions[1].record.payload = vec![0; 2 << 20].into();
    from.put(&sessions).await;
    let copy = format!("copy --from {} --to {} --json", from.url, to.url);
    let copied = tower_keep(&copy).await;
    assert_eq!(copied.code, Some(1), "{copied}");
    let counts: serde_json::Value = serde_json::from_str(&copied.stdout).unwrap();
    assert_eq!([&counts["created"], &counts["failed"]], [2, 1], "{copied}");
    assert!(copied.stderr.contains(&sessions[1].id.to_hex()), "{copied}");
}
