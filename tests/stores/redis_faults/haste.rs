//! Operations with little time, while the server that they need hangs.

use std::time::{Duration, Instant};

use tower_keep::{Created, RecordId, RedisStore, SessionStore};
use tower_keep_servers::{Cluster, Kind, Sentinels, Server};

use super::{gives_up_in_time, in_time, recovers};
use crate::{
    redis_places::{patient, session_key},
    sql_places::{HOUR, new_id, next, now, record},
};

const TIMEOUT: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_server_that_hangs_each_operation_gives_up_in_its_time_and_works_when_it_goes_on() {
    let server = Server::start(Kind::Redis).await;
    let ids = [new_id(), new_id(), new_id()];
    each_gives_up(&patient(&server.url()), &server, ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_sentinels_each_operation_gives_up_in_its_time_and_works_when_the_primary_goes_on() {
    let set = Sentinels::start().await;
    let ids = [new_id(), new_id(), new_id()];
    each_gives_up(&patient(&set.url()), set.primary().await, ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_each_operation_gives_up_in_its_time_and_works_when_its_node_goes_on() {
    let cluster = Cluster::start().await;
    let server = &cluster.servers()[0];
    let mut ids = Vec::new();
    while ids.len() < 3 {
        let id = new_id();
        let key = session_key("tower-keep", &id);
        if cluster.primary_of(key.as_bytes()).await.port() == server.port() {
            ids.push(id);
        }
    }
    each_gives_up(&patient(&cluster.url()), server, [ids[0], ids[1], ids[2]]).await;
}

/// Whatever it is: the system takes connections for it, and nobody answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_operation_of_a_store_gives_up_in_its_time_where_everybody_is_silent() {
    let server = Server::start(Kind::Redis).await;
    let set = Sentinels::start().await;
    let cluster = Cluster::start().await;
    let urls = [server.url(), set.url(), cluster.url()];
    for server in [&server]
        .into_iter()
        .chain(set.sentinels())
        .chain(cluster.servers())
    {
        server.pause().await;
    }
    let first = record(now(), HOUR, None);
    for url in &urls {
        let store = || RedisStore::open(url).unwrap().with_timeout(TIMEOUT);
        gives_up_in_time(TIMEOUT, async || store().load(&new_id()).await).await;
        gives_up_in_time(TIMEOUT, async || store().create(&new_id(), &first).await).await;
    }
    // A store that nobody answered is well as soon as they do.
    let stores = urls.map(|url| patient(&url));
    let loads = stores.map(|store| tokio::spawn(async move { store.load(&new_id()).await }));
    for server in [&server]
        .into_iter()
        .chain(set.sentinels())
        .chain(cluster.servers())
    {
        server.resume().await;
    }
    for load in loads {
        assert_eq!(load.await.unwrap().unwrap(), None);
    }
}

async fn each_gives_up(patient: &RedisStore, server: &Server, [id, new, other]: [RecordId; 3]) {
    let first = record(now(), HOUR, None);
    let second = next(&first);
    let (version, later) = (first.version, first.expires_at);
    assert_eq!(patient.create(&id, &first).await.unwrap(), Created::Done);
    let store = patient.clone().with_timeout(TIMEOUT);
    server.pause().await;
    for _ in 0..2 {
        gives_up_in_time(TIMEOUT, || store.load(&id)).await;
        gives_up_in_time(TIMEOUT, || store.create(&other, &first)).await;
        gives_up_in_time(TIMEOUT, || store.touch(&id, later, version)).await;
        gives_up_in_time(TIMEOUT, || store.update(&id, &second, version)).await;
        gives_up_in_time(TIMEOUT, || store.rotate(&id, &new, &second, version)).await;
        gives_up_in_time(TIMEOUT, || store.delete(&other)).await;
    }
    server.resume().await;
    let returned = Instant::now();
    // What it had been sent it has done: the update or the rotation, whichever came first.
    let [here, there] = [&id, &new].map(|id| {
        recovers("a store that gave up", returned, || async {
            in_time(TIMEOUT, store.load(id)).await.ok()
        })
    });
    let (here, there) = (here.await, there.await);
    assert!(here.is_some() || there.is_some(), "it is lost");
    for found in [here, there].into_iter().flatten() {
        assert!(found == first || found == second, "{found:?}");
    }
}
