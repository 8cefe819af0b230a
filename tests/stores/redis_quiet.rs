//! Errors of servers that refuse the store, and what their texts tell (clause C12).

use std::{error::Error, time::Duration};

use tokio::time::timeout;
use tower_keep::{
    Created, Record, RecordId, RedisStore, SessionStore, StoreError, StoreErrorKind, UserSessions,
};
use tower_keep_servers::{Cluster, Kind, Sentinels, Server};

use crate::{
    redis_places::{order, patient, session_key},
    sql_places::{HOUR, new_id, next, now, record},
    support::PATIENCE,
};

const PASSWORD: &str = "hunter2";
const USER: &str = "ada.canary";

/// One error of each operation.
async fn errors_of_all(store: &RedisStore) -> Vec<(RecordId, StoreError)> {
    let record = record(now(), HOUR, Some(USER));
    let user = record.user.as_ref().unwrap();
    let (id, newer) = (new_id(), next(&record));
    let version = record.version;
    let mut errors = vec![
        store.create(&id, &record).await.err(),
        store.update(&id, &newer, version).await.err(),
        store.rotate(&id, &new_id(), &newer, version).await.err(),
        store.touch(&id, newer.expires_at, version).await.err(),
        store.delete(&id).await.err(),
    ];
    errors.extend([
        store.load(&id).await.err(),
        store.sessions_of(user).await.err(),
    ]);
    errors
        .into_iter()
        .flatten()
        .map(|error| (id, error))
        .collect()
}

/// Of the error and all that is behind it.
fn assert_quiet(id: &RecordId, error: &StoreError) {
    let mut shown = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        shown += &format!(" {error} {error:?}");
        source = error.source();
    }
    let key = session_key("", id);
    let encoded = key.rsplit(':').next().unwrap();
    for secret in [
        PASSWORD,
        USER,
        encoded,
        &id.to_hex(),
        "payload",
        ":session:",
    ] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    assert!(shown.starts_with("redis: "), "{shown}");
}

/// For what is tried until the time is over.
fn hasty(url: &str) -> RedisStore {
    patient(url).with_timeout(Duration::from_millis(300))
}

/// One error of each operation, none of which may wait until its time is over.
async fn errors_at_once(url: &str) -> Vec<(RecordId, StoreError)> {
    let store = patient(url);
    let errors = timeout(PATIENCE, errors_of_all(&store)).await;
    errors.unwrap()
}

#[tokio::test]
async fn a_refused_login_is_a_quiet_error_that_waits_for_nothing() {
    let server = Server::start_with(Kind::Redis, &["--requirepass", "right"]).await;
    let port = server.port();
    let urls = [
        format!("redis://:{PASSWORD}@127.0.0.1:{port}"),
        format!("redis://someone:{PASSWORD}@127.0.0.1:{port}"),
    ];
    for url in urls {
        let errors = errors_at_once(&url).await;
        assert_eq!(errors.len(), 7);
        for (id, error) in &errors {
            assert_quiet(id, error);
            assert_eq!(error.kind(), StoreErrorKind::Other, "{error:?}");
        }
    }
    let errors = errors_at_once(&server.url()).await;
    assert_eq!(errors.len(), 7);
    for (id, error) in &errors {
        assert_quiet(id, error);
        assert_eq!(error.kind(), StoreErrorKind::Other, "{error:?}");
    }
    let right = format!("redis://:right@127.0.0.1:{port}");
    assert_eq!(errors_at_once(&right).await.len(), 0);
}

#[tokio::test]
async fn a_password_that_a_cluster_or_a_primary_does_not_take_is_in_no_error() {
    let with_password = |url: &str| url.replacen("://", &format!("://ada:{PASSWORD}@"), 1);
    let cluster = with_password(&Cluster::shared().await.url());
    let sentinel = with_password(&Sentinels::shared().await.url());
    for url in [cluster, sentinel] {
        let errors = errors_of_all(&hasty(&url)).await;
        assert_eq!(errors.len(), 7);
        for (id, error) in &errors {
            assert_quiet(id, error);
        }
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_not_repeated() {
    for url in [
        format!("redis://user:{PASSWORD}@host:port"),
        format!("redis://user:{PASSWORD}@host/database"),
        format!("redis+sentinel://user:{PASSWORD}@host"),
        format!("redis+sentinel://user:{PASSWORD}@host/name/database"),
        format!("redis+sentinel://user:{PASSWORD}@host,,host/name"),
        format!("redis+cluster://user:{PASSWORD}@host/7"),
        format!("redis+cluster://user:{PASSWORD}@host:port"),
        format!("redis+cluster://user:{PASSWORD}@"),
        format!("memcached://user:{PASSWORD}@host"),
        format!("user:{PASSWORD}@host"),
        PASSWORD.to_owned(),
    ] {
        let error = RedisStore::open(&url).expect_err(&url);
        assert_eq!(error.kind(), StoreErrorKind::Other, "{url}");
        assert_quiet(&new_id(), &error);
    }
}

#[tokio::test]
async fn a_server_without_scripts_is_a_quiet_error() {
    let renamed = ["--rename-command", "EVALSHA", ""];
    let server = Server::start_with(Kind::Redis, &renamed).await;
    let errors = errors_at_once(&server.url()).await;
    // Only reads need no script.
    assert_eq!(errors.len(), 5, "{errors:?}");
    for (id, error) in &errors {
        assert_quiet(id, error);
        assert_eq!(error.kind(), StoreErrorKind::Other, "{error:?}");
    }
}

#[tokio::test]
async fn a_user_who_may_not_do_it_is_a_quiet_error() {
    let server = Server::start(Kind::Redis).await;
    let rule = format!(">{PASSWORD}");
    let url = format!("redis://app:{PASSWORD}@127.0.0.1:{}", server.port());
    for (rights, refused) in [
        (["~*", "+@all", "-evalsha"], 5),
        (["~other:*", "+@all", "+@all"], 7),
        (["~*", "+@all", "-set"], 2),
    ] {
        let [keys, all, less] = rights;
        order(
            &server,
            &[
                "ACL", "SETUSER", "app", "reset", "on", &rule, keys, all, less,
            ],
        )
        .await;
        let errors = errors_at_once(&url).await;
        assert!(errors.len() >= refused - 1, "{rights:?}: {errors:?}");
        for (id, error) in &errors {
            assert_quiet(id, error);
            assert_eq!(error.kind(), StoreErrorKind::Other, "{error:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_redis_is_a_quiet_error() {
    let server = Server::shared(Kind::Memcached).await;
    let url = format!("redis://ada:{PASSWORD}@{}", server.address());
    let errors = errors_of_all(&hasty(&url)).await;
    assert_eq!(errors.len(), 7);
    for (id, error) in &errors {
        assert_quiet(id, error);
    }
}

#[tokio::test]
async fn debug_of_a_store_tells_no_password_and_no_host() {
    let url = format!("redis://ada:{PASSWORD}@secret-host:6379/3");
    let shown = format!("{:?}", RedisStore::open(&url).unwrap());
    assert!(
        !shown.contains(PASSWORD) && !shown.contains("secret-host"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_value_that_is_too_large_for_the_server_is_a_quiet_error() {
    let server = Server::start_with(Kind::Redis, &["--proto-max-bulk-len", "1048576"]).await;
    let store = patient(&server.url());
    let small = record(now(), HOUR, Some(USER));
    let id = new_id();
    assert_eq!(store.create(&id, &small).await.unwrap(), Created::Done);
    let large = Record {
        payload: vec![b'x'; 2 << 20].into(),
        ..next(&small)
    };
    let error = store.update(&id, &large, small.version).await.unwrap_err();
    assert_quiet(&id, &error);
    assert_eq!(store.load(&id).await.unwrap(), Some(small));
}
