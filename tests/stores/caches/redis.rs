//! `RedisCache`, on one server and in a cluster.

use std::time::Duration;

use redis::Value;
use tower_keep::{
    Cached, Created, RecordCache, RecordId, RedisCache, SessionStore, StoreErrorKind,
};
use tower_keep_servers::{Direction, FaultProxy, Kind, Server};

use super::{TIMEOUT, bring, copy, is_found_again, is_read_past, recovers, ticket};
use crate::{
    redis_places::{Place, Which, on_each_topology, order, session_key},
    sql_places::{HOUR, new_id, next, now, record},
    support::eventually,
};

mod single {
    use tower_keep::testing::record_cache_tests;

    use super::{Which, brief, unreachable};

    record_cache_tests!(
        brief(Which::Single).await,
        unreachable = unreachable("redis://app:hunter2@127.0.0.1:1")
    );
}

mod cluster {
    use tower_keep::testing::record_cache_tests;

    use super::{Which, brief, unreachable};

    record_cache_tests!(
        brief(Which::Cluster).await,
        unreachable = unreachable("redis+cluster://app:hunter2@127.0.0.1:1,127.0.0.1:2")
    );
}

on_each_topology!(
    every_key_lives_no_longer_than_a_copy,
    a_flush_between_ticket_and_fill_leaves_the_fill_out,
    what_is_no_copy_is_an_error_and_can_be_removed,
    a_cache_and_a_store_in_one_place_do_not_meet,
);

fn open(place: &Place) -> RedisCache {
    let cache = RedisCache::open(&place.url()).unwrap();
    cache.with_prefix(&*place.prefix).with_timeout(TIMEOUT)
}

/// Copies live long enough for the tests, and not too long to wait for.
async fn brief(which: Which) -> RedisCache {
    open(&Place::new(which).await).with_time_to_live(Duration::from_millis(1500))
}

/// Nobody listens there.
fn unreachable(url: &str) -> RedisCache {
    RedisCache::open(url).unwrap()
}

fn copy_key(place: &Place, id: &RecordId) -> String {
    session_key(&place.prefix, id).replace(":session:", ":cache:")
}

/// Whether a key that was there is so yet.
fn lives(ttl: i64, longest: i64, what: &str) -> bool {
    assert!(ttl == -2 || (1..=longest).contains(&ttl), "{what}: {ttl}");
    ttl > 0
}

async fn every_key_lives_no_longer_than_a_copy(which: Which) {
    let place = Place::new(which).await;
    let first = record(now(), HOUR, Some("ada"));
    let cache = open(&place).with_time_to_live(Duration::from_secs(100));
    // A ticket stands for some seconds.
    let (id, filled) = eventually("a copy", || async {
        let id = new_id();
        let key = copy_key(&place, &id);
        let early = ticket(&cache, &id).await;
        let ticket_ttl = place.pttl(&key).await;
        let is_there = lives(ticket_ttl, 30_000, "a ticket");
        while place.pttl(&key).await > ticket_ttl - 50 {}
        cache.fill(&id, &first, early).await.unwrap();
        let filled = place.pttl(&key).await;
        let is_filled = lives(filled, 99_950, "since the ticket");
        (is_there && is_filled).then_some((id, filled))
    })
    .await;
    let key = copy_key(&place, &id);
    assert_eq!(copy(&cache, &id).await.as_ref(), Some(&first));

    let second = next(&first);
    cache.replace(&id, &second, first.version).await.unwrap();
    let later = second.expires_at.saturating_add(HOUR);
    cache.touch(&id, later, second.version).await.unwrap();
    assert_eq!(copy(&cache, &id).await.unwrap().expires_at, later);
    let ttl = place.pttl(&key).await;
    assert!((1..=filled).contains(&ttl), "as before: {ttl}");

    let brief = open(&place).with_time_to_live(Duration::from_secs(2));
    let other = new_id();
    eventually("a ticket", || async {
        let _ticket = ticket(&brief, &other).await;
        let ttl = place.pttl(&copy_key(&place, &other)).await;
        let is_there = lives(ttl, 2_000, "no longer than a copy");
        (is_there && place.keys().await.len() == 2).then_some(())
    })
    .await;
}

async fn a_flush_between_ticket_and_fill_leaves_the_fill_out(which: Which) {
    let place = Place::own(which).await;
    let cache = open(&place);
    let (id, ours) = (new_id(), record(now(), HOUR, None));
    let void = ticket(&cache, &id).await;
    for server in place.primaries() {
        order(server, &["FLUSHALL"]).await;
    }
    cache.fill(&id, &ours, void.clone()).await.unwrap();
    assert_eq!(place.keys().await, [""; 0]);
    let later = ticket(&cache, &id).await;
    cache.fill(&id, &ours, void).await.unwrap();
    assert_eq!(copy(&cache, &id).await, None);
    cache.fill(&id, &ours, later).await.unwrap();
    assert_eq!(copy(&cache, &id).await, Some(ours));
}

async fn what_is_no_copy_is_an_error_and_can_be_removed(which: Which) {
    let place = Place::new(which).await;
    let cache = open(&place);
    let ours = record(now(), HOUR, Some("ada"));
    let newer = next(&ours);
    let mut of_newer_format = ours.to_bytes();
    of_newer_format[0] = 2;
    for (what, bytes) in [
        ("text", b"not a copy at all".to_vec()),
        ("a newer format", of_newer_format),
        ("cut short", ours.to_bytes()[..24].to_vec()),
        ("a zero", vec![0]),
        ("a ticket cut short", b"\0l short".to_vec()),
        ("nothing", Vec::new()),
        ("a list", b"LIST".to_vec()),
    ] {
        let put = async |id: &RecordId| {
            let key = copy_key(&place, id);
            if what == "a list" {
                place.raw("RPUSH", &key, &[b"a list"]).await;
            } else {
                place.set(&key, &bytes).await;
            }
            key
        };
        for is_written in [true, false] {
            let id = new_id();
            let key = put(&id).await;
            let error = cache.get(&id).await.expect_err(what);
            let kinds = [StoreErrorKind::Corrupt, StoreErrorKind::Unsupported];
            assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
            let touched = cache.touch(&id, newer.expires_at, ours.version).await;
            touched.expect(what);
            cache.get(&id).await.expect_err(what);
            if is_written {
                let replaced = cache.replace(&id, &newer, ours.version).await;
                replaced.expect(what);
            } else {
                cache.remove(&id).await.expect(what);
            }
            assert_eq!(
                place.raw("EXISTS", &key, &[]).await,
                Value::Int(0),
                "{what}"
            );
            bring(&cache, &id, &ours).await;
        }
        let id = new_id();
        put(&id).await;
        is_read_past(&cache, &id, &ours).await;
    }
}

async fn a_cache_and_a_store_in_one_place_do_not_meet(which: Which) {
    let place = Place::new(which).await;
    let (cache, store) = (open(&place), place.store());
    let (id, ours) = (new_id(), record(now(), HOUR, None));
    assert_eq!(store.create(&id, &ours).await.unwrap(), Created::Done);
    assert_eq!(copy(&cache, &id).await, None);
    bring(&cache, &id, &ours).await;
    cache.remove(&id).await.unwrap();
    assert_eq!(store.load(&id).await.unwrap(), Some(ours));
}

/// How often a server was sent this command since its statistics were reset, scripts included.
async fn calls(server: &Server, command: &str) -> u64 {
    let statistics = order(server, &["INFO", "commandstats"]).await;
    let start = format!("cmdstat_{command}:calls=");
    let line = statistics
        .lines()
        .find_map(|line| line.strip_prefix(&*start));
    let number = line.and_then(|rest| rest.split(',').next());
    number.map_or(0, |number| number.parse().unwrap())
}

#[tokio::test]
async fn a_hit_is_one_get_and_a_miss_one_script_more() {
    let place = Place::own(Which::Single).await;
    let [server] = place.primaries() else {
        panic!("one server");
    };
    let cache = open(&place);
    let (id, ours) = (new_id(), record(now(), HOUR, None));
    bring(&cache, &id, &ours).await;

    order(server, &["CONFIG", "RESETSTAT"]).await;
    assert_eq!(copy(&cache, &id).await, Some(ours.clone()));
    assert_eq!(calls(server, "get").await, 1);
    assert_eq!(calls(server, "evalsha").await, 0);

    cache.remove(&id).await.unwrap();
    assert_eq!(calls(server, "del").await, 1);
    assert_eq!(calls(server, "evalsha").await, 0);

    let late = ticket(&cache, &id).await;
    assert_eq!(calls(server, "evalsha").await, 1);
    // A ticket that stands is asked for with the `GET` alone.
    let _same = ticket(&cache, &id).await;
    assert_eq!(calls(server, "evalsha").await, 1);
    cache.fill(&id, &ours, late).await.unwrap();
    assert_eq!(calls(server, "evalsha").await, 2);
    let newer = next(&ours);
    cache.replace(&id, &newer, ours.version).await.unwrap();
    assert_eq!(calls(server, "evalsha").await, 3);
    assert_eq!(copy(&cache, &id).await, Some(newer));
}

#[tokio::test]
async fn a_server_that_was_killed_is_an_error_in_time_and_found_again() {
    let server = Server::start(Kind::Redis).await;
    let cache = RedisCache::open(&server.url()).unwrap();
    is_found_again(&server, &cache).await;
}

/// The host has gone without a word, and there is another in its place.
#[tokio::test]
async fn a_connection_that_went_silent_is_replaced_though_no_caller_waits_that_long() {
    let server = Server::start(Kind::Redis).await;
    let proxy = FaultProxy::to(server.address()).await;
    let cache = RedisCache::open(&server.url_at(proxy.port())).unwrap();
    let id = new_id();
    recovers(&cache, &id).await;
    let before = proxy.traffic().connections;
    proxy.hold(Direction::ToServer);
    let silent = async {
        while proxy.traffic().connections == before {
            let _ = cache.get(&id).await;
        }
    };
    tokio::time::timeout(TIMEOUT, silent).await.unwrap();
    proxy.heal();
    recovers(&cache, &id).await;
}

/// What was lost is sent again with the ticket, or finds that it has been done.
#[tokio::test]
async fn what_is_sent_twice_is_harmless() {
    let server = Server::start(Kind::Redis).await;
    let proxy = FaultProxy::to(server.address()).await;
    let cache = RedisCache::open(&server.url_at(proxy.port())).unwrap();
    let cache = cache.with_timeout(TIMEOUT);
    let first = record(now(), HOUR, None);
    let second = next(&first);
    let id = new_id();
    // All scripts are known.
    bring(&cache, &id, &first).await;
    cache.replace(&id, &second, first.version).await.unwrap();

    // A ticket stands for some seconds.
    let (id, early) = eventually("a copy", || async {
        let id = new_id();
        proxy.swallow_reply();
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
    assert_eq!(copy(&cache, &id).await, Some(second.clone()));
    proxy.swallow_reply();
    cache.remove(&id).await.unwrap();
    cache.fill(&id, &first, early).await.unwrap();
    let Cached::Miss(Some(_)) = cache.get(&id).await.unwrap() else {
        panic!("it is back");
    };
}

#[tokio::test]
async fn a_full_server_keeps_no_copy_that_was_written_over() {
    let server = Server::start(Kind::Redis).await;
    let cache = RedisCache::open(&server.url()).unwrap();
    let cache = cache.with_timeout(TIMEOUT);
    let (id, first) = (new_id(), record(now(), HOUR, None));
    bring(&cache, &id, &first).await;
    order(
        &server,
        &["CONFIG", "SET", "maxmemory-policy", "noeviction"],
    )
    .await;
    order(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let replaced = cache.replace(&id, &next(&first), first.version).await;
    replaced.unwrap();
    assert_eq!(order(&server, &["DBSIZE"]).await, "0");
    order(&server, &["CONFIG", "SET", "maxmemory", "0"]).await;
    bring(&cache, &id, &first).await;
}

#[tokio::test]
async fn a_full_server_still_serves_the_copies_that_it_has() {
    let server = Server::start(Kind::Redis).await;
    let cache = RedisCache::open(&server.url()).unwrap();
    let cache = cache.with_timeout(TIMEOUT);
    let (id, ours) = (new_id(), record(now(), HOUR, None));
    bring(&cache, &id, &ours).await;
    let policy = ["CONFIG", "SET", "maxmemory-policy", "noeviction"];
    order(&server, &policy).await;
    order(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    // A miss is no failure, for which the cache would be left alone.
    let missed = cache.get(&new_id()).await.unwrap();
    assert!(matches!(missed, Cached::Miss(None)), "{missed:?}");
    let later = ours.expires_at.saturating_add(HOUR);
    cache.touch(&id, later, ours.version).await.unwrap();
    assert_eq!(copy(&cache, &id).await, Some(ours));
    cache.remove(&id).await.unwrap();
    assert_eq!(order(&server, &["DBSIZE"]).await, "0");
}
