//! Stores by their addresses.

use std::error::Error;

use tower_keep::{
    StoreErrorKind,
    stores::{OpenStore, open},
    testing::conformance_tests,
};
use tower_keep_servers::{Cluster, Kind, Sentinels, Server};

use crate::{
    patient::Patient,
    support::{new_table, patiently, temporary_folder},
};

/// A table or a prefix of its own, on a server that the tests share.
async fn at(server: &str) -> Patient<OpenStore> {
    let store = open(&format!("{server}#{}", new_table())).await.unwrap();
    patiently(|| store.migrate()).await.unwrap();
    Patient(store)
}

macro_rules! each_server {
    ($($name:ident: $server:expr,)*) => {
        $(mod $name {
            use super::*;

            conformance_tests!(at(&$server.url()).await);
        })*
    };
}

each_server! {
    postgres: Server::shared(Kind::Postgres).await,
    mariadb: Server::shared(Kind::MariaDb).await,
    redis_cluster: Cluster::shared().await,
    redis_sentinel: Sentinels::shared().await,
    redis: Server::shared(Kind::Redis).await,
    memcached: Server::shared(Kind::Memcached).await,
}

mod memory {
    use super::*;

    conformance_tests!(open("memory:").await.unwrap());
}

mod sqlite_in_memory {
    use super::*;

    conformance_tests!({
        let store = open("sqlite::memory:").await.unwrap();
        patiently(|| store.migrate()).await.unwrap();
        Patient(store)
    });
}

#[tokio::test]
async fn what_a_store_can_do_is_said() {
    let sizes = |store: &OpenStore| {
        (
            store.kind(),
            store.schema().is_some(),
            store.as_user_sessions().is_some(),
            store.as_delete_expired().is_some(),
            store.as_scan_sessions().is_some(),
        )
    };
    for (url, expected) in [
        (
            "postgres://localhost/app",
            ("postgres", true, true, true, true),
        ),
        (
            "postgresql://localhost",
            ("postgres", true, true, true, true),
        ),
        ("mysql://localhost/app", ("mysql", true, true, true, true)),
        ("mariadb://localhost/app", ("mysql", true, true, true, true)),
        ("sqlite::memory:", ("sqlite", true, true, true, true)),
        ("redis://localhost", ("redis", false, true, false, true)),
        ("valkey://localhost", ("redis", false, true, false, true)),
        ("unix:///run/redis", ("redis", false, true, false, true)),
        ("redis+cluster://a,b", ("redis", false, true, false, true)),
        (
            "redis+sentinel://a,b/shop",
            ("redis", false, true, false, true),
        ),
        ("memcached://a,b", ("memcached", false, false, false, false)),
        ("memory:", ("memory", false, true, true, true)),
    ] {
        let store = open(url).await.unwrap();
        assert_eq!(sizes(&store), expected, "{url}");
        if expected.0 != "sqlite" {
            continue;
        }
        patiently(|| store.migrate()).await.unwrap();
    }
}

#[tokio::test]
async fn the_name_behind_the_address_is_that_of_the_table() {
    let store = open("postgres://localhost/app#auth.sessions")
        .await
        .unwrap();
    assert!(store.schema().unwrap().contains(r#""auth"."sessions""#));
    let store = open("sqlite::memory:").await.unwrap();
    assert!(store.schema().unwrap().contains("tower_keep_sessions"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_of_sqlite_and_a_folder_are_made_and_private() {
    use std::os::unix::fs::PermissionsExt;

    let folder = temporary_folder();
    let names = ["a b.sqlite", "c:memory:", "sessions"];
    let [file, other, sessions] = names.map(|name| folder.path().join(name));
    for url in [
        format!("sqlite://{}", file.display()),
        format!("sqlite:{}?mode=rw", file.display()),
        format!("sqlite:{}?mode=rwc", other.display()),
        format!("file://{}", sessions.display()),
    ] {
        let store = open(&url).await.unwrap();
        patiently(|| store.migrate()).await.unwrap();
        let scan = store.as_scan_sessions().unwrap();
        assert_eq!(
            patiently(|| scan.scan(None, 10)).await.unwrap().sessions,
            []
        );
    }
    for path in [file, other, sessions] {
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}

#[tokio::test]
async fn an_address_that_can_not_be_understood_is_an_error_that_says_why_and_not_where() {
    const SECRET: &str = "hunter2";
    for (url, store, reason) in [
        ("", "stores", "the address begins with none of"),
        ("hunter2", "stores", "the address begins with none of"),
        ("hunter2://a", "stores", "the address begins with none of"),
        (
            "http://a:hunter2@b",
            "stores",
            "the address begins with none of",
        ),
        ("postgres://a:hunter2@b/app#a-b", "postgres", "a table"),
        ("postgres://a:hunter2@b:port/app", "postgres", "port"),
        ("postgres://a:hunt#er2@b/app", "postgres", "%23"),
        ("mysql://a:hunter2@b", "mysql", "names no database"),
        ("mysql://a:hunter2@b/", "mysql", "names no database"),
        ("sqlite:", "sqlite", "names no file"),
        ("sqlite://", "sqlite", "names no file"),
        ("sqlite:hunter2?mode=none", "sqlite", "mode"),
        ("sqlite:hunter2?vfs=hunter2", "sqlite", "may follow"),
        ("sqlite:hunter2?mode=memory", "sqlite", "may follow"),
        ("sqlite:file:hunter2", "sqlite", "names no file"),
        ("sqlite:%3Amemory%3A", "sqlite", "names no file"),
        ("postgres://u:12#hunter2@db/app#t", "postgres", "%23"),
        ("redis://u:12#hunter2@db#t", "redis", "%23"),
        ("sqlite:/nowhere/hunter2", "sqlite", "No such file"),
        ("redis://a:hunter2@b:port", "redis", ""),
        ("redis://:hunt#er2@b", "redis", "%23"),
        ("redis+cluster://a:hunter2@", "redis", "a host is missing"),
        ("redis+other://a:hunter2@b", "redis", "none of redis://"),
        ("redis://b#", "redis", "is no name"),
        (
            "memcached://a:hunter2@b",
            "memcached",
            "hosts and ports alone",
        ),
        ("memcached://b#a b", "memcached", "is no name"),
        ("file:hunter2", "file", "names no folder"),
        ("file://", "file", "names no folder"),
        ("file:///nowhere/hunter2", "file", "making the folder"),
        ("memory:hunter2", "memory", "nothing may follow"),
    ] {
        let error = open(url).await.unwrap_err();
        let cause = error.source().unwrap().to_string();
        assert_eq!(error.store(), store, "{url}");
        assert!(cause.contains(reason), "{url}: {cause}");
        let shown = format!("{error} {error:?} {cause}");
        for part in [SECRET, "hunt#er2", "er2"] {
            assert!(!shown.contains(part), "{url}: {shown}");
        }
        let is_there = url.contains("/nowhere/");
        assert_eq!(
            error.kind() == StoreErrorKind::Unavailable,
            is_there,
            "{url}"
        );
    }
}
