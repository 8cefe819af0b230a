//! Failovers in a cluster while requests go on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tower_keep::SessionStore;
use tower_keep_servers::{Cluster, Server};

use super::{
    in_time,
    load::{Client, Load},
    recovers,
};
use crate::{
    redis_places::{id_of, order, patient, session_key},
    support::{Browser, app, eventually, layer_over},
};

const CLIENTS: usize = 20;
const DIRECT: usize = 10;
const COUNTS: u64 = 10;
/// Of those who are served while a server is down that nobody has replaced.
const COUNTS_BESIDE: u64 = 2;

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
        let store = patient(&cluster.url());
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

    /// Has the server go down in that way, and another one replace it. Until then the others are served.
    async fn meets(&self, down: impl AsyncFn(&Server)) -> Times {
        let hurried = self.load.hurry(&self.there).await;
        down(self.server()).await;
        self.load.counts_of(&self.elsewhere, COUNTS_BESIDE).await;
        self.cluster.replace(self.server()).await;
        let promoted = Instant::now();
        let answers = || self.load.answers(&self.there[0]);
        recovers("after the promotion", promoted, answers).await;
        let calmed = self.load.calm();
        let lost = self.load.next_round_after_outage().await;
        eprintln!(
            "replaced after {:?}; all served {:?} later; {lost} acknowledged counts were lost",
            promoted - hurried,
            promoted.elapsed()
        );
        self.load.counts(COUNTS).await;
        let back = Instant::now();
        Times {
            hurried,
            promoted,
            calmed,
            back,
        }
    }

    async fn stop(self, times: Times) {
        self.cluster.wait_until_replica(self.server()).await;
        self.load.counts(COUNTS).await;
        let Self {
            load,
            there,
            elsewhere,
            cluster,
        } = self;
        load.stop().await;
        let Times {
            hurried,
            promoted,
            calmed,
            back,
        } = times;
        let failures: Vec<_> = there.iter().flat_map(|client| client.failures()).collect();
        let last = failures.iter().map(|failure| failure.began).max();
        let last = last.map(|last| last.saturating_duration_since(promoted));
        eprintln!(
            "{} requests failed; the last one began {last:?} after the promotion",
            failures.len()
        );
        for failure in &failures {
            assert!(failure.ended >= hurried, "before the outage: {failure:?}");
            assert!(failure.began < calmed, "after the promotion: {failure:?}");
            assert!(failure.ended < back, "when it was back: {failure:?}");
        }
        let failed = elsewhere.iter().flat_map(|client| client.failures());
        let failed: Vec<_> = failed
            .map(|failure| (failure.began - hurried, failure.ended - failure.began))
            .collect();
        assert!(failed.is_empty(), "of other servers: {failed:?}");
        drop(cluster);
    }
}

struct Times {
    /// When those whose server goes down began to be in a hurry, and when no more.
    hurried: Instant,
    calmed: Instant,
    promoted: Instant,
    /// Before the server came back.
    back: Instant,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_killed_under_load_is_replaced_and_sessions_of_the_others_do_not_notice() {
    let outage = Outage::new().await;
    let times = outage.meets(async |server: &Server| server.kill9().await);
    let times = times.await;
    outage.server().start_again().await;
    outage.stop(times).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hangs_under_load_is_replaced_and_sessions_of_the_others_do_not_notice() {
    let outage = Outage::new().await;
    let times = outage.meets(async |server: &Server| server.pause().await);
    let times = times.await;
    outage.server().resume().await;
    outage.stop(times).await;
}

/// As with the settings of Redis, by which all of a cluster is down while one slot has no owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_down_for_a_slot_without_owner_is_a_503_in_time_and_waited_for() {
    let cluster = Cluster::start().await;
    let store = patient(&cluster.url());
    let mut browser = Browser::new(&app(layer_over(store.clone())));
    browser.post("/count/n").await.assert_ok();
    let id = id_of(&browser);
    let key = session_key("tower-keep", &id);
    // Of another server, for which nobody would have to be down.
    let slot = cluster.slot_of(key.as_bytes()).await.wrapping_add(8000) % 16384;
    let owner = cluster.primary_of_slot(slot).await;
    let slot = slot.to_string();
    for server in cluster.servers() {
        let whole = ["CONFIG", "SET", "cluster-require-full-coverage", "yes"];
        order(server, &whole).await;
    }
    let server = cluster.primary_of(key.as_bytes()).await;
    eventually("a cluster that is down", || async {
        // One that has not let go of it yet may give it back to the others.
        for server in cluster.servers() {
            let _ = server.redis_command(&["CLUSTER", "DELSLOTS", &slot]).await;
        }
        let error = server.redis_command(&["GET", &key]).await.err()?;
        error.to_string().contains("CLUSTERDOWN").then_some(())
    })
    .await;

    let hasty = store.clone().with_timeout(HASTE);
    let mut late = Browser::new(&app(layer_over(hasty.clone())));
    late.set_cookie("__Host-id", browser.id().unwrap());
    for path in ["/count/n", "/cycle", "/logout"] {
        let answer = late.post(path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.set_cookies(), [""; 0], "{path}");
    }
    let error = in_time(HASTE, hasty.load(&id)).await.unwrap_err();
    assert!(format!("{error:?}").contains("CLUSTERDOWN"), "{error:?}");

    let waiting = tokio::spawn(async move {
        let answer = browser.post("/count/n").await;
        (browser, answer)
    });
    order(owner, &["CLUSTER", "ADDSLOTS", &slot]).await;
    let (mut browser, answer) = waiting.await.unwrap();
    assert_eq!(
        answer.assert_ok().body,
        "2",
        "what was refused was not done"
    );
    assert_eq!(browser.post("/count/n").await.assert_ok().body, "3");
}

const HASTE: Duration = Duration::from_millis(300);
