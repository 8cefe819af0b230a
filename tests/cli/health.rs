//! `doctor`.

use expect_test::expect;
use tower_keep_servers::{Cluster, Kind, Server};

use super::{place::Place, program::tower_keep, sessions::three};

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
    let is_redis = kind.starts_with("redis");
    for (check, is_made) in [
        ("clock", is_redis || matches!(kind, "postgres" | "mysql")),
        ("memory", is_redis),
        ("expiry", is_redis),
    ] {
        assert_eq!(
            result(check).as_deref(),
            is_made.then_some("ok"),
            "{check}: {report}"
        );
    }
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
        ok    expiry      the keys that were looked at all have a time to live
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
        ok  expiry      the keys that were looked at all have a time to live
        ok  clock       the server's clock goes with this one

        exit code 0"#]]
    .assert_eq(&ran.to_string());
}

#[tokio::test]
async fn doctor_tells_of_sessions_that_stay_for_ever() {
    let place = Place::new("redis").await;
    place.put(&three()).await;
    let server = Server::shared(Kind::Redis).await;
    let (_, prefix) = place.url.split_once('#').unwrap();
    let key = format!("{prefix}:session:not-of-this-program");
    let set = server.redis_command(&["SET", &key, "x"]).await;
    assert_eq!(set.unwrap(), "OK");
    let ran = tower_keep(&format!("doctor --json --store {}", place.url)).await;
    let report = ran.json();
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["check"] == "expiry");
    let found = found.unwrap();
    assert_eq!(found["result"], "warn", "{report}");
    let text = found["text"].as_str().unwrap();
    assert!(text.contains(" 1 have no time to live"), "{text}");
}

#[tokio::test]
async fn doctor_says_which_servers_of_a_cluster_are_to_be_mended() {
    let cluster = Cluster::start().await;
    let bad = &cluster.servers()[1];
    let words = ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"];
    assert_eq!(bad.redis_command(&words).await.unwrap(), "OK");
    let ran = tower_keep(&format!("doctor --json --store {}", cluster.url())).await;
    let report = ran.json();
    let checks = report["checks"].as_array().unwrap();
    let memory: Vec<&str> = checks
        .iter()
        .filter(|check| check["check"] == "memory" && check["result"] == "warn")
        .map(|check| check["text"].as_str().unwrap())
        .collect();
    let name = format!("127.0.0.1:{}: ", bad.port());
    assert!(
        matches!(*memory, [one] if one.starts_with(&name)),
        "{report}"
    );
    let clocks = checks.iter().filter(|check| check["check"] == "clock");
    assert_eq!(clocks.count(), 1, "{report}");
}
