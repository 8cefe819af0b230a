//! `CachedStore` where a reader or a writer stands still between the store and the cache, and where one of the two is
//! down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use tower_keep::{
    Cached, CachedStore, MemoryStore, Record, RecordCache, RecordId, RedisCache, SessionStore,
    StoreError, StoreErrorKind, Timestamp, Updated, UserSessions, Version,
    testing::{CountingStore, Fault, FaultyStore, Operation},
};
use tower_keep_servers::{Kind, Server};

use crate::{
    sql_places::{HOUR, new_id, next, now, record},
    support::{Gate, PATIENCE, eventually, memcached_cache, redis_cache},
};

/// The same promise in front of each cache.
macro_rules! each_cache {
    ($($test:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $test() {
                super::$test(tower_keep::MemoryCache::of_sole_process()).await;
            })*
        }
        mod redis {
            $(#[tokio::test] async fn $test() { super::$test(super::redis_cache()).await; })*
        }
        mod memcached {
            $(#[tokio::test] async fn $test() { super::$test(super::memcached_cache()).await; })*
        }
    };
}

each_cache! {
    a_reader_that_stops_before_its_fill_does_not_undo_a_logout
    a_reader_that_stops_before_its_fill_does_not_hide_a_write
    a_reader_that_stops_before_its_fill_does_not_undo_a_rotation
    a_reader_that_stops_before_its_fill_does_not_undo_logging_out_everywhere
    a_writer_that_stops_before_the_cache_does_not_hide_a_newer_write
    a_writer_that_stops_before_the_cache_does_not_undo_a_logout
    a_store_that_is_down_takes_no_write_and_what_the_cache_has_is_still_read
    a_write_whose_reply_is_lost_is_seen_at_once
    a_hot_read_asks_the_store_nothing
}

async fn a_reader_that_stops_before_its_fill_does_not_undo_a_logout<C: RecordCache>(cache: C) {
    let scene = Scene::new(cache).await;
    let reader = scene.stopped_reader().await;
    assert!(scene.store.delete(&scene.id).await.unwrap());
    scene.gate.open(1);
    let read = reader.await.unwrap();
    assert_eq!(read.as_ref(), Some(&scene.first), "it has read before");
    for _ in 0..3 {
        assert_eq!(scene.read().await, None);
    }
}

async fn a_reader_that_stops_before_its_fill_does_not_hide_a_write<C: RecordCache>(cache: C) {
    let scene = Scene::new(cache).await;
    let reader = scene.stopped_reader().await;
    let second = next(&scene.first);
    scene.write(&second, &scene.first).await;
    scene.gate.open(1);
    reader.await.unwrap();
    for _ in 0..3 {
        assert_eq!(scene.read().await.as_ref(), Some(&second));
    }
}

async fn a_reader_that_stops_before_its_fill_does_not_undo_a_rotation<C: RecordCache>(cache: C) {
    let scene = Scene::new(cache).await;
    let reader = scene.stopped_reader().await;
    let (new_id, second) = (new_id(), next(&scene.first));
    let version = scene.first.version;
    let rotated = scene.store.rotate(&scene.id, &new_id, &second, version);
    assert_eq!(rotated.await.unwrap(), tower_keep::Rotated::Done);
    scene.gate.open(1);
    reader.await.unwrap();
    for _ in 0..3 {
        assert_eq!(scene.read().await, None);
        assert_eq!(
            scene.store.load(&new_id).await.unwrap().as_ref(),
            Some(&second)
        );
    }
}

async fn a_reader_that_stops_before_its_fill_does_not_undo_logging_out_everywhere<
    C: RecordCache,
>(
    cache: C,
) {
    let scene = Scene::new(cache).await;
    let reader = scene.stopped_reader().await;
    let user = scene.first.user.as_ref().unwrap();
    let ended = scene.store.delete_all_of(user, None).await.unwrap();
    assert_eq!(ended, [scene.id]);
    scene.gate.open(1);
    reader.await.unwrap();
    for _ in 0..3 {
        assert_eq!(scene.read().await, None);
    }
}

async fn a_writer_that_stops_before_the_cache_does_not_hide_a_newer_write<C: RecordCache>(
    cache: C,
) {
    let scene = Scene::new(cache).await;
    assert!(scene.read().await.is_some(), "it is in the cache");
    let (second, writer) = scene.stopped_writer().await;
    let third = next(&second);
    scene.write(&third, &second).await;
    assert_eq!(scene.read().await.as_ref(), Some(&third));
    scene.gate.open(1);
    assert_eq!(writer.await.unwrap(), Updated::Done);
    for _ in 0..3 {
        assert_eq!(scene.read().await.as_ref(), Some(&third));
    }
}

async fn a_writer_that_stops_before_the_cache_does_not_undo_a_logout<C: RecordCache>(cache: C) {
    let scene = Scene::new(cache).await;
    assert!(scene.read().await.is_some(), "it is in the cache");
    let (_, writer) = scene.stopped_writer().await;
    assert!(scene.store.delete(&scene.id).await.unwrap());
    scene.gate.open(1);
    assert_eq!(writer.await.unwrap(), Updated::Done);
    for _ in 0..3 {
        assert_eq!(scene.read().await, None);
    }
}

async fn a_store_that_is_down_takes_no_write_and_what_the_cache_has_is_still_read<
    C: RecordCache,
>(
    cache: C,
) {
    let scene = Scene::new(cache).await;
    assert!(scene.read().await.is_some());
    let second = next(&scene.first);
    let version = scene.first.version;
    scene.faulty().inject(Fault::Fail);
    assert_eq!(scene.read().await.as_ref(), Some(&scene.first));
    let store = &scene.store;
    let errors = [
        store.create(&new_id(), &second).await.unwrap_err(),
        store.load(&new_id()).await.unwrap_err(),
        store.update(&scene.id, &second, version).await.unwrap_err(),
        store
            .rotate(&scene.id, &new_id(), &second, version)
            .await
            .unwrap_err(),
        store
            .touch(&scene.id, second.expires_at, version)
            .await
            .unwrap_err(),
        store.delete(&scene.id).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    }
    scene.faulty().heal();
    assert_eq!(scene.read().await.as_ref(), Some(&scene.first));
}

async fn a_write_whose_reply_is_lost_is_seen_at_once<C: RecordCache>(cache: C) {
    let scene = Scene::new(cache).await;
    assert!(scene.read().await.is_some());
    let second = next(&scene.first);
    let version = scene.first.version;
    scene
        .faulty()
        .inject_once(Operation::Update, Fault::LoseReply);
    let lost = scene.store.update(&scene.id, &second, version).await;
    lost.unwrap_err();
    assert_eq!(scene.read().await.as_ref(), Some(&second));
    scene
        .faulty()
        .inject_once(Operation::Delete, Fault::LoseReply);
    scene.store.delete(&scene.id).await.unwrap_err();
    assert_eq!(scene.read().await, None);
}

async fn a_hot_read_asks_the_store_nothing<C: RecordCache>(cache: C) {
    let scene = Scene::new(cache).await;
    let counts = || scene.store.store().take();
    counts();
    assert!(scene.read().await.is_some());
    assert_eq!((counts().load, counts().total()), (1, 0));
    for _ in 0..10 {
        assert!(scene.read().await.is_some());
    }
    assert_eq!(counts().total(), 0);
    let second = next(&scene.first);
    scene.write(&second, &scene.first).await;
    let spent = counts();
    assert_eq!((spent.update, spent.total()), (1, 1));
    assert_eq!(scene.read().await.as_ref(), Some(&second));
    assert_eq!(counts().total(), 0, "the writer has brought it");
    assert!(scene.store.delete(&scene.id).await.unwrap());
    let spent = counts();
    assert_eq!((spent.delete, spent.total()), (1, 1));
    assert_eq!(scene.read().await, None);
}

#[tokio::test]
async fn while_a_cache_is_down_the_store_serves_and_nothing_is_stale_when_it_returns() {
    let server = Server::start(Kind::Redis).await;
    let open = || RedisCache::open(&server.url()).unwrap();
    let is_served = async |id: &RecordId| {
        let found = open().with_timeout(PATIENCE).get(id).await;
        matches!(found, Ok(Cached::Hit(_)))
    };
    let store = Arc::new(MemoryStore::new());
    let here = CachedStore::new(open(), Arc::clone(&store));
    let there = CachedStore::new(open(), Arc::clone(&store));
    let (changed, ended) = (new_id(), new_id());
    let first = record(now(), HOUR, None);
    for id in [changed, ended] {
        let _ = here.create(&id, &first).await.unwrap();
        eventually("a copy", || async {
            assert!(here.load(&id).await.unwrap().is_some());
            is_served(&id).await.then_some(())
        })
        .await;
    }

    // It keeps what it has, and answers nobody.
    server.pause().await;
    let second = next(&first);
    let updated = here.update(&changed, &second, first.version).await;
    assert_eq!(updated.unwrap(), Updated::Done);
    assert!(here.delete(&ended).await.unwrap());
    for store in [&here, &there] {
        assert_eq!(store.load(&changed).await.unwrap().as_ref(), Some(&second));
        assert_eq!(store.load(&ended).await.unwrap(), None);
    }

    server.resume().await;
    // Never again on the node that has written.
    let returned = Instant::now();
    loop {
        assert_eq!(here.load(&changed).await.unwrap().as_ref(), Some(&second));
        assert_eq!(here.load(&ended).await.unwrap(), None);
        // And soon nowhere.
        let present = there.load(&changed).await.unwrap();
        let gone = !is_served(&ended).await;
        if gone && present.as_ref() == Some(&second) && is_served(&changed).await {
            break;
        }
        assert!(returned.elapsed() < PATIENCE, "it is still there");
    }
    eprintln!("removed {:?} after the return", returned.elapsed());
}

/// One session in a store behind a cache, whose fills and replacements can be stopped.
struct Scene<C: RecordCache> {
    store: CachedStore<Stopping<C>, CountingStore<FaultyStore<MemoryStore>>>,
    id: RecordId,
    first: Record,
    gate: Gate,
    stops: Arc<AtomicBool>,
}

impl<C: RecordCache> Scene<C> {
    async fn new(cache: C) -> Self {
        let (gate, stops) = (Gate::new(), Arc::default());
        let cache = Stopping {
            cache,
            gate: gate.clone(),
            stops: Arc::clone(&stops),
        };
        let store = CountingStore::new(FaultyStore::new(MemoryStore::new()));
        // Who stands still is not what is tried here.
        let store = CachedStore::new(cache, store).with_cache_timeout(PATIENCE);
        let (id, first) = (new_id(), record(now(), HOUR, Some("ada")));
        let _ = store.create(&id, &first).await.unwrap();
        Self {
            store,
            id,
            first,
            gate,
            stops,
        }
    }

    fn faulty(&self) -> &FaultyStore<MemoryStore> {
        self.store.store().inner()
    }

    async fn read(&self) -> Option<Record> {
        self.store.load(&self.id).await.unwrap()
    }

    async fn write(&self, record: &Record, over: &Record) {
        let updated = self.store.update(&self.id, record, over.version).await;
        assert_eq!(updated.unwrap(), Updated::Done);
    }

    /// One that has read from the store, and has not yet filled the cache.
    async fn stopped_reader(&self) -> JoinHandle<Option<Record>> {
        self.stops.store(true, SeqCst);
        let (store, id) = (self.store.clone(), self.id);
        let reader = tokio::spawn(async move { store.load(&id).await.unwrap() });
        self.gate.arrived(1).await;
        self.stops.store(false, SeqCst);
        reader
    }

    /// One that has written to the store, and has not yet told the cache.
    async fn stopped_writer(&self) -> (Record, JoinHandle<Updated>) {
        self.stops.store(true, SeqCst);
        let (store, id, first) = (self.store.clone(), self.id, self.first.clone());
        let second = next(&first);
        let record = second.clone();
        let writer = tokio::spawn(async move {
            let updated = store.update(&id, &record, first.version).await;
            updated.unwrap()
        });
        self.gate.arrived(1).await;
        self.stops.store(false, SeqCst);
        (second, writer)
    }
}

/// A cache before which writers and readers who come back from the store can be stopped.
#[derive(Debug)]
struct Stopping<C> {
    cache: C,
    gate: Gate,
    stops: Arc<AtomicBool>,
}

impl<C> Stopping<C> {
    async fn pass(&self) {
        if self.stops.load(SeqCst) {
            self.gate.pass().await;
        }
    }
}

impl<C: RecordCache> RecordCache for Stopping<C> {
    type Ticket = C::Ticket;

    async fn get(&self, id: &RecordId) -> Result<Cached<C::Ticket>, StoreError> {
        self.cache.get(id).await
    }

    async fn fill(
        &self,
        id: &RecordId,
        record: &Record,
        ticket: C::Ticket,
    ) -> Result<(), StoreError> {
        self.pass().await;
        self.cache.fill(id, record, ticket).await
    }

    async fn replace(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<(), StoreError> {
        self.pass().await;
        self.cache.replace(id, record, expected).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<(), StoreError> {
        self.cache.touch(id, expires_at, expected).await
    }

    async fn remove(&self, id: &RecordId) -> Result<(), StoreError> {
        self.cache.remove(id).await
    }

    fn time_to_live(&self) -> Duration {
        self.cache.time_to_live()
    }

    fn part_of(&self, id: &RecordId) -> usize {
        self.cache.part_of(id)
    }
}
