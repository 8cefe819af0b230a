//! `doctor`.

use expect_test::expect;
use tower_keep_servers::{Kind, Server};

use super::{place::Place, program::tower_keep};

on_each_store!(doctor_finds_a_good_store_good_and_leaves_nothing_there);

async fn doctor_finds_a_good_store_good_and_leaves_nothing_there(kind: &str) {
    let place = Place::new(kind).await;
    let doctor = format!("doctor --json --store {}", place.url);
    let report = tower_keep(&doctor).await.json();
    assert_eq!(report["store"], place.store.kind());
    let checks = report["checks"].as_array().unwrap();
    let result = |name: &str| {
        let check = checks.iter().find(|check| check["check"] == name);
        check.map(|check| check["result"].as_str().unwrap().to_owned())
    };
    assert_eq!(result("answer").as_deref(), Some("ok"), "{report}");
    assert_eq!(result("round trip").as_deref(), Some("ok"), "{report}");
    let has_clock = matches!(kind, "postgres" | "mysql" | "redis");
    assert_eq!(
        result("clock").as_deref(),
        has_clock.then_some("ok"),
        "{report}"
    );
    assert_eq!(place.all().await.len(), 0);
}

#[tokio::test]
async fn doctor_says_what_to_mend() {
    let no_table = Place::without_table("sqlite").await;
    let ran = tower_keep(&format!("doctor --store {}", no_table.url)).await;
    expect![[r#"
              check   what was found
        FAIL  answer  sqlite: the operation failed: no such table: tower_keep_sessions (code 1); run `tower-keep migrate`

        exit code 1"#]].assert_eq(&ran.to_string());
    let ran = tower_keep("doctor --store redis://:hunter2@127.0.0.1:1").await;
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stdout.contains("unavailable"), "{ran}");
    assert!(!ran.to_string().contains("hunter2"), "{ran}");
    let memcached = Place::new("memcached").await;
    let ran = tower_keep(&format!("doctor --store {}", memcached.url)).await;
    expect![[r#"
              check       what was found
        ok    answer      the store answers
        ok    round trip  a session can be made, found, changed and ended
        warn  durability  memcached ends sessions when it restarts, or needs the room: keep those elsewhere that matter

        exit code 0"#]].assert_eq(&ran.to_string());
}

#[tokio::test]
async fn doctor_warns_of_a_redis_that_is_set_up_as_a_cache() {
    let cache = Server::start_with(Kind::Redis, &["--maxmemory-policy", "volatile-lru"]).await;
    let ran = tower_keep(&format!("doctor --store {}", cache.url())).await;
    expect![[r#"
              check       what was found
        ok    answer      the store answers
        ok    round trip  a session can be made, found, changed and ended
        warn  memory      with maxmemory-policy volatile-lru a full server ends sessions, and forgets which are a user's: set noeviction, and room enough
        warn  durability  a crash loses what has changed since the last snapshot, or all: set appendonly yes
        ok    clock       the server's clock goes with this one

        exit code 0"#]].assert_eq(&ran.to_string());
    // It has to be there, not to be on a disk.
    let durable = ["--appendonly", "yes", "--appendfsync", "no"];
    let store = Server::start_with(Kind::Redis, &durable).await;
    let ran = tower_keep(&format!("doctor --store {}", store.url())).await;
    expect![[r#"
            check       what was found
        ok  answer      the store answers
        ok  round trip  a session can be made, found, changed and ended
        ok  memory      sessions are not dropped when it is full
        ok  durability  there is an append-only file
        ok  clock       the server's clock goes with this one

        exit code 0"#]]
    .assert_eq(&ran.to_string());
}
