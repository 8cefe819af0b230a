//! The cache that Redis tells of writes, when it can not.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use tower_keep::{
    Cached, MemoryCache, Record, RecordCache, RecordId, RedisStore, SessionStore, Updated,
};
use tower_keep_servers::{Direction, FaultProxy, Kind, Sentinels, Server};

use crate::{
    redis_near::{bring, copy, create, read, settle, until_gone},
    redis_places::{order, patient},
    sql_places::{new_id, next},
    support::{PATIENCE, eventually},
};

/// What the documentation promises, to the letter: no cushion for a busy machine.
const STALENESS_MAX: Duration = Duration::from_secs(1);

/// A node that reads one session all the time, while another one writes it all the time; every copy that is
/// served is compared with what had been acknowledged a second before.
struct Race {
    id: RecordId,
    cache: MemoryCache,
    store: RedisStore,
    writer: RedisStore,
    written: Arc<Written>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Written {
    /// When which revision was acknowledged.
    acknowledged: Mutex<VecDeque<(Instant, u64)>>,
    hits: AtomicUsize,
    writes: AtomicUsize,
    is_over: AtomicBool,
}

impl Written {
    /// What a copy that is asked for at that time must have at least.
    fn oldest_allowed(&self, asked: Instant) -> u64 {
        let acknowledged = self.acknowledged.lock().unwrap();
        let old = acknowledged
            .iter()
            .filter(|(at, _)| *at + STALENESS_MAX <= asked);
        old.map(|(_, revision)| *revision).max().unwrap_or(0)
    }
}

impl Race {
    async fn start(store: RedisStore, writer: RedisStore) -> Self {
        let cache = store.near_cache().await.unwrap();
        let (id, first) = create(&writer).await;
        let mut race = Self {
            id,
            cache,
            store,
            writer,
            written: Arc::default(),
            tasks: Vec::new(),
        };
        race.tasks.push(tokio::spawn(race.write(first)));
        race.tasks.push(tokio::spawn(race.read()));
        race
    }

    fn write(&self, mut present: Record) -> impl Future<Output = ()> + use<> {
        let (store, id, written) = (self.writer.clone(), self.id, Arc::clone(&self.written));
        async move {
            while !written.is_over.load(Relaxed) {
                let newer = next(&present);
                match store.update(&id, &newer, present.version).await {
                    Ok(Updated::Done) => {
                        let news = (Instant::now(), newer.version.revision);
                        written.acknowledged.lock().unwrap().push_back(news);
                        written.writes.fetch_add(1, Relaxed);
                        present = newer;
                    }
                    Ok(Updated::Conflict(other)) => present = other,
                    Ok(Updated::Gone) => {
                        let _ = store.create(&id, &present).await;
                    }
                    Err(_) => {}
                }
                // So that there are hits in between.
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        }
    }

    fn read(&self) -> impl Future<Output = ()> + use<> {
        let (cache, store, id) = (self.cache.clone(), self.store.clone(), self.id);
        let written = Arc::clone(&self.written);
        async move {
            while !written.is_over.load(Relaxed) {
                let asked = Instant::now();
                if let Some(copy) = copy(&cache, &id).await {
                    let oldest = written.oldest_allowed(asked);
                    let revision = copy.version.revision;
                    assert!(
                        revision >= oldest,
                        "{revision} was served, and not {oldest}"
                    );
                    written.hits.fetch_add(1, Relaxed);
                    tokio::time::sleep(Duration::from_micros(200)).await;
                } else {
                    let reading = read(&cache, &store, &id);
                    let _ = tokio::time::timeout(Duration::from_secs(2), reading).await;
                }
            }
        }
    }

    /// Until there were that many more hits and writes.
    async fn go_on(&self, count: usize) {
        for counter in [&self.written.hits, &self.written.writes] {
            let goal = counter.load(Relaxed) + count;
            eventually("reads and writes", || async move {
                (counter.load(Relaxed) >= goal).then_some(())
            })
            .await;
        }
    }

    /// Serves no copy, and promises to take none.
    async fn until_cut_off(&self) -> Duration {
        let began = Instant::now();
        let id = new_id();
        eventually("cut off", || async {
            let found = self.cache.get(&id).await.unwrap();
            matches!(found, Cached::Miss(None)).then_some(())
        })
        .await;
        began.elapsed()
    }

    /// Everything was as it should be, and what is there now is what the store has.
    async fn end(self) {
        self.written.is_over.store(true, Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        settle(&self.cache, &self.store).await;
        let present = self.writer.load(&self.id).await.unwrap().unwrap();
        assert_eq!(bring(&self.cache, &self.store, &self.id).await, present);
        assert!(self.writer.delete(&self.id).await.unwrap());
        until_gone(&self.cache, &self.id).await;
    }
}

/// Of the connections that are told of writes.
async fn trackers(server: &Server) -> Vec<String> {
    let clients = order(server, &["CLIENT", "LIST"]).await;
    let lines = clients.lines().filter(|line| line.contains("flags=tB"));
    let id = |line: &str| {
        line.split(' ')
            .next()?
            .strip_prefix("id=")
            .map(str::to_owned)
    };
    lines.filter_map(id).collect()
}

async fn server_and_stores() -> (Server, RedisStore, RedisStore) {
    let server = Server::start(Kind::Redis).await;
    let (store, writer) = (patient(&server.url()), patient(&server.url()));
    (server, store, writer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_killed_under_writes_is_made_anew_and_no_copy_is_too_old() {
    let (server, store, writer) = server_and_stores().await;
    let race = Race::start(store, writer).await;
    race.go_on(20).await;
    for _ in 0..10 {
        for id in trackers(&server).await {
            order(&server, &["CLIENT", "KILL", "ID", &id]).await;
        }
        race.go_on(20).await;
    }
    eventually("one connection", || async {
        (trackers(&server).await.len() == 1).then_some(())
    })
    .await;
    race.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_connections_are_all_killed_has_its_cache_again() {
    let (server, store, writer) = server_and_stores().await;
    let race = Race::start(store, writer).await;
    for _ in 0..10 {
        race.go_on(10).await;
        order(&server, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    }
    race.go_on(20).await;
    race.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_silent_turns_the_cache_off_in_time() {
    let server = Server::start(Kind::Redis).await;
    let proxy = FaultProxy::to(server.address()).await;
    let store = patient(&server.url_at(proxy.port()));
    let writer = patient(&server.url());
    let race = Race::start(store, writer).await;
    for held in [Some(Direction::ToClient), Some(Direction::ToServer), None] {
        race.go_on(20).await;
        match held {
            Some(direction) => proxy.hold(direction),
            None => proxy.pause(),
        }
        let took = race.until_cut_off().await;
        eprintln!("{held:?} held: cut off after {took:?}");
        proxy.heal();
        let healed = Instant::now();
        race.go_on(20).await;
        eprintln!("well again after {:?}", healed.elapsed());
    }
    race.end().await;
}

/// Nobody reads, so nobody finds out for the cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_nobody_asked_for_meanwhile_are_gone_after_a_silence() {
    let server = Server::start(Kind::Redis).await;
    let proxy = FaultProxy::to(server.address()).await;
    let store = patient(&server.url_at(proxy.port()));
    let writer = patient(&server.url());
    let cache = store.near_cache().await.unwrap();
    let (id, first) = create(&writer).await;
    settle(&cache, &store).await;
    bring(&cache, &store, &id).await;
    proxy.pause();
    let second = next(&first);
    let _ = writer.update(&id, &second, first.version).await.unwrap();
    let written = Instant::now();
    eventually("no copy", || async {
        let asked = Instant::now();
        let found = copy(&cache, &id).await;
        assert!(found.is_none() || asked < written + STALENESS_MAX);
        found.is_none().then_some(())
    })
    .await;
    proxy.heal();
    assert_eq!(bring(&cache, &store, &id).await, second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_or_killed_is_followed_when_it_is_back() {
    let (server, store, writer) = server_and_stores().await;
    let race = Race::start(store, writer).await;
    race.go_on(20).await;
    server.pause().await;
    race.until_cut_off().await;
    server.resume().await;
    race.go_on(20).await;
    // Its data are lost with it, and written anew from what the writer had.
    server.kill9().await;
    race.until_cut_off().await;
    assert!(race.cache.is_empty());
    server.start_again().await;
    let back = Instant::now();
    race.go_on(20).await;
    eprintln!("well again after {:?}", back.elapsed());
    race.end().await;
}

/// What a store has without a cache is outdated too while a primary does not know that it is none; and what
/// had not reached the replica is lost. So this looks at what is there afterwards.
async fn assert_follows(set: &Sentinels, cache: &MemoryCache, store: &RedisStore) {
    let writer = patient(&set.url());
    let (id, mut present) = eventually("a primary", || async {
        let (id, record) = (
            new_id(),
            crate::sql_places::record(crate::sql_places::now(), crate::sql_places::HOUR, None),
        );
        let created = writer.create(&id, &record).await.ok()?;
        (created == tower_keep::Created::Done).then_some((id, record))
    })
    .await;
    for _ in 0..20 {
        eventually("the present copy", || async {
            read(cache, store, &id).await;
            (copy(cache, &id).await.as_ref() == Some(&present)).then_some(())
        })
        .await;
        let newer = next(&present);
        let updated = writer.update(&id, &newer, present.version).await;
        assert_eq!(updated.unwrap(), Updated::Done);
        until_gone(cache, &id).await;
        present = newer;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_is_left_for_the_next_one() {
    let set = Sentinels::start().await;
    let store = patient(&set.url());
    let cache = store.near_cache().await.unwrap();
    assert_follows(&set, &cache, &store).await;
    let (id, _) = create(&store).await;
    settle(&cache, &store).await;
    bring(&cache, &store, &id).await;
    let old = set.primary().await;
    old.kill9().await;
    until_gone(&cache, &id).await;
    let new = set.replace(old).await;
    let promoted = Instant::now();
    eventually("the connection to it", || async {
        (!trackers(new).await.is_empty()).then_some(())
    })
    .await;
    eprintln!("followed {:?} after the promotion", promoted.elapsed());
    assert_follows(&set, &cache, &store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hangs_and_comes_back_brings_no_copy_that_stays_outdated() {
    let set = Sentinels::start().await;
    let store = patient(&set.url());
    let cache = store.near_cache().await.unwrap();
    let (id, first) = create(&store).await;
    settle(&cache, &store).await;
    bring(&cache, &store, &id).await;
    let old = set.primary().await;
    old.pause().await;
    // Nobody asks the store, so only the cache can notice.
    set.replace(old).await;
    let writer = patient(&set.url());
    let second = next(&first);
    eventually("a write", || async {
        let updated = writer.update(&id, &second, first.version).await.ok()?;
        (updated == Updated::Done).then_some(())
    })
    .await;
    old.resume().await;
    let resumed = Instant::now();
    // Until the old primary knows that it is none any more, the store too may be answered by it.
    let mut demoted = None;
    while demoted.is_none_or(|seen: Instant| seen.elapsed() < 3 * STALENESS_MAX) {
        let asked = Instant::now();
        read(&cache, &store, &id).await;
        let copy = copy(&cache, &id).await;
        let is_present = copy.is_none_or(|copy| copy == second);
        assert!(is_present || demoted.is_none_or(|seen| asked < seen + STALENESS_MAX));
        if demoted.is_none() && order(old, &["ROLE"]).await.starts_with("slave\n") {
            demoted = Some(Instant::now());
        }
        assert!(resumed.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    set.wait_until_replica(old).await;
    eventually("the present copy", || async {
        read(&cache, &store, &id).await;
        (copy(&cache, &id).await.as_ref() == Some(&second)).then_some(())
    })
    .await;
    assert_follows(&set, &cache, &store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_demoted_in_good_order_is_left() {
    let set = Sentinels::start().await;
    let store = patient(&set.url());
    let cache = store.near_cache().await.unwrap();
    assert_follows(&set, &cache, &store).await;
    let old = set.primary().await;
    let (sentinel, name) = (&set.sentinels()[0], set.service_name());
    // It would give up one that takes long.
    order(
        sentinel,
        &["SENTINEL", "SET", name, "failover-timeout", "60000"],
    )
    .await;
    let failover = ["SENTINEL", "FAILOVER", name];
    eventually("a failover", || async {
        sentinel.redis_command(&failover).await.ok()
    })
    .await;
    let new = set.primary_after(old).await;
    eventually("the connection to it", || async {
        (trackers(new).await.len() == 1 && trackers(old).await.is_empty()).then_some(())
    })
    .await;
    assert_follows(&set, &cache, &store).await;
}

/// No Sentinel has a hand in it, and no connection is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_becomes_a_replica_by_hand_turns_the_cache_off() {
    let set = Sentinels::start().await;
    let store = patient(&set.url());
    let cache = store.near_cache().await.unwrap();
    let (id, _) = create(&store).await;
    settle(&cache, &store).await;
    bring(&cache, &store, &id).await;
    let old = set.primary().await;
    let other = set
        .servers()
        .iter()
        .find(|server| server.port() != old.port());
    let port = other.unwrap().port().to_string();
    let demoted = Instant::now();
    order(old, &["REPLICAOF", "127.0.0.1", &port]).await;
    until_gone(&cache, &id).await;
    eprintln!("left after {:?}", demoted.elapsed());
}
