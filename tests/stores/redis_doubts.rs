//! Writes of which nobody knows whether they were done, and some that come too late.

use tower_keep::{
    Created, Record, RecordId, RedisStore, Rotated, SessionStore, Updated, UserSessions,
};
use tower_keep_servers::{Direction, FaultProxy, Kind, Server};

use crate::{
    redis_places::{Place, Which, on_each_topology, order, patient},
    sql_places::{HOUR, new_id, next, now, record},
    support::eventually,
};

on_each_topology!(
    a_create_that_comes_late_brings_no_session_back,
    an_id_that_a_session_has_left_is_not_taken_for_its_next_one,
);

/// A server, and a store that loses its connection to it when told so.
struct Scene {
    server: Server,
    proxy: FaultProxy,
    store: RedisStore,
    beside: RedisStore,
    id: RecordId,
    first: Record,
}

impl Scene {
    async fn new() -> Self {
        let server = Server::start(Kind::Redis).await;
        let proxy = FaultProxy::to(server.address()).await;
        let store = patient(&server.url_at(proxy.port()));
        let beside = patient(&server.url());
        let (id, first) = (new_id(), record(now(), HOUR, None));
        assert_eq!(store.create(&id, &first).await.unwrap(), Created::Done);
        // The server knows the scripts.
        let second = next(&first);
        let updated = store.update(&new_id(), &second, first.version).await;
        assert_eq!(updated.unwrap(), Updated::Gone);
        assert!(!store.delete(&new_id()).await.unwrap());
        Self {
            server,
            proxy,
            store,
            beside,
            id,
            first,
        }
    }

    /// The connection is cut before the reply, and the server has lost its scripts meanwhile.
    async fn lose_the_reply(&self) {
        order(&self.server, &["SCRIPT", "FLUSH"]).await;
        let cuts = self.proxy.traffic().cuts;
        self.proxy.cut_now();
        // Else what is held back would still be delivered.
        self.proxy.wait_until(|traffic| traffic.cuts > cuts).await;
        self.proxy.heal();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_was_done_and_overwritten_is_no_conflict_even_to_a_server_without_scripts() {
    let scene = Scene::new().await;
    let (id, expected) = (scene.id, scene.first.version);
    let mine = next(&scene.first);
    scene.proxy.hold(Direction::ToClient);
    let update = tokio::spawn({
        let (store, mine) = (scene.store.clone(), mine.clone());
        async move { store.update(&id, &mine, expected).await }
    });
    eventually("the update", || async {
        let present = scene.beside.load(&id).await.unwrap();
        (present.as_ref() == Some(&mine)).then_some(())
    })
    .await;
    let theirs = next(&mine);
    let updated = scene.beside.update(&id, &theirs, mine.version).await;
    assert_eq!(updated.unwrap(), Updated::Done);
    scene.lose_the_reply().await;
    // To make the change again over theirs would make it twice.
    let _ = update.await.unwrap().unwrap_err();
    assert_eq!(scene.store.load(&id).await.unwrap(), Some(theirs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_was_done_says_so_even_to_a_server_without_scripts() {
    let scene = Scene::new().await;
    let id = scene.id;
    scene.proxy.hold(Direction::ToClient);
    let delete = tokio::spawn({
        let store = scene.store.clone();
        async move { store.delete(&id).await }
    });
    eventually("the delete", || async {
        let present = scene.beside.load(&id).await.unwrap();
        present.is_none().then_some(())
    })
    .await;
    scene.lose_the_reply().await;
    assert!(delete.await.unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_broke_while_idle_makes_no_answer_doubtful() {
    let scene = Scene::new().await;
    let second = next(&scene.first);
    let updated = scene.store.update(&scene.id, &second, scene.first.version);
    assert_eq!(updated.await.unwrap(), Updated::Done);
    for _ in 0..10 {
        scene.proxy.cut_now();
        scene.proxy.heal();
        assert!(!scene.store.delete(&new_id()).await.unwrap());
        scene.proxy.cut_now();
        scene.proxy.heal();
        let late = next(&scene.first);
        // A conflict; or an error, where the command met the end of its connection on the way.
        let updated = scene.store.update(&scene.id, &late, scene.first.version);
        if let Ok(updated) = updated.await {
            assert_eq!(updated, Updated::Conflict(second.clone()));
        }
    }
}

async fn a_create_that_comes_late_brings_no_session_back(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let (id, first) = (new_id(), record(now(), HOUR, Some("ada")));
    assert_eq!(store.create(&id, &first).await.unwrap(), Created::Done);
    assert!(store.delete(&id).await.unwrap());
    assert_eq!(store.create(&id, &first).await.unwrap(), Created::Exists);
    assert_eq!(store.load(&id).await.unwrap(), None);
    let user = first.user.as_ref().unwrap();
    assert_eq!(store.sessions_of(user).await.unwrap(), []);
}

async fn an_id_that_a_session_has_left_is_not_taken_for_its_next_one(which: Which) {
    let place = Place::new(which).await;
    let store = place.store();
    let (one, other) = (new_id(), new_id());
    let first = record(now(), HOUR, None);
    let (second, third) = (next(&first), next(&next(&first)));
    assert_eq!(store.create(&one, &first).await.unwrap(), Created::Done);
    let there = store.rotate(&one, &other, &second, first.version).await;
    assert_eq!(there.unwrap(), Rotated::Done);
    let back = store.rotate(&other, &one, &third, second.version).await;
    let live = [
        store.load(&one).await.unwrap(),
        store.load(&other).await.unwrap(),
    ];
    let expected = match back.unwrap() {
        Rotated::Done => [Some(third), None],
        _ => [None, Some(second)],
    };
    assert_eq!(live, expected);
}
