//! Redis with replicas: a set that Sentinels watch, and a cluster.

use tower_keep_servers::{Cluster, Kind, Sentinels, Server};

#[tokio::test]
async fn a_redis_command_has_its_reply_as_text() {
    let server = Server::shared(Kind::Redis).await;
    for (command, reply) in [
        (&["PING"][..], "PONG"),
        (&["GET", "nothing"], ""),
        (&["SET", "texts:1", "two\r\nlines"], "OK"),
        (&["GET", "texts:1"], "two\r\nlines"),
        (
            &["MGET", "texts:1", "nothing", "texts:1"],
            "two\r\nlines\n\ntwo\r\nlines",
        ),
        (&["EXISTS", "texts:1"], "1"),
        (&["LRANGE", "nothing", "0", "-1"], ""),
        (&["EVAL", "return {1, {'a', {}}, 'b'}", "0"], "1\na\nb"),
    ] {
        assert_eq!(server.redis_command(command).await.unwrap(), reply);
    }
    let error = server.redis_command(&["INCR", "texts:1"]).await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .starts_with("ERR value is not")
    );
}

#[tokio::test]
async fn sentinels_name_a_primary_whose_replicas_have_its_data() {
    let set = Sentinels::shared().await;
    let primary = set.primary().await;
    let addresses: Vec<String> = set
        .sentinel_addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        set.url(),
        format!("redis+sentinel://{}/sessions", addresses.join(","))
    );
    assert_eq!((set.servers().len(), set.sentinels().len()), (3, 3));
    primary.redis_command(&["SET", "alice", "7"]).await.unwrap();
    replicated(primary, 2).await;
    for server in set.servers() {
        assert_eq!(server.redis_command(&["GET", "alice"]).await.unwrap(), "7");
        let written = server.redis_command(&["SET", "bob", "8"]).await;
        assert_eq!(written.is_ok(), server.port() == primary.port());
    }
}

#[tokio::test]
async fn a_primary_that_dies_is_replaced_by_the_sentinels_and_returns_as_a_replica() {
    let set = Sentinels::start().await;
    let old = set.primary().await;
    old.redis_command(&["SET", "alice", "7"]).await.unwrap();
    replicated(old, 2).await;
    old.kill9().await;
    assert_eq!(set.primary().await.port(), old.port());
    let new = set.replace(old).await;
    assert_ne!(new.port(), old.port());
    assert_eq!(new.redis_command(&["GET", "alice"]).await.unwrap(), "7");
    new.redis_command(&["SET", "alice", "8"]).await.unwrap();
    old.start_again().await;
    set.wait_until_replica(old).await;
    assert_ne!(set.primary().await.port(), old.port());
    assert_eq!(old.redis_command(&["GET", "alice"]).await.unwrap(), "8");
    // What it was told to be, it also is when it starts once more.
    old.kill9().await;
    old.start_again().await;
    assert!(
        old.redis_command(&["ROLE"])
            .await
            .unwrap()
            .starts_with("slave\n")
    );
}

#[tokio::test]
async fn a_slot_of_a_cluster_is_owned_by_one_of_three_primaries() {
    let cluster = Cluster::shared().await;
    assert_eq!(cluster.servers().len(), 6);
    for (slot, owner) in [
        (0, 0),
        (5460, 0),
        (5461, 1),
        (10_921, 1),
        (10_922, 2),
        (16_383, 2),
    ] {
        let primary = cluster.primary_of_slot(slot).await;
        assert_eq!(primary.port(), cluster.servers()[owner].port(), "{slot}");
    }
    assert_eq!(cluster.slot_of(b"alice").await, 749);
    for server in cluster.servers() {
        let moved = format!("MOVED 749 {}", cluster.servers()[0].address());
        match server.redis_command(&["SET", "alice", "7"]).await {
            Ok(reply) => assert_eq!(
                (server.port(), &*reply),
                (cluster.servers()[0].port(), "OK")
            ),
            Err(error) => assert_eq!(error.to_string(), moved),
        }
    }
}

#[tokio::test]
async fn a_primary_of_a_cluster_that_dies_is_replaced_by_its_replica_and_returns_as_one() {
    let cluster = Cluster::start().await;
    let old = cluster.primary_of(b"alice").await;
    old.redis_command(&["SET", "alice", "7"]).await.unwrap();
    replicated(old, 1).await;
    old.kill9().await;
    // The other slots are not concerned.
    let other = cluster.primary_of(b"bob").await;
    assert_ne!(other.port(), old.port());
    other.redis_command(&["SET", "bob", "7"]).await.unwrap();
    let new = cluster.replace(old).await;
    assert_eq!(cluster.primary_of(b"alice").await.port(), new.port());
    cluster.wait_until_whole().await;
    assert_eq!(new.redis_command(&["GET", "alice"]).await.unwrap(), "7");
    new.redis_command(&["SET", "alice", "8"]).await.unwrap();
    old.start_again().await;
    cluster.wait_until_replica(old).await;
    assert_eq!(cluster.primary_of(b"alice").await.port(), new.port());
}

#[tokio::test]
async fn primaries_that_are_paused_are_replaced_and_go_on_as_replicas() {
    let (set, cluster) = tokio::join!(Sentinels::start(), Cluster::start());
    let (watched, node) = (set.primary().await, cluster.primary_of(b"alice").await);
    watched.pause().await;
    node.pause().await;
    assert_ne!(set.replace(watched).await.port(), watched.port());
    assert_ne!(cluster.replace(node).await.port(), node.port());
    assert_ne!(cluster.primary_of(b"alice").await.port(), node.port());
    watched.resume().await;
    node.resume().await;
    set.wait_until_replica(watched).await;
    cluster.wait_until_replica(node).await;
    cluster.wait_until_whole().await;
}

#[tokio::test]
async fn sets_can_be_awaited_on_any_thread() {
    let task = tokio::spawn(async {
        let (set, cluster) = tokio::join!(Sentinels::shared(), Cluster::shared());
        let primary = set.primary().await.port();
        let owner = cluster.primary_of(b"alice").await.port();
        (primary, owner)
    });
    let (primary, owner) = task.await.unwrap();
    assert_eq!(primary, Sentinels::shared().await.primary().await.port());
    assert_eq!(owner, Cluster::shared().await.servers()[0].port());
}

#[tokio::test]
async fn a_slot_that_moves_is_asked_for_and_then_has_moved() {
    let cluster = Cluster::start().await;
    let slot = cluster.slot_of(b"{alice}1").await;
    let from = cluster.primary_of_slot(slot).await;
    let to = cluster.primary_of(b"bob").await;
    assert_ne!(from.port(), to.port());
    from.redis_command(&["SET", "{alice}1", "7"]).await.unwrap();
    let get = &["GET", "{alice}1"];
    cluster.begin_migration(slot, from, to).await;
    assert_eq!(from.redis_command(get).await.unwrap(), "7");
    let absent = from.redis_command(&["GET", "{alice}2"]).await.unwrap_err();
    assert_eq!(absent.to_string(), format!("ASK {slot} {}", to.address()));
    cluster.move_keys(slot, from, to).await;
    let asked = from.redis_command(get).await.unwrap_err();
    assert_eq!(asked.to_string(), format!("ASK {slot} {}", to.address()));
    assert_eq!(cluster.primary_of_slot(slot).await.port(), from.port());
    cluster.finish_migration(slot, from, to).await;
    let moved = from.redis_command(get).await.unwrap_err();
    assert_eq!(moved.to_string(), format!("MOVED {slot} {}", to.address()));
    assert_eq!(to.redis_command(get).await.unwrap(), "7");
    assert_eq!(cluster.primary_of_slot(slot).await.port(), to.port());
    cluster.wait_until_whole().await;
}

/// Returns when that many replicas have what the primary has now. `WAIT` counts only what its own connection has written.
async fn replicated(primary: &Server, replicas: usize) {
    let offsets = async |name: &str| -> Vec<u64> {
        let info = primary.redis_command(&["INFO", "replication"]).await;
        let info = info.unwrap();
        let words = info.split(['\r', '\n', ',']);
        let values = words.filter_map(|word| word.strip_prefix(name));
        values.map(|value| value.parse().unwrap()).collect()
    };
    let written = offsets("master_repl_offset:").await[0];
    let all = async {
        while offsets("offset=")
            .await
            .iter()
            .filter(|&&read| read >= written)
            .count()
            < replicas
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::PATIENCE, all).await.unwrap();
}
