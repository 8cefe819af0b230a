//! What the user of an access control list has to be allowed, as the page of `RedisStore` says.

use redis::{
    ConnectionAddr,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};
use tower_keep::{
    Cached, Created, Record, RecordCache, RedisCache, RedisStore, Rotated, ScanSessions,
    SessionStore, StoreError, StoreErrorKind, Updated, UserSessions,
};
use tower_keep_servers::{Cluster, Kind, Sentinels, Server};

use crate::{
    redis_places::{order, patient},
    sql_places::{HOUR, new_id, next, now, record},
    support::PATIENCE,
};

const RIGHTS: &str = "+get +getrange +set +setrange +pttl +pexpire +eval +evalsha +scan +info \
    +zadd +zcard +zrange +zrem +zremrangebyscore";
/// For a server whose memory is full, and in a cluster to take back a rotation.
const AT_TIMES: &str = "+del";
const OF_A_CACHE: &str = "+get +getrange +set +setrange +del +eval +evalsha +time";
const UNDER_SENTINELS: &str = "+role";
const IN_A_CLUSTER: &str = "+cluster|slots";

/// Of the user of the lists, whose keys begin with `PREFIX:`.
const PASSWORD: &str = "hunter2";
const PREFIX: &str = "rights";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_takes_these_rights_and_no_fewer() {
    let server = Server::start(Kind::Redis).await;
    let url = format!("redis://app:{PASSWORD}@127.0.0.1:{}", server.port());
    allow(&server, RIGHTS).await;
    does_all(&store_at(&url)).await.unwrap();
    for missing in RIGHTS.split(' ') {
        let rest: Vec<&str> = RIGHTS
            .split(' ')
            .filter(|right| *right != missing)
            .collect();
        allow(&server, &rest.join(" ")).await;
        order(&server, &["SCRIPT", "FLUSH"]).await;
        let error = does_all(&store_at(&url)).await;
        let error = error.expect_err(missing);
        assert_eq!(error.kind(), StoreErrorKind::Other, "{missing}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_takes_these_rights_and_no_fewer() {
    let server = Server::start(Kind::Redis).await;
    let url = format!("redis://app:{PASSWORD}@127.0.0.1:{}", server.port());
    let cache = || {
        let cache = RedisCache::open(&url).unwrap();
        cache.with_prefix(PREFIX).with_timeout(PATIENCE)
    };
    allow(&server, OF_A_CACHE).await;
    caches_all(&cache()).await.unwrap();
    for missing in OF_A_CACHE.split(' ') {
        let rest: Vec<&str> = OF_A_CACHE
            .split(' ')
            .filter(|right| *right != missing)
            .collect();
        allow(&server, &rest.join(" ")).await;
        order(&server, &["SCRIPT", "FLUSH"]).await;
        let error = caches_all(&cache()).await.expect_err(missing);
        assert_eq!(error.kind(), StoreErrorKind::Other, "{missing}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_under_sentinels_also_tells_its_role() {
    let sentinels = Sentinels::shared().await;
    for server in sentinels.servers() {
        allow(server, &format!("{RIGHTS} {AT_TIMES} {UNDER_SENTINELS}")).await;
    }
    let user = format!("redis+sentinel://app:{PASSWORD}@");
    let url = sentinels.url().replace("redis+sentinel://", &user);
    does_all(&store_at(&url)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_also_tells_its_slots() {
    let cluster = Cluster::shared().await;
    let user = format!("redis+cluster://app:{PASSWORD}@");
    let url = cluster.url().replace("redis+cluster://", &user);
    for server in cluster.servers() {
        allow(server, &format!("{RIGHTS} {AT_TIMES} {IN_A_CLUSTER}")).await;
    }
    does_all(&store_at(&url)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_may_ask_for_a_password_of_their_own() {
    let sentinels = Sentinels::start().await;
    for sentinel in sentinels.sentinels() {
        order(
            sentinel,
            &["ACL", "SETUSER", "default", ">of the sentinels"],
        )
        .await;
    }
    let addresses = sentinels.sentinel_addresses().into_iter();
    let addresses =
        addresses.map(|address| ConnectionAddr::Tcp(address.ip().to_string(), address.port()));
    let service = sentinels.service_name();
    let kind = SentinelServerType::Master;
    let client = SentinelClientBuilder::new(addresses, service, kind)
        .unwrap()
        .set_client_to_sentinel_password("of the sentinels")
        .build()
        .unwrap();
    does_all(&RedisStore::from_sentinel(client)).await.unwrap();
    let error = does_all(&patient(&sentinels.url())).await.unwrap_err();
    assert!(!format!("{error:?}").contains("of the sentinels"));
}

/// Gives the user these rights and no others.
async fn allow(server: &Server, rights: &str) {
    let (password, keys) = (format!(">{PASSWORD}"), format!("~{PREFIX}:*"));
    let mut words = vec!["ACL", "SETUSER", "app", "reset", "on", &password, &keys];
    words.extend(rights.split(' '));
    order(server, &words).await;
}

fn store_at(url: &str) -> RedisStore {
    patient(url).with_prefix(PREFIX)
}

/// Each operation of a cache.
async fn caches_all(cache: &RedisCache) -> Result<(), StoreError> {
    let first = record(now(), HOUR, None);
    let (id, second) = (new_id(), next(&first));
    let Cached::Miss(Some(ticket)) = cache.get(&id).await? else {
        panic!("there is room, and nothing there");
    };
    cache.fill(&id, &first, ticket).await?;
    cache.replace(&id, &second, first.version).await?;
    let later = second.expires_at.saturating_add(HOUR);
    cache.touch(&id, later, second.version).await?;
    let Cached::Hit(copy) = cache.get(&id).await? else {
        panic!("it was filled");
    };
    assert_eq!(copy.expires_at, later);
    cache.remove(&id).await
}

/// Each operation of a store.
async fn does_all(store: &RedisStore) -> Result<(), StoreError> {
    // An attempt before may have left sessions.
    let user = format!("ada {}", new_id().to_hex());
    let first = record(now(), HOUR, Some(&user));
    let user = first.user.as_ref().unwrap();
    let (id, new_id, other) = (new_id(), new_id(), new_id());
    assert_eq!(store.create(&id, &first).await?, Created::Done);
    assert_eq!(store.create(&other, &first).await?, Created::Done);
    let second = next(&first);
    let updated = store.update(&id, &second, first.version).await?;
    assert_eq!(updated, Updated::Done);
    let third = next(&second);
    let rotated = store.rotate(&id, &new_id, &third, second.version).await?;
    assert_eq!(rotated, Rotated::Done);
    let later = third.expires_at.saturating_add(HOUR);
    assert!(store.touch(&new_id, later, third.version).await?);
    let touched = Record {
        expires_at: later,
        ..third
    };
    assert_eq!(store.load(&new_id).await?, Some(touched));
    assert_eq!(store.sessions_of(user).await?.len(), 2);
    let page = store.scan(None, 10).await?;
    assert!(page.next.is_some() || page.sessions.len() >= 2);
    assert!(store.delete(&other).await?);
    let ended = store.delete_all_of(user, None).await?;
    assert_eq!(ended, [new_id]);
    assert_eq!(store.load(&new_id).await?, None);
    Ok(())
}
