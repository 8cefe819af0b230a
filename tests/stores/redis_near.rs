//! The cache that Redis tells of writes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tower_keep::{
    Cached, Created, MemoryCache, Record, RecordCache, RecordId, RedisStore, Rotated, SessionStore,
    StoreErrorKind, Updated,
};
use tower_keep_servers::{Cluster, Kind, Server};

use crate::{
    redis_places::{Place, Which, connect, order, patient, session_key},
    sql_places::{HOUR, new_id, next, now, record},
    support::{PATIENCE, eventually},
};

/// Runs each promise, an `async fn(String)` that is given an address, on one server and under Sentinels.
macro_rules! on_server_and_sentinels {
    ($($promise:ident),+ $(,)?) => {$(
        mod $promise {
            use tower_keep_servers::{Kind, Sentinels, Server};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn server() {
                super::$promise(Server::shared(Kind::Redis).await.url()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sentinels() {
                super::$promise(Sentinels::shared().await.url()).await;
            }
        }
    )+};
}

on_server_and_sentinels!(
    each_kind_of_write_by_another_store_removes_the_copy,
    writes_of_other_prefixes_and_to_other_sessions_leave_the_copy,
    readers_that_race_with_a_writer_leave_no_outdated_copy,
);

/// The store that fills the cache, and another one that writes, as on two nodes.
fn two_stores(url: &str) -> (RedisStore, RedisStore) {
    let prefix = format!("near{}", new_id().to_hex());
    let open = || patient(url).with_prefix(prefix.as_str());
    (open(), open())
}

pub async fn copy(cache: &MemoryCache, id: &RecordId) -> Option<Record> {
    match cache.get(id).await.unwrap() {
        Cached::Hit(record) => Some(record),
        Cached::Miss(_) => None,
    }
}

/// As who serves a request: the copy, or what the store has, which is put in. `None` while the store fails.
pub async fn read(cache: &MemoryCache, store: &RedisStore, id: &RecordId) -> Option<Record> {
    let ticket = match cache.get(id).await.unwrap() {
        Cached::Hit(record) => return Some(record),
        Cached::Miss(ticket) => ticket,
    };
    let record = store.load(id).await.ok()??;
    if let Some(ticket) = ticket {
        cache.fill(id, &record, ticket).await.unwrap();
    }
    Some(record)
}

/// Until there is a copy.
pub async fn bring(cache: &MemoryCache, store: &RedisStore, id: &RecordId) -> Record {
    eventually("a copy", || async {
        read(cache, store, id).await;
        copy(cache, id).await
    })
    .await
}

pub async fn until_gone(cache: &MemoryCache, id: &RecordId) {
    eventually("no copy", || async {
        copy(cache, id).await.is_none().then_some(())
    })
    .await;
}

/// Until everything that was written before has been told: news come in their order.
pub async fn settle(cache: &MemoryCache, store: &RedisStore) {
    let (marker, first) = (new_id(), record(now(), HOUR, None));
    assert_eq!(store.create(&marker, &first).await.unwrap(), Created::Done);
    bring(cache, store, &marker).await;
    assert!(store.delete(&marker).await.unwrap());
    until_gone(cache, &marker).await;
}

pub async fn create(store: &RedisStore) -> (RecordId, Record) {
    let (id, record) = (new_id(), record(now(), HOUR, None));
    assert_eq!(store.create(&id, &record).await.unwrap(), Created::Done);
    (id, record)
}

async fn each_kind_of_write_by_another_store_removes_the_copy(url: String) {
    let (store, other) = two_stores(&url);
    let cache = store.near_cache().await.unwrap();
    let (id, first) = create(&other).await;
    settle(&cache, &store).await;
    assert_eq!(bring(&cache, &store, &id).await, first);

    let second = next(&first);
    let updated = other.update(&id, &second, first.version).await.unwrap();
    assert_eq!(updated, Updated::Done);
    until_gone(&cache, &id).await;
    assert_eq!(bring(&cache, &store, &id).await, second);

    let later = second.expires_at.saturating_add(HOUR / 2);
    assert!(other.touch(&id, later, second.version).await.unwrap());
    until_gone(&cache, &id).await;
    assert_eq!(bring(&cache, &store, &id).await.expires_at, later);

    let (new, third) = (new_id(), next(&second));
    let rotated = other.rotate(&id, &new, &third, second.version).await;
    assert_eq!(rotated.unwrap(), Rotated::Done);
    until_gone(&cache, &id).await;
    assert_eq!(bring(&cache, &store, &new).await, third);
    assert_eq!(copy(&cache, &id).await, None);

    assert!(other.delete(&new).await.unwrap());
    until_gone(&cache, &new).await;
    settle(&cache, &store).await;
    assert_eq!(copy(&cache, &new).await, None);
}

async fn writes_of_other_prefixes_and_to_other_sessions_leave_the_copy(url: String) {
    let (store, other) = two_stores(&url);
    let cache = store.near_cache().await.unwrap();
    let (id, first) = create(&other).await;
    let (elsewhere, _) = two_stores(&url);
    let write = async || {
        for _ in 0..20 {
            let present = elsewhere.load(&id).await.unwrap();
            match present {
                None => drop(elsewhere.create(&id, &first).await.unwrap()),
                Some(present) => drop(
                    elsewhere
                        .update(&id, &next(&present), present.version)
                        .await
                        .unwrap(),
                ),
            }
            create(&other).await;
        }
    };
    let stays = eventually("a copy that stays", || async {
        settle(&cache, &store).await;
        bring(&cache, &store, &id).await;
        write().await;
        settle(&cache, &store).await;
        // It also goes when the server is silent for long.
        copy(&cache, &id).await
    });
    assert_eq!(stays.await, first);
}

async fn readers_that_race_with_a_writer_leave_no_outdated_copy(url: String) {
    const READERS: usize = 8;
    const ROUNDS: usize = 40;
    const WRITES: usize = 8;
    let (store, other) = two_stores(&url);
    let cache = store.near_cache().await.unwrap();
    let (id, mut present) = create(&other).await;
    let (stop, _) = tokio::sync::watch::channel(false);
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (cache, store, stop) = (cache.clone(), store.clone(), stop.subscribe());
            tokio::spawn(async move {
                let mut newest = 0;
                while !*stop.borrow() {
                    let found = read(&cache, &store, &id).await.unwrap();
                    newest = newest.max(found.version.revision);
                    tokio::task::yield_now().await;
                }
                newest
            })
        })
        .collect();
    let mut hits = 0;
    for _ in 0..ROUNDS {
        for _ in 0..WRITES {
            let newer = next(&present);
            let updated = other.update(&id, &newer, present.version).await;
            assert_eq!(updated.unwrap(), Updated::Done);
            present = newer;
        }
        settle(&cache, &store).await;
        // All has been told, and the readers go on: whatever copy there is from now on is the present one.
        for _ in 0..50 {
            if let Some(copy) = copy(&cache, &id).await {
                assert_eq!(copy, present);
                hits += 1;
            }
            tokio::task::yield_now().await;
        }
    }
    stop.send_replace(true);
    for reader in readers {
        assert!(reader.await.unwrap() <= present.version.revision);
    }
    assert!(hits > 0, "nothing was tested");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_by_hand_removes_the_copy() {
    let place = Place::new(Which::Single).await;
    let store = place.store();
    let cache = store.near_cache().await.unwrap();
    let (id, _) = create(&store).await;
    settle(&cache, &store).await;
    let key = place.session_key(&id);
    let commands: [(&str, &[&[u8]]); 3] =
        [("PERSIST", &[]), ("PEXPIRE", &[b"360000"]), ("DEL", &[])];
    for (command, arguments) in commands {
        bring(&cache, &store, &id).await;
        place.raw(command, &key, arguments).await;
        until_gone(&cache, &id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_emptied_empties_the_cache() {
    let place = Place::own(Which::Single).await;
    let store = place.store();
    let cache = store.near_cache().await.unwrap();
    for command in ["FLUSHALL", "FLUSHDB"] {
        let (id, _) = create(&store).await;
        settle(&cache, &store).await;
        bring(&cache, &store, &id).await;
        order(&place.primaries()[0], &[command]).await;
        until_gone(&cache, &id).await;
        eventually("an empty cache", || async {
            cache.is_empty().then_some(())
        })
        .await;
        settle(&cache, &store).await;
    }
}

/// How many connections of that server are told of writes.
async fn trackers(server: &Server) -> usize {
    let clients = order(server, &["CLIENT", "LIST"]).await;
    clients
        .lines()
        .filter(|line| line.contains("flags=tB"))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_is_closed_soon_after_the_last_clone_of_the_cache_is_dropped() {
    let server = Server::start(Kind::Redis).await;
    let store = patient(&server.url());
    let cache = store.near_cache().await.unwrap();
    let clone = cache.clone();
    let is_one = || async { (trackers(&server).await == 1).then_some(()) };
    eventually("one connection", is_one).await;
    drop(cache);
    settle(&clone, &store).await;
    eventually("one connection", is_one).await;
    drop(clone);
    let gone = || async { (trackers(&server).await == 0).then_some(()) };
    eventually("no connection", gone).await;

    // Also while it is cut off.
    let cache = store.near_cache().await.unwrap();
    server.kill9().await;
    let (id, cut_off) = (new_id(), &cache);
    let is_cut_off = || async move {
        let found = cut_off.get(&id).await.unwrap();
        matches!(found, Cached::Miss(None)).then_some(())
    };
    eventually("cut off", is_cut_off).await;
    drop(cache);
    server.start_again().await;
    let (_, _) = create(&store).await;
    // An attempt that was under way may have succeeded.
    eventually("no connection", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_near_cache_that_can_not_be_is_refused() {
    let server = Server::start(Kind::Redis).await;
    let connection = connect(&server).await;
    order(
        &server,
        &[
            "ACL",
            "SETUSER",
            "app",
            "on",
            ">hunter2",
            "~*",
            "+@all",
            "-client|tracking",
        ],
    )
    .await;
    let port = server.port();
    for store in [
        RedisStore::from_connection(connection),
        patient(&Cluster::shared().await.url()),
        patient(&format!("redis://app:hunter2@127.0.0.1:{port}")),
        patient(&format!("redis://app:wrong@127.0.0.1:{port}")),
    ] {
        let error = store.near_cache().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Other, "{error:?}");
        let shown = format!("{error:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("session:"),
            "{shown}"
        );
    }
    assert_eq!(trackers(&server).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_near_cache_without_a_server_is_an_error_in_time() {
    let timeout = Duration::from_millis(300);
    let store = RedisStore::open("redis://127.0.0.1:1").unwrap();
    let began = Instant::now();
    let error = store.with_timeout(timeout).near_cache().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    assert!(began.elapsed() < timeout + Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_least_rights_has_a_near_cache() {
    let server = Server::start(Kind::Redis).await;
    let rights = "ACL SETUSER app on >hunter2 ~tower-keep:* +get +eval +evalsha +set +del +unlink +pexpire +psetex +client|tracking +info +ping";
    order(&server, &rights.split(' ').collect::<Vec<_>>()).await;
    let url = format!("redis://app:hunter2@127.0.0.1:{}", server.port());
    let store = patient(&url);
    let cache = store.near_cache().await.unwrap();
    let other = patient(&server.url());
    let (id, first) = create(&other).await;
    eventually("a copy", || async {
        read(&cache, &store, &id).await;
        copy(&cache, &id).await
    })
    .await;
    let _ = other
        .update(&id, &next(&first), first.version)
        .await
        .unwrap();
    until_gone(&cache, &id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_are_there_as_soon_as_a_write_is_done() {
    const WRITES: usize = 500;
    let place = Place::new(Which::Single).await;
    let (store, other) = (place.store(), place.store());
    let cache = store.near_cache().await.unwrap();
    let (id, mut present) = create(&other).await;
    let started = Instant::now();
    loop {
        let mut delays = Vec::new();
        for _ in 0..WRITES {
            bring(&cache, &store, &id).await;
            let newer = next(&present);
            let updated = other.update(&id, &newer, present.version).await;
            assert_eq!(updated.unwrap(), Updated::Done);
            let done = Instant::now();
            while copy(&cache, &id).await.is_some_and(|copy| copy != newer) {
                assert!(done.elapsed() < PATIENCE, "nobody told of the write");
                tokio::task::yield_now().await;
            }
            delays.push(done.elapsed());
            present = newer;
        }
        delays.sort();
        let at = |percent: usize| delays[(WRITES - 1) * percent / 100];
        eprintln!(
            "told after a write was done: median {:?}, 99% {:?}, longest {:?}",
            at(50),
            at(99),
            at(100)
        );
        // They are sent with the answer; then it is a matter of who has a core.
        if at(50) < Duration::from_millis(100) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{:?}", at(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_no_sessions_are_ignored() {
    let place = Place::new(Which::Single).await;
    let store = place.store();
    let cache = store.near_cache().await.unwrap();
    let (id, first) = create(&store).await;
    let stays = eventually("a copy that stays", || async {
        settle(&cache, &store).await;
        bring(&cache, &store, &id).await;
        for key in ["session:", "session:short", "session:\u{e9}", "user:ada"] {
            place.set(&format!("{}:{key}", place.prefix), b"x").await;
        }
        let longer = session_key(&place.prefix, &id) + "A";
        place.set(&longer, b"x").await;
        settle(&cache, &store).await;
        // It also goes when the server is silent for long.
        copy(&cache, &id).await
    });
    assert_eq!(stays.await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_leads_to_another_server_than_the_stores_makes_no_cache() {
    let servers = [
        Server::start(Kind::Redis).await,
        Server::start(Kind::Redis).await,
    ];
    let crossroads = Crossroads::to(servers.each_ref().map(Server::address)).await;
    let store = patient(&format!("redis://{}", crossroads.address));
    let (id, _) = create(&store).await;
    crossroads.turn_to(1);
    let hasty = store.clone().with_timeout(Duration::from_secs(1));
    eventually("the reason", || async {
        let refused = hasty.near_cache().await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
        let why = std::error::Error::source(&refused).unwrap().to_string();
        why.contains("another server").then_some(())
    })
    .await;
    assert!(
        store.load(&id).await.unwrap().is_some(),
        "its connection stays"
    );
    crossroads.turn_to(0);
    let cache = store.near_cache().await.unwrap();
    bring(&cache, &store, &id).await;
    assert!(store.delete(&id).await.unwrap());
    until_gone(&cache, &id).await;
}

/// An address that leads new connections to one server or the other.
struct Crossroads {
    address: SocketAddr,
    way: Arc<AtomicUsize>,
}

impl Crossroads {
    async fn to(servers: [SocketAddr; 2]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = Arc::<AtomicUsize>::default();
        let turned = Arc::clone(&way);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = TcpStream::connect(servers[turned.load(SeqCst)]).await;
                let mut server = server.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        });
        Self { address, way }
    }

    fn turn_to(&self, server: usize) {
        self.way.store(server, SeqCst);
    }
}
