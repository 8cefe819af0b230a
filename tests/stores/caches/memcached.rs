//! `MemcachedCache`, over two nodes.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_keep::{
    Created, MemcachedCache, MemcachedStore, RecordCache, RecordId, SessionStore, StoreErrorKind,
    testing::record_cache_tests,
};
use tower_keep_servers::{FaultProxy, Kind, Server};

use super::{TIMEOUT, bring, copy, is_found_again, is_read_past, recovers, ticket};
use crate::{
    sql_places::{HOUR, new_id, next, now, record},
    support::{eventually, memcached_url},
};

record_cache_tests!(brief(), unreachable = unreachable());

/// Copies live long enough for the tests, and not too long to wait for.
fn brief() -> MemcachedCache {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Relaxed);
    let cache = MemcachedCache::open(&memcached_url()).unwrap();
    let cache = cache.with_prefix(format!("copies{number}"));
    let cache = cache.with_time_to_live(Duration::from_millis(1500));
    cache.with_timeout(TIMEOUT)
}

/// Nobody listens there.
fn unreachable() -> MemcachedCache {
    MemcachedCache::open("memcached://127.0.0.1:1,127.0.0.1:2").unwrap()
}

fn open(server: &Server) -> MemcachedCache {
    let cache = MemcachedCache::open(&server.url()).unwrap();
    cache.with_timeout(TIMEOUT)
}

fn key(id: &RecordId) -> String {
    let id = BASE64URL_NOPAD.encode(id.as_bytes());
    format!("tower-keep:cache:{id}")
}

/// Sends a command past the cache and returns the reply.
async fn ask(server: &Server, command: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(command).await.unwrap();
    stream.write_all(b"\r\nquit\r\n").await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    String::from_utf8_lossy(&reply).trim().to_owned()
}

/// How many seconds an item lives, which are so many at most; `None` if it is gone.
async fn ttl(server: &Server, id: &RecordId, longest: i64) -> Option<i64> {
    let reply = ask(server, format!("mg {} t", key(id)).as_bytes()).await;
    if reply == "EN" {
        return None;
    }
    let seconds = reply
        .strip_prefix("HD t")
        .unwrap_or_else(|| panic!("{reply}"));
    let seconds: i64 = seconds.parse().unwrap();
    assert!((0..=longest).contains(&seconds), "{seconds}");
    Some(seconds)
}

/// One of the numbers that a server counts.
async fn count(server: &Server, name: &str) -> u64 {
    let statistics = ask(server, b"stats").await;
    let start = format!("STAT {name} ");
    let number = statistics
        .lines()
        .find_map(|line| line.strip_prefix(&*start));
    number.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn every_item_lives_no_longer_than_a_copy() {
    let server = Server::start(Kind::Memcached).await;
    let cache = open(&server).with_time_to_live(Duration::from_secs(100));
    let first = record(now(), HOUR, Some("ada"));
    // A ticket stands for some seconds.
    let id = eventually("a copy", || async {
        let id = new_id();
        let early = ticket(&cache, &id).await;
        ttl(&server, &id, 30).await?;
        cache.fill(&id, &first, early).await.unwrap();
        ttl(&server, &id, 100).await?;
        copy(&cache, &id).await.map(|_| id)
    })
    .await;
    let second = next(&first);
    cache.replace(&id, &second, first.version).await.unwrap();
    let later = second.expires_at.saturating_add(HOUR);
    cache.touch(&id, later, second.version).await.unwrap();
    assert_eq!(copy(&cache, &id).await.unwrap().expires_at, later);
    assert!(ttl(&server, &id, 100).await.is_some());

    let brief = open(&server).with_time_to_live(Duration::from_secs(2));
    let other = new_id();
    eventually("a ticket", || async {
        let _ticket = ticket(&brief, &other).await;
        ttl(&server, &other, 2).await
    })
    .await;

    let long = open(&server).with_time_to_live(Duration::MAX);
    let other = new_id();
    bring(&long, &other, &first).await;
    let month = 30 * 24 * 60 * 60;
    let left = ttl(&server, &other, month).await.unwrap();
    assert!(left >= month - 60, "{left}");
}

#[tokio::test]
async fn a_flush_between_ticket_and_fill_leaves_the_fill_out() {
    let server = Server::start(Kind::Memcached).await;
    let cache = open(&server);
    let (id, ours) = (new_id(), record(now(), HOUR, None));
    let void = ticket(&cache, &id).await;
    assert_eq!(
        ask(&server, format!("md {}", key(&id)).as_bytes()).await,
        "HD"
    );
    cache.fill(&id, &ours, void.clone()).await.unwrap();
    assert_eq!(
        ask(&server, format!("mg {}", key(&id)).as_bytes()).await,
        "EN"
    );
    let later = ticket(&cache, &id).await;
    cache.fill(&id, &ours, void).await.unwrap();
    assert_eq!(copy(&cache, &id).await, None);
    cache.fill(&id, &ours, later).await.unwrap();
    assert_eq!(copy(&cache, &id).await, Some(ours));
}

#[tokio::test]
async fn what_is_no_copy_is_an_error_and_can_be_removed() {
    let server = Server::start(Kind::Memcached).await;
    let cache = open(&server);
    let ours = record(now(), HOUR, Some("ada"));
    let newer = next(&ours);
    for value in [
        "",
        "not a copy at all",
        "\0",
        "\0l short",
        "\x01",
        "\x01too short",
    ] {
        let put = async |id: &RecordId| {
            let put = format!("ms {} {} T3600\r\n{value}", key(id), value.len());
            assert_eq!(ask(&server, put.as_bytes()).await, "HD");
        };
        for is_written in [true, false] {
            let id = new_id();
            put(&id).await;
            let error = cache.get(&id).await.expect_err(value);
            let kinds = [StoreErrorKind::Corrupt, StoreErrorKind::Unsupported];
            assert!(kinds.contains(&error.kind()), "{value}: {error:?}");
            let touched = cache.touch(&id, newer.expires_at, ours.version).await;
            touched.expect(value);
            if is_written {
                let replaced = cache.replace(&id, &newer, ours.version).await;
                replaced.expect(value);
            } else {
                cache.remove(&id).await.expect(value);
            }
            bring(&cache, &id, &ours).await;
        }
        let id = new_id();
        put(&id).await;
        is_read_past(&cache, &id, &ours).await;
    }
}

#[tokio::test]
async fn a_cache_and_a_store_in_one_place_do_not_meet() {
    let server = Server::start(Kind::Memcached).await;
    let cache = open(&server);
    let store = MemcachedStore::open(&server.url()).unwrap();
    let store = store.with_timeout(TIMEOUT);
    let (id, ours) = (new_id(), record(now(), HOUR, None));
    assert_eq!(store.create(&id, &ours).await.unwrap(), Created::Done);
    assert_eq!(copy(&cache, &id).await, None);
    bring(&cache, &id, &ours).await;
    cache.remove(&id).await.unwrap();
    assert_eq!(store.load(&id).await.unwrap(), Some(ours));
}

#[tokio::test]
async fn a_hit_is_one_command() {
    let server = Server::start(Kind::Memcached).await;
    let cache = open(&server);
    let (id, ours) = (new_id(), record(now(), HOUR, None));
    bring(&cache, &id, &ours).await;
    let (gets, sets) = (
        count(&server, "cmd_get").await,
        count(&server, "cmd_set").await,
    );
    assert_eq!(copy(&cache, &id).await, Some(ours.clone()));
    assert_eq!(count(&server, "cmd_get").await, gets + 1);
    assert_eq!(count(&server, "cmd_set").await, sets);
    cache.remove(&id).await.unwrap();
    assert_eq!(count(&server, "cmd_get").await, gets + 1, "removed unseen");
}

/// A node takes no item of that size. Neither must the copy before it stay.
#[tokio::test]
async fn a_record_too_large_for_a_node_has_no_copy_and_is_no_error() {
    let server = Server::start(Kind::Memcached).await;
    let cache = open(&server);
    let (id, small) = (new_id(), record(now(), HOUR, None));
    let mut large = next(&small);
    large.payload = vec![b'x'; 2 << 20].into();
    bring(&cache, &id, &small).await;
    cache.replace(&id, &large, small.version).await.unwrap();
    let late = ticket(&cache, &id).await;
    cache.fill(&id, &large, late).await.unwrap();
    assert_eq!(copy(&cache, &id).await, None);
}

#[tokio::test]
async fn a_server_that_was_killed_is_an_error_in_time_and_found_again() {
    let server = Server::start(Kind::Memcached).await;
    let cache = MemcachedCache::open(&server.url()).unwrap();
    is_found_again(&server, &cache).await;
}

/// A write whose reply was lost has been applied, and is applied once.
#[tokio::test]
async fn what_is_sent_twice_is_harmless() {
    let server = Server::start(Kind::Memcached).await;
    let proxy = FaultProxy::to(server.address()).await;
    let cache = MemcachedCache::open(&server.url_at(proxy.port())).unwrap();
    let cache = cache.with_timeout(TIMEOUT);
    let first = record(now(), HOUR, None);
    let second = next(&first);
    // A ticket stands for some seconds.
    let (id, early) = eventually("a copy", || async {
        let id = new_id();
        proxy.swallow_reply();
        recovers(&cache, &id).await;
        let early = ticket(&cache, &id).await;
        proxy.swallow_reply();
        cache.fill(&id, &first, early.clone()).await.unwrap();
        let copy = copy(&cache, &id).await?;
        assert_eq!(copy, first);
        Some((id, early))
    })
    .await;
    proxy.swallow_reply();
    cache.replace(&id, &second, first.version).await.unwrap();
    assert_eq!(copy(&cache, &id).await, Some(second));
    proxy.swallow_reply();
    cache.remove(&id).await.unwrap();
    cache.fill(&id, &first, early).await.unwrap();
    assert_eq!(copy(&cache, &id).await, None);
}
