//! Sessions in a cluster that get another id all the time, while one node after another hangs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use tokio::task::JoinHandle;
use tower_keep::{Created, Record, RecordId, RedisStore, Rotated, SessionStore};
use tower_keep_servers::Cluster;

use super::rotation::{LIMIT, known, look};
use crate::{
    redis_places::patient,
    sql_places::{HOUR, new_id, next, now, record},
    support::eventually,
};

const HOPPERS: usize = 6;
const HOPS: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_rotates_all_the_time_always_has_a_live_id_while_one_node_after_another_hangs()
 {
    let cluster = Cluster::start().await;
    let crowd = Crowd::start(&patient(&cluster.url())).await;
    for server in &cluster.servers()[..3] {
        crowd.each_has("rotations", HOPS, |it| &it.hops).await;
        server.pause().await;
        // Each is stopped at some step sooner or later.
        crowd.each_has("failures", 1, |it| &it.failures).await;
        server.resume().await;
    }
    crowd.each_has("rotations", HOPS, |it| &it.hops).await;
    crowd.stop().await;
}

/// Sessions that go from id to id.
struct Crowd {
    members: Vec<(Arc<Progress>, JoinHandle<()>)>,
    stop: Arc<AtomicBool>,
}

#[derive(Default)]
struct Progress {
    hops: AtomicU64,
    /// Calls that were not answered in time: rotations, and loads of one who was told that it is done.
    failures: AtomicU64,
    failed_rotations: AtomicU64,
}

impl Crowd {
    async fn start(store: &RedisStore) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut members = Vec::new();
        for number in 0..HOPPERS {
            let (id, user) = (new_id(), format!("hopper-{number}"));
            let present = record(now(), HOUR, Some(&user));
            assert_eq!(store.create(&id, &present).await.unwrap(), Created::Done);
            let progress = Arc::<Progress>::default();
            let hopper = Hopper {
                store: store.clone().with_timeout(LIMIT),
                id,
                present,
                progress: Arc::clone(&progress),
            };
            members.push((progress, tokio::spawn(hopper.run(Arc::clone(&stop)))));
        }
        Self { members, stop }
    }

    /// Waits until each has so many more.
    async fn each_has(&self, what: &str, more: u64, of: fn(&Progress) -> &AtomicU64) {
        let count = |progress: &Arc<Progress>| of(progress).load(SeqCst);
        let members = self.members.iter();
        let before: Vec<u64> = members.map(|(progress, _)| count(progress)).collect();
        eventually(what, || async {
            let mut pairs = self.members.iter().zip(&before);
            let all = pairs.all(|((progress, _), before)| count(progress) >= before + more);
            // One that has panicked is heard of by `stop`.
            let ended = self.members.iter().any(|(_, task)| task.is_finished());
            (all || ended).then_some(())
        })
        .await;
    }

    async fn stop(self) {
        self.stop.store(true, SeqCst);
        let (mut hops, mut failed) = (0, 0);
        for (progress, task) in self.members {
            task.await.unwrap();
            hops += progress.hops.load(SeqCst);
            failed += progress.failed_rotations.load(SeqCst);
        }
        eprintln!("{hops} rotations, {failed} more attempts failed");
        assert!(failed > 0, "nothing was tried");
    }
}

struct Hopper {
    store: RedisStore,
    id: RecordId,
    present: Record,
    progress: Arc<Progress>,
}

impl Hopper {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(SeqCst) {
            self.hop().await;
            self.progress.hops.fetch_add(1, SeqCst);
        }
    }

    /// Moves to another id, however many attempts that takes, and somebody looks at both all the time.
    async fn hop(&mut self) {
        let (new, after) = (new_id(), next(&self.present));
        let is_done = AtomicBool::new(false);
        let moves = async {
            self.rotate(&new, &after).await;
            is_done.store(true, SeqCst);
        };
        let looks = async {
            let ids = [(&self.id, &self.present), (&new, &after)];
            while !is_done.load(SeqCst) {
                look(&self.store, ids).await;
            }
        };
        tokio::join!(moves, looks);
        assert_eq!(self.load(&self.id).await, None);
        assert_eq!(self.load(&new).await.as_ref(), Some(&after));
        (self.id, self.present) = (new, after);
    }

    async fn rotate(&self, new: &RecordId, after: &Record) {
        eventually("a rotation", || async {
            let expected = self.present.version;
            let rotated = self.store.rotate(&self.id, new, after, expected).await;
            let Some(rotated) = known(rotated) else {
                self.progress.failed_rotations.fetch_add(1, SeqCst);
                self.progress.failures.fetch_add(1, SeqCst);
                return None;
            };
            assert_eq!(rotated, Rotated::Done);
            Some(())
        })
        .await;
    }

    async fn load(&self, id: &RecordId) -> Option<Record> {
        eventually("a load", || async {
            let found = known(self.store.load(id).await);
            if found.is_none() {
                self.progress.failures.fetch_add(1, SeqCst);
            }
            found
        })
        .await
    }
}
