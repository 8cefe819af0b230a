//! Servers that are there and do not do it now.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tower_keep::{Created, Record, RecordId, RedisStore, SessionStore, Updated};
use tower_keep_servers::{Kind, Server};

use super::{in_time, recovers};
use crate::{
    redis_places::{connect, order, patient},
    sql_places::{HOUR, new_id, next, now, record},
    support::eventually,
};

const TIMEOUT: Duration = Duration::from_millis(400);

struct Scene {
    server: Server,
    /// Waits as long as it takes.
    patient: RedisStore,
    store: RedisStore,
    id: RecordId,
    first: Record,
}

impl Scene {
    async fn new(arguments: &[&str]) -> Self {
        let server = Server::start_with(Kind::Redis, arguments).await;
        let patient = patient(&server.url());
        let (id, first) = (new_id(), record(now(), HOUR, None));
        assert_eq!(patient.create(&id, &first).await.unwrap(), Created::Done);
        let store = patient.clone().with_timeout(TIMEOUT);
        Self {
            server,
            patient,
            store,
            id,
            first,
        }
    }

    async fn writes_are_refused_in_time(&self) {
        let Self {
            store, id, first, ..
        } = self;
        let (other, newer) = (new_id(), next(first));
        let version = first.version;
        in_time(TIMEOUT, store.create(&other, first))
            .await
            .unwrap_err();
        in_time(TIMEOUT, store.update(id, &newer, version))
            .await
            .unwrap_err();
        let rotated = store.rotate(id, &other, &newer, version);
        in_time(TIMEOUT, rotated).await.unwrap_err();
        let later = first.expires_at.saturating_add(HOUR);
        in_time(TIMEOUT, store.touch(id, later, version))
            .await
            .unwrap_err();
        in_time(TIMEOUT, store.delete(id)).await.unwrap_err();
    }

    async fn is_unchanged(&self) {
        let found = self.patient.load(&self.id).await.unwrap();
        assert_eq!(found.as_ref(), Some(&self.first));
    }

    async fn writes_go_on(&self, what: &str) {
        let newer = next(&self.first);
        let updated = recovers(what, Instant::now(), || async {
            let updated = self.store.update(&self.id, &newer, self.first.version);
            updated.await.ok()
        });
        assert_eq!(updated.await, Updated::Done);
        assert!(self.patient.delete(&self.id).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_has_become_a_replica_refuses_writes_until_it_is_one_again() {
    let scene = Scene::new(&[]).await;
    order(&scene.server, &["REPLICAOF", "127.0.0.1", "1"]).await;
    scene.is_unchanged().await;
    scene.writes_are_refused_in_time().await;
    scene.is_unchanged().await;
    order(&scene.server, &["REPLICAOF", "NO", "ONE"]).await;
    scene.writes_go_on("a primary again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_without_the_replicas_it_needs_refuses_writes_and_answers_reads() {
    let scene = Scene::new(&[]).await;
    let set = async |number| {
        let words = ["CONFIG", "SET", "min-replicas-to-write", number];
        order(&scene.server, &words).await;
    };
    set("1").await;
    scene.is_unchanged().await;
    scene.writes_are_refused_in_time().await;
    scene.is_unchanged().await;
    set("0").await;
    scene.writes_go_on("replicas enough").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_busy_with_a_script_of_another_is_waited_for_and_given_up_in_time() {
    let scene = Scene::new(&["--busy-reply-threshold", "50"]).await;
    let mut connection = connect(&scene.server).await;
    let busy = tokio::spawn(async move {
        let mut command = redis::cmd("EVAL");
        command.arg("while true do end").arg(0);
        command.query_async::<()>(&mut connection).await
    });
    eventually("a busy server", || async {
        let ping = scene.server.redis_command(&["PING"]).await;
        ping.is_err_and(|error| error.to_string().starts_with("BUSY"))
            .then_some(())
    })
    .await;
    in_time(TIMEOUT, scene.store.load(&scene.id))
        .await
        .unwrap_err();
    scene.writes_are_refused_in_time().await;
    order(&scene.server, &["SCRIPT", "KILL"]).await;
    busy.await.unwrap().unwrap_err();
    scene.is_unchanged().await;
    scene.writes_go_on("a script less").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loads_its_data_is_waited_for() {
    let arguments = [
        "--enable-debug-command",
        "yes",
        // After each key it looks at what it is asked.
        "--rdbcompression",
        "no",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let scene = Scene::new(&arguments).await;
    let fill = "for i = 1, 300 do redis.call('SET', 'other:' .. i, string.rep('x', 2000)) end";
    order(&scene.server, &["EVAL", fill, "0"]).await;
    let delay = async |micros: &str| {
        order(&scene.server, &["CONFIG", "SET", "key-load-delay", micros]).await;
    };
    // 300 keys of a tenth of a second each.
    delay("100000").await;
    let mut connection = connect(&scene.server).await;
    let reload = tokio::spawn(async move {
        let mut command = redis::cmd("DEBUG");
        command.arg("RELOAD");
        command.query_async::<()>(&mut connection).await
    });
    eventually("a server that loads", || async {
        let ping = scene.server.redis_command(&["GET", "other:1"]).await;
        match ping {
            Err(error) => error.to_string().starts_with("LOADING").then_some(()),
            Ok(_) => reload.is_finished().then_some(()),
        }
    })
    .await;
    assert!(!reload.is_finished(), "it was seen while it loads");
    let mut found = pin!(scene.patient.load(&scene.id));
    let early = timeout(Duration::from_millis(200), found.as_mut()).await;
    assert!(early.is_err(), "it is waited for");
    delay("0").await;
    assert_eq!(found.await.unwrap().as_ref(), Some(&scene.first));
    reload.await.unwrap().ok();
    scene.writes_go_on("data loaded").await;
}
