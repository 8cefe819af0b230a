//! Failovers in a cluster while requests go on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tower_keep::RedisStore;
use tower_keep_servers::{Cluster, Server};

use super::{
    CUSHION,
    load::{Client, Load},
    recovers,
};

const CLIENTS: usize = 20;
const DIRECT: usize = 10;
const COUNTS: u64 = 10;

/// Clients whose session is on that server, and all others.
async fn split(
    cluster: &Cluster,
    clients: &[Arc<Client>],
    server: &Server,
) -> (Vec<Arc<Client>>, Vec<Arc<Client>>) {
    let (mut there, mut elsewhere) = (Vec::new(), Vec::new());
    for client in clients {
        let primary = cluster.primary_of(client.key.as_bytes()).await;
        match primary.port() == server.port() {
            true => there.push(Arc::clone(client)),
            false => elsewhere.push(Arc::clone(client)),
        }
    }
    (there, elsewhere)
}

struct Outage {
    cluster: Cluster,
    load: Load,
    there: Vec<Arc<Client>>,
    elsewhere: Vec<Arc<Client>>,
}

impl Outage {
    async fn new() -> Self {
        let cluster = Cluster::start().await;
        let store = RedisStore::open(&cluster.url()).unwrap();
        let load = Load::start(&store, CLIENTS, DIRECT).await;
        load.counts(COUNTS).await;
        let server = &cluster.servers()[1];
        let (there, elsewhere) = split(&cluster, load.clients(), server).await;
        assert!(!there.is_empty() && !elsewhere.is_empty());
        Self {
            cluster,
            load,
            there,
            elsewhere,
        }
    }

    fn server(&self) -> &Server {
        &self.cluster.servers()[1]
    }

    /// Waits until another server has its slots; meanwhile the others are served.
    async fn until_replaced(&self, down: Instant) -> Instant {
        self.load.counts_of(&self.elsewhere, COUNTS).await;
        let key = self.there[0].key.as_bytes();
        let slot = self.cluster.slot_of(key).await;
        loop {
            let primary = self.cluster.primary_of_slot(slot).await;
            if primary.port() != self.server().port() {
                break;
            }
            assert!(down.elapsed() < crate::redis_places::PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let promoted = Instant::now();
        let answers = || self.load.answers(&self.there[0]);
        recovers("after the promotion", promoted, answers).await;
        let lost = self.load.next_round().await;
        eprintln!(
            "replaced after {:?}; all served {:?} later; {lost} acknowledged counts were lost",
            promoted - down,
            promoted.elapsed()
        );
        self.load.counts(COUNTS).await;
        promoted
    }

    async fn stop(self, down: Instant, promoted: Instant, back: Instant) {
        let Self {
            load,
            there,
            elsewhere,
            cluster,
        } = self;
        load.stop().await;
        let failures: Vec<_> = there.iter().flat_map(|client| client.failures()).collect();
        let last = failures.iter().map(|failure| failure.began).max();
        let last = last.map(|last| last.saturating_duration_since(promoted));
        eprintln!(
            "{} requests failed; the last one began {last:?} after the promotion",
            failures.len()
        );
        for failure in &failures {
            assert!(failure.ended >= down, "before the outage: {failure:?}");
            let limit = promoted + Duration::from_secs(1) + CUSHION;
            assert!(failure.began < limit, "after the promotion: {failure:?}");
            assert!(failure.ended < back, "when it was back: {failure:?}");
        }
        let failed = elsewhere.iter().flat_map(|client| client.failures());
        let failed: Vec<_> = failed
            .map(|failure| (failure.began - down, failure.ended - failure.began))
            .collect();
        assert!(failed.is_empty(), "of other servers: {failed:?}");
        drop(cluster);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_killed_under_load_is_replaced_and_sessions_of_the_others_do_not_notice() {
    let outage = Outage::new().await;
    let down = Instant::now();
    outage.server().kill9().await;
    let promoted = outage.until_replaced(down).await;
    let back = Instant::now();
    outage.server().start_again().await;
    outage.cluster.wait_until_replica(outage.server()).await;
    outage.load.counts(COUNTS).await;
    outage.stop(down, promoted, back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hangs_under_load_is_replaced_and_sessions_of_the_others_do_not_notice() {
    let outage = Outage::new().await;
    let down = Instant::now();
    outage.server().pause().await;
    let promoted = outage.until_replaced(down).await;
    let back = Instant::now();
    outage.server().resume().await;
    outage.cluster.wait_until_replica(outage.server()).await;
    outage.load.counts(COUNTS).await;
    outage.stop(down, promoted, back).await;
}
