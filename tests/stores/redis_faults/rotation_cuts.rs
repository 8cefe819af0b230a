//! Rotations in a cluster whose connections are cut on their way.

use tower_keep::Rotated;
use tower_keep_servers::{
    Cluster,
    Direction::{self, ToClient, ToServer},
    FaultProxy, Server,
};

use super::rotation::ways;
use crate::{
    redis_places::{order, patient},
    support::{eventually, one_in, some_of},
};

/// A proxy before each primary, which is what the cluster tells its clients of.
async fn with_proxies(cluster: &Cluster) -> Vec<FaultProxy> {
    let primaries = &cluster.servers()[..3];
    let mut proxies = Vec::new();
    for server in primaries {
        let proxy = FaultProxy::to(server.address()).await;
        let port = proxy.port().to_string();
        order(server, &["CONFIG", "SET", "cluster-announce-port", &port]).await;
        proxies.push(proxy);
    }
    eventually("proxies that all know of", || async {
        for server in cluster.servers() {
            let slots = order(server, &["CLUSTER", "SLOTS"]).await;
            let knows = |port: u16| slots.lines().any(|line| line == port.to_string());
            let is_told = proxies.iter().map(FaultProxy::port).all(knows)
                && !primaries.iter().map(Server::port).any(knows);
            if !is_told {
                return None;
            }
        }
        Some(())
    })
    .await;
    proxies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_in_a_cluster_that_is_cut_at_any_byte_is_done_once() {
    let cluster = Cluster::start().await;
    let proxies = with_proxies(&cluster).await;
    let store = patient(&cluster.url());
    let measured = measure(&cluster, &proxies).await;
    let mut places: Vec<(usize, Direction, u64)> = Vec::new();
    for (node, direction, bytes) in measured {
        assert!(bytes > 0, "{node} {direction:?} has no part in it");
        places.extend((0..bytes).map(|after| (node, direction, after)));
    }
    let (mut tried, mut cuts) = (0, 0);
    for (node, direction, after) in some_of(places, one_in(24)) {
        let place = format!("{node} {direction:?} {after}");
        let way = &ways(&cluster, &store, 1).await[0];
        let proxy = &proxies[node];
        let before = proxy.traffic().cuts;
        match after % 2 {
            0 => proxy.cut_after(direction, after),
            _ => proxy.reset_after(direction, after),
        }
        assert_eq!(way.rotates().await, Rotated::Done, "{place}");
        way.lives_at(&way.new, &way.after).await;
        proxy.heal();
        // Numbers may have a digit less than those that were measured.
        cuts += proxy.traffic().cuts - before;
        tried += 1;
    }
    assert!(cuts * 10 > tried * 9, "{cuts} cuts in {tried}");
}

/// How many bytes of a rotation go to each node and back.
async fn measure(cluster: &Cluster, proxies: &[FaultProxy]) -> Vec<(usize, Direction, u64)> {
    let store = patient(&cluster.url());
    let ways = ways(cluster, &store, 2).await;
    let [first, way] = &ways[..] else {
        panic!("two");
    };
    // Makes the connections, and tells the servers the scripts.
    assert_eq!(first.rotates().await, Rotated::Done);
    first.lives_at(&first.new, &first.after).await;
    let before: Vec<_> = proxies.iter().map(FaultProxy::traffic).collect();
    assert_eq!(way.rotates().await, Rotated::Done);
    let exchange = proxies.iter().map(FaultProxy::traffic).zip(before);
    let exchange = exchange.enumerate().flat_map(|(node, (after, before))| {
        [
            (node, ToServer, after.to_server - before.to_server),
            (node, ToClient, after.to_client - before.to_client),
        ]
    });
    exchange.collect()
}
