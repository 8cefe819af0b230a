//! Whatever happens to the server, the connection or the process, no copy is served that has been outdated for longer
//! than is promised; and afterwards the cache serves again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tower_keep::{
    Cached, MemoryCache, PostgresStore, Record, RecordCache, RecordId, SessionStore, Updated,
};
use tower_keep_servers::{Direction, FaultProxy, Kind, Server};

use super::{Place, STALENESS_MAX, is_let_go_of, is_off};
use crate::{sql_places::next, support::eventually};

/// A record that is written again and again by one node, and read from the cache of another.
struct Race {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    cache: MemoryCache,
    store: PostgresStore,
    id: RecordId,
    /// When each revision was known to be written. The first is 1.
    written: Mutex<Vec<Instant>>,
    hits: AtomicU64,
    /// In microseconds.
    stalest: AtomicU64,
    ends: AtomicBool,
}

impl Race {
    async fn start(place: &Place, cache: &MemoryCache) -> Self {
        let (id, first) = place.create().await;
        let shared = Arc::new(Shared {
            cache: cache.clone(),
            store: place.node(),
            id,
            written: Mutex::new(vec![Instant::now()]),
            hits: AtomicU64::new(0),
            stalest: AtomicU64::new(0),
            ends: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).write(place.node(), first));
        tasks.spawn(Arc::clone(&shared).read());
        let race = Self { shared, tasks };
        race.serves().await;
        race
    }

    /// Waits until copies are served, which were brought after this was asked for.
    async fn serves(&self) {
        for _ in 0..3 {
            let before = self.shared.hits.load(SeqCst);
            let written = self.shared.written.lock().unwrap().len();
            eventually("copy that is served", || async {
                let newer = self.shared.written.lock().unwrap().len() > written;
                (newer && self.shared.hits.load(SeqCst) > before).then_some(())
            })
            .await;
        }
    }

    async fn stop(mut self, what: &str) {
        self.shared.ends.store(true, SeqCst);
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        let shared = &self.shared;
        eprintln!(
            "{what}: {} writes, {} hits, the stalest {:?}",
            shared.written.lock().unwrap().len(),
            shared.hits.load(SeqCst),
            Duration::from_micros(shared.stalest.load(SeqCst)),
        );
    }
}

impl Shared {
    async fn write(self: Arc<Self>, store: PostgresStore, mut present: Record) {
        while !self.ends.load(SeqCst) {
            let new = next(&present);
            match store.update(&self.id, &new, present.version).await {
                Ok(Updated::Done) => {
                    self.written.lock().unwrap().push(Instant::now());
                    present = new;
                }
                // Nobody knows, and the same again finds out.
                Err(_) => {
                    while !matches!(
                        store.update(&self.id, &new, present.version).await,
                        Ok(Updated::Done)
                    ) {
                        tokio::time::sleep(PAUSE).await;
                    }
                    self.written.lock().unwrap().push(Instant::now());
                    present = new;
                }
                Ok(other) => panic!("{other:?}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read(self: Arc<Self>) {
        while !self.ends.load(SeqCst) {
            let asked = Instant::now();
            match self.cache.get(&self.id).await.unwrap() {
                Cached::Hit(copy) => self.judge(&copy, asked),
                Cached::Miss(None) => {}
                Cached::Miss(Some(ticket)) => {
                    if let Ok(loaded) = self.store.load(&self.id).await {
                        let loaded = loaded.unwrap();
                        self.cache.fill(&self.id, &loaded, ticket).await.unwrap();
                    }
                }
            }
            // Leaves the others some of the machine.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A copy is outdated since its successor was written.
    fn judge(&self, copy: &Record, asked: Instant) {
        self.hits.fetch_add(1, SeqCst);
        let revision = usize::try_from(copy.version.revision).unwrap();
        let successor = self.written.lock().unwrap().get(revision).copied();
        if let Some(successor) = successor {
            let outdated = asked.saturating_duration_since(successor);
            let micros = u64::try_from(outdated.as_micros()).unwrap();
            self.stalest.fetch_max(micros, SeqCst);
            assert!(outdated <= STALENESS_MAX, "outdated for {outdated:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_ended_by_the_server_under_writes_comes_back() {
    let place = Place::new().await;
    let cache = place.cache().await;
    let race = Race::start(&place, &cache).await;
    for _ in 0..5 {
        let kill = place.lines("count(pg_terminate_backend(pid))");
        eventually("connection to end", || async {
            (place.number(&kill).await == 1).then_some(())
        })
        .await;
        race.serves().await;
    }
    race.stop("terminated").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_is_reset_or_closed_under_writes_comes_back() {
    let place = Place::new().await;
    let server = Server::shared(Kind::Postgres).await;
    let proxy = FaultProxy::to(server.address()).await;
    let node = place.node_at(&server.url_at(proxy.port()));
    let cache = node.near_cache().await.unwrap();
    let race = Race::start(&place, &cache).await;
    for round in 0..4 {
        let before = proxy.traffic().cuts;
        match round {
            0 => proxy.cut_now(),
            1 => proxy.cut_after(Direction::ToClient, 100),
            2 => proxy.reset_after(Direction::ToClient, 1),
            _ => proxy.swallow_reply(),
        }
        proxy.wait_until(|traffic| traffic.cuts > before).await;
        race.serves().await;
    }
    race.stop("cut").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_is_cut_silently_turns_the_cache_off_in_time_and_is_replaced() {
    let place = Place::new().await;
    let server = Server::shared(Kind::Postgres).await;
    for (what, held) in [
        (
            "both ways held",
            &[Direction::ToServer, Direction::ToClient][..],
        ),
        ("replies held", &[Direction::ToClient]),
    ] {
        let proxy = FaultProxy::to(server.address()).await;
        let node = place.node_at(&server.url_at(proxy.port()));
        let cache = node.near_cache().await.unwrap();
        let race = Race::start(&place, &cache).await;
        // For a moment.
        held.iter().for_each(|direction| proxy.hold(*direction));
        let started = Instant::now();
        is_off(&cache).await;
        eprintln!("{what}: off after {:?}", started.elapsed());
        held.iter().for_each(|direction| proxy.release(*direction));
        race.serves().await;
        // For so long that another connection is tried.
        let before = proxy.traffic().connections;
        held.iter().for_each(|direction| proxy.hold(*direction));
        is_off(&cache).await;
        proxy
            .wait_until(|traffic| traffic.connections > before)
            .await;
        held.iter().for_each(|direction| proxy.release(*direction));
        race.serves().await;
        race.stop(what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_hangs_or_is_killed_turns_the_cache_off_in_time_and_on_when_it_is_back() {
    let server = Server::start(Kind::Postgres).await;
    let place = Place::of(server.url(), crate::support::new_table()).await;
    let cache = place.cache().await;
    let race = Race::start(&place, &cache).await;

    server.pause().await;
    is_off(&cache).await;
    server.resume().await;
    race.serves().await;

    server.kill9().await;
    is_off(&cache).await;
    server.start_again().await;
    let returned = Instant::now();
    race.serves().await;
    eprintln!("served {:?} after the return", returned.elapsed());
    race.stop("server").await;
}

#[tokio::test]
async fn a_process_that_stands_still_serves_nothing_when_it_goes_on() {
    let place = Place::new().await;
    let cache = place.cache().await;
    let (id, _) = place.cached(&cache).await;
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            place.node().delete(&id).await.unwrap();
            tokio::time::sleep(STALENESS_MAX).await;
        });
        place
    });
    // No task of this runtime goes on meanwhile, and the copy has not been let go of.
    let place = other.join().unwrap();
    assert_eq!(cache.len(), 1);
    assert!(matches!(cache.get(&id).await.unwrap(), Cached::Miss(None)));
    place.all_told(&cache).await;
    is_let_go_of(&cache, &id).await;
}

/// Between two writes: so short that there always is something under way.
const PAUSE: Duration = Duration::from_millis(5);
