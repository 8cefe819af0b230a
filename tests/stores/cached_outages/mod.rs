//! `CachedStore` on two nodes whose common cache dies or hangs while clients are at work.

mod crowd;

use std::time::{Duration, Instant};

use tower_keep::{
    Cached, CachedStore, Created, MemcachedCache, Record, RecordCache, RecordId, RedisCache,
    SessionStore, Updated,
};
use tower_keep_servers::{Kind, Server};

use self::crowd::{Crowd, Fate};
use crate::{
    sql_places::{HOUR, new_id, next, now, record},
    support::{PATIENCE, TestStore, eventually},
};

/// The same promise over each kind of server.
macro_rules! each_server {
    ($($test:ident)*) => {
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::World::start(super::Kind::Redis, super::redis_at).await).await;
            })*
        }
        mod memcached {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let world = super::World::start(super::Kind::Memcached, super::memcached_at);
                super::$test(world.await).await;
            })*
        }
    };
}

each_server! {
    a_cache_that_is_killed_under_load_fails_no_request_and_nothing_is_stale_when_it_returns
    a_cache_that_hangs_under_load_fails_no_request_and_nothing_is_stale_when_it_goes_on
    a_cache_that_is_away_is_not_waited_for_by_each_request
}

async fn a_cache_that_is_killed_under_load_fails_no_request_and_nothing_is_stale_when_it_returns<
    C: RecordCache,
>(
    world: World<C>,
) {
    world.outages_under_load(Outage::Killed).await;
}

async fn a_cache_that_hangs_under_load_fails_no_request_and_nothing_is_stale_when_it_goes_on<
    C: RecordCache,
>(
    world: World<C>,
) {
    world.outages_under_load(Outage::Hung).await;
}

async fn a_cache_that_is_away_is_not_waited_for_by_each_request<C: RecordCache>(world: World<C>) {
    const REQUESTS: u32 = 100;
    let [here, _] = &world.nodes;
    for outage in [Outage::Hung, Outage::Killed] {
        let (id, mut present) = (new_id(), record(now(), HOUR, None));
        assert_eq!(here.create(&id, &present).await.unwrap(), Created::Done);
        world.is_cached(here, &id, &present).await;
        world.goes_away(outage).await;
        let mut slow = 0;
        for _ in 0..REQUESTS {
            let began = Instant::now();
            let newer = next(&present);
            let found = here.load(&id).await.unwrap();
            assert_eq!(found.as_ref(), Some(&present));
            let updated = here.update(&id, &newer, present.version).await.unwrap();
            assert_eq!(updated, Updated::Done);
            present = newer;
            slow += u32::from(began.elapsed() >= CACHE_TIMEOUT);
        }
        eprintln!("{outage:?}: {slow} of {REQUESTS} requests waited for the cache");
        assert!(slow * 2 < REQUESTS, "{outage:?}: {slow}");
        world.returns(outage).await;
        let found = here.load(&id).await.unwrap();
        assert_eq!(found.as_ref(), Some(&present));
    }
    world.is_in_use().await;
}

#[derive(Clone, Copy, Debug)]
enum Outage {
    /// All that is in the cache is lost.
    Killed,
    /// It comes back with all that it had.
    Hung,
}

fn redis_at(server: &Server, timeout: Duration) -> RedisCache {
    let cache = RedisCache::open(&server.url()).unwrap();
    cache.with_timeout(timeout)
}

fn memcached_at(server: &Server, timeout: Duration) -> MemcachedCache {
    let cache = MemcachedCache::open(&server.url()).unwrap();
    cache.with_timeout(timeout)
}

/// Two nodes over one cache and one store.
struct World<C: RecordCache> {
    server: Server,
    store: TestStore,
    nodes: [CachedStore<C, TestStore>; 2],
    /// Waits as long as it takes.
    cache: C,
}

impl<C: RecordCache> World<C> {
    async fn start(kind: Kind, open: fn(&Server, Duration) -> C) -> Self {
        let server = Server::start(kind).await;
        let store = TestStore::named("sqlite");
        let nodes = [(); 2].map(|()| {
            let cache = open(&server, CACHE_TIMEOUT);
            CachedStore::new(cache, store.clone()).with_cache_timeout(CACHE_TIMEOUT)
        });
        Self {
            cache: open(&server, PATIENCE),
            nodes,
            store,
            server,
        }
    }

    async fn goes_away(&self, outage: Outage) {
        match outage {
            Outage::Killed => self.server.kill9().await,
            Outage::Hung => self.server.pause().await,
        }
    }

    async fn returns(&self, outage: Outage) {
        match outage {
            Outage::Killed => self.server.start_again().await,
            Outage::Hung => self.server.resume().await,
        }
    }

    async fn outages_under_load(&self, outage: Outage) {
        let crowd = Crowd::start(&self.nodes);
        for _ in 0..2 {
            crowd.works_on().await;
            self.is_in_use().await;
            self.goes_away(outage).await;
            crowd.is_told_that_the_cache_is_away();
            crowd.works_on().await;
            crowd.is_told_that_the_cache_returns();
            self.returns(outage).await;
        }
        crowd.works_on().await;
        let fates = crowd.stop().await;
        self.is_settled(&fates).await;
        self.is_in_use().await;
    }

    /// Waits until each node brings what it reads into the cache.
    async fn is_in_use(&self) {
        for node in &self.nodes {
            let (id, first) = (new_id(), record(now(), HOUR, None));
            assert_eq!(node.create(&id, &first).await.unwrap(), Created::Done);
            self.is_cached(node, &id, &first).await;
        }
    }

    /// Reads it through that node until there is a copy.
    async fn is_cached(&self, node: &CachedStore<C, TestStore>, id: &RecordId, record: &Record) {
        eventually("a copy", || async {
            let found = node.load(id).await.unwrap();
            assert_eq!(found.as_ref(), Some(record));
            let copy = self.cache.get(id).await;
            matches!(copy, Ok(Cached::Hit(_))).then_some(())
        })
        .await;
    }

    /// Waits until no copy is outdated, so that none can be served by any node. The one that wrote never does.
    async fn is_settled(&self, fates: &[Fate]) {
        let began = Instant::now();
        eventually("a cache without outdated copies", || async {
            for Fate { id, writer, record } in fates {
                let found = self.nodes[*writer].load(id).await.unwrap();
                assert_eq!(found, *record);
                let copy = match self.cache.get(id).await {
                    Ok(Cached::Hit(copy)) => Some(copy),
                    Ok(Cached::Miss(_)) => None,
                    Err(_) => return None,
                };
                if copy.is_some() && copy != *record {
                    return None;
                }
            }
            Some(())
        })
        .await;
        let took = began.elapsed();
        eprintln!("{} ids; settled {took:?} later", fates.len());
        for Fate { id, record, .. } in fates {
            assert_eq!(self.store.load(id).await.unwrap(), *record);
            for node in &self.nodes {
                assert_eq!(node.load(id).await.unwrap(), *record);
            }
        }
    }
}

/// Longer than anything else takes, so that who waits for the cache can be told.
const CACHE_TIMEOUT: Duration = Duration::from_millis(300);
