//! Rotations in a cluster of which one node hangs or dies.
//!
//! A rotation there is several steps at up to three nodes: those of the old key, of the new one, and of the index.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tower_keep::{
    Created, Record, RecordId, RedisStore, Rotated, SessionStore, StoreError, StoreErrorKind,
    Updated, UserId, UserSessions,
};
use tower_keep_servers::{Cluster, Server};

use super::in_time;
use crate::{
    redis_places::{order, patient, session_key},
    sql_places::{HOUR, new_id, next, now, record},
    support::eventually,
};

/// Which primary has the old key, the new one, and the index of the user.
const OLD: usize = 0;
const NEW: usize = 1;
const INDEX: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_from_a_node_that_hangs_is_an_error_and_one_id_lives_when_it_goes_on() {
    let cluster = Cluster::start().await;
    let store = patient(&cluster.url());
    for _ in 0..2 {
        let ways = ways(&cluster, &store, 4).await;
        let server = &cluster.servers()[OLD];
        server.pause().await;
        with_each(&ways, |way| async move {
            way.fails().await;
            // Nobody is told that the session has ended.
            let found = in_time(LIMIT, way.hasty.load(&way.old)).await;
            found.unwrap_err();
            look(&way.hasty, way.ids()).await;
        })
        .await;
        server.resume().await;
        for way in &ways {
            way.one_lives().await;
            assert_eq!(way.rotates().await, Rotated::Done);
            way.lives_at(&way.new, &way.after).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_rotation_fails_as_another_node_hangs_goes_on_under_its_old_id() {
    let cluster = Cluster::start().await;
    let store = patient(&cluster.url());
    for hangs in [NEW, INDEX] {
        let ways = ways(&cluster, &store, 4).await;
        let server = &cluster.servers()[hangs];
        server.pause().await;
        with_each(&ways, |way| async move {
            way.fails().await;
            let found = at_last(|| way.store.load(&way.old)).await;
            assert_eq!(found.as_ref(), Some(&way.before));
        })
        .await;
        let way = &ways[0];
        if hangs == NEW {
            let found = in_time(LIMIT, way.hasty.load(&way.new)).await;
            found.unwrap_err();
        } else {
            assert_eq!(at_last(|| way.store.load(&way.new)).await, None);
        }
        let (written, left) = ways.split_at(2);
        let newer: Vec<Record> = written.iter().map(|way| next(&way.before)).collect();
        for (way, newer) in written.iter().zip(&newer) {
            let version = way.before.version;
            let updated = at_last(|| way.store.update(&way.old, newer, version)).await;
            assert_eq!(updated, Updated::Done);
        }
        server.resume().await;
        for (way, newer) in written.iter().zip(&newer) {
            way.lives_at(&way.old, newer).await;
            assert_eq!(way.rotates().await, Rotated::Conflict(newer.clone()));
            way.lives_at(&way.old, newer).await;
        }
        for way in left {
            way.lives_at(&way.old, &way.before).await;
            assert_eq!(way.rotates().await, Rotated::Done);
            way.lives_at(&way.new, &way.after).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_from_a_node_that_dies_are_done_once_with_its_replica() {
    rotations_outlive(OLD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_to_a_node_that_dies_are_done_once_with_its_replica() {
    rotations_outlive(NEW).await;
}

async fn rotations_outlive(node: usize) {
    const GROUP: usize = 3;
    let cluster = Cluster::start().await;
    let ways = ways(&cluster, &patient(&cluster.url()), 3 * GROUP).await;
    let (waiting, hasty) = ways.split_at(GROUP);
    let (early, late) = hasty.split_at(GROUP);
    // Replication is asynchronous; what is lost by that is not what is tried here.
    replicated(&cluster, node).await;
    let server = &cluster.servers()[node];
    server.pause().await;
    let rotations: Vec<_> = waiting
        .iter()
        .cloned()
        .map(|way| tokio::spawn(async move { way.rotate(&way.store).await }))
        .collect();
    with_each(early, |way| async move { way.fails().await }).await;
    server.kill9().await;
    with_each(late, |way| async move {
        way.fails().await;
        look(&way.hasty, way.ids()).await;
    })
    .await;
    cluster.replace(server).await;
    for (way, rotation) in waiting.iter().zip(rotations) {
        if let Some(rotated) = known(rotation.await.unwrap()) {
            assert_eq!(rotated, Rotated::Done);
            way.lives_at(&way.new, &way.after).await;
        }
    }
    for way in &ways {
        way.one_lives().await;
        assert_eq!(way.rotates().await, Rotated::Done);
        way.lives_at(&way.new, &way.after).await;
    }
}

/// A session on its way from one node to another, whose user is in the index of a third one.
pub(super) struct Way {
    /// Waits as long as it takes.
    store: RedisStore,
    hasty: RedisStore,
    user: UserId,
    old: RecordId,
    pub(super) new: RecordId,
    before: Record,
    pub(super) after: Record,
}

pub(super) async fn ways(cluster: &Cluster, store: &RedisStore, count: usize) -> Vec<Arc<Way>> {
    let mut ways = Vec::new();
    for _ in 0..count {
        let user = user_at(cluster, INDEX).await;
        let before = record(now(), HOUR, Some(user.as_str()));
        let way = Way {
            store: store.clone(),
            hasty: store.clone().with_timeout(LIMIT),
            user,
            old: id_at(cluster, OLD).await,
            new: id_at(cluster, NEW).await,
            after: next(&before),
            before,
        };
        let created = store.create(&way.old, &way.before).await.unwrap();
        assert_eq!(created, Created::Done);
        ways.push(Arc::new(way));
    }
    ways
}

/// Does that with all of them at the same time.
async fn with_each<F>(ways: &[Arc<Way>], job: impl Fn(Arc<Way>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut jobs = JoinSet::new();
    for way in ways {
        jobs.spawn(job(Arc::clone(way)));
    }
    jobs.join_all().await;
}

impl Way {
    fn ids(&self) -> [(&RecordId, &Record); 2] {
        [(&self.old, &self.before), (&self.new, &self.after)]
    }

    /// Always with the same write token.
    async fn rotate(&self, store: &RedisStore) -> Result<Rotated, StoreError> {
        let expected = self.before.version;
        let rotated = store.rotate(&self.old, &self.new, &self.after, expected);
        rotated.await
    }

    /// As the node that is needed is away.
    async fn fails(&self) {
        in_time(LIMIT, self.rotate(&self.hasty)).await.unwrap_err();
    }

    pub(super) async fn rotates(&self) -> Rotated {
        at_last(|| self.rotate(&self.store)).await
    }

    /// Waits until exactly one of the two ids does, with what was acknowledged. At no moment does none.
    async fn one_lives(&self) {
        let before = [Some(self.before.clone()), None];
        let after = [None, Some(self.after.clone())];
        eventually("one id alone", || async {
            // What hung may be carried out between the two.
            let found = [
                at_last(|| self.store.load(&self.old)).await,
                at_last(|| self.store.load(&self.new)).await,
            ];
            assert_ne!(found, [None, None], "no id lives");
            (found == before || found == after).then_some(())
        })
        .await;
    }

    /// By load and by the user exactly this id does.
    pub(super) async fn lives_at(&self, id: &RecordId, record: &Record) {
        let other = match *id == self.old {
            true => &self.new,
            false => &self.old,
        };
        let found = at_last(|| self.store.load(id)).await;
        assert_eq!(found.as_ref(), Some(record));
        assert_eq!(at_last(|| self.store.load(other)).await, None);
        let listed = at_last(|| self.store.sessions_of(&self.user)).await;
        let listed: Vec<_> = listed.into_iter().map(|s| (s.id, s.record)).collect();
        assert_eq!(listed, [(*id, record.clone())]);
    }
}

/// Looks at the old id and then at the new one. Whatever can be told, one of them lives, with what was acknowledged.
pub(super) async fn look(store: &RedisStore, ids: [(&RecordId, &Record); 2]) {
    let mut dead = 0;
    for (id, record) in ids {
        match known(store.load(id).await) {
            Some(Some(found)) => assert_eq!(found, *record),
            Some(None) => dead += 1,
            None => {}
        }
    }
    assert!(dead < ids.len(), "no id lives");
}

/// The answer of a store, unless it does not know.
pub(super) fn known<T>(answer: Result<T, StoreError>) -> Option<T> {
    if let Err(error) = &answer {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    }
    answer.ok()
}

/// The answer of a store that is well, or will be soon.
async fn at_last<T, F>(call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    eventually("an answer", || async { known(call().await) }).await
}

async fn id_at(cluster: &Cluster, node: usize) -> RecordId {
    loop {
        let id = new_id();
        if is_at(cluster, node, &session_key("tower-keep", &id)).await {
            return id;
        }
    }
}

async fn user_at(cluster: &Cluster, node: usize) -> UserId {
    loop {
        let user = format!("user-{}", &new_id().to_hex()[..16]);
        if is_at(cluster, node, &format!("tower-keep:user:{user}")).await {
            return UserId::new(user).unwrap();
        }
    }
}

async fn is_at(cluster: &Cluster, node: usize, key: &str) -> bool {
    let primary = cluster.primary_of(key.as_bytes()).await;
    primary.port() == cluster.servers()[node].port()
}

/// Waits until the replica of that primary has all that was written till now.
async fn replicated(cluster: &Cluster, node: usize) {
    let [primary, replica] = [node, node + 3].map(|number| &cluster.servers()[number]);
    let written = offset(primary, "master_repl_offset:").await;
    eventually("the replica's copy", || async {
        let copied = offset(replica, "slave_repl_offset:").await;
        (copied >= written).then_some(())
    })
    .await;
}

async fn offset(server: &Server, name: &str) -> u64 {
    let info = order(server, &["INFO", "replication"]).await;
    let offset = info.lines().find_map(|line| line.strip_prefix(name));
    offset.unwrap().parse().unwrap()
}

/// More than a cluster that is well takes, and soon over.
pub(super) const LIMIT: Duration = Duration::from_secs(1);
