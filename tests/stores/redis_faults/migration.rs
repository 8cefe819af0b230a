//! Slots that move from one node of a cluster to another while their sessions are used.

use tower_keep::{Created, Rotated, SessionStore, Updated, UserSessions};
use tower_keep_servers::Cluster;

use super::load::Load;
use crate::{
    redis_places::{id_of, patient, session_key},
    sql_places::{HOUR, new_id, next, now, record},
    support::{Browser, app, layer_over},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_in_a_slot_that_moves_see_no_error_and_lose_no_update() {
    const COUNTS: u64 = 10;
    let cluster = Cluster::start().await;
    let store = patient(&cluster.url());
    let load = Load::start(&store, 4, 2).await;
    assert_eq!(load.next_round().await, 0);
    for client in load.clients() {
        let slot = cluster.slot_of(client.key.as_bytes()).await;
        let from = cluster.primary_of_slot(slot).await;
        let mut others = cluster.servers()[..3].iter();
        let to = others.find(|other| other.port() != from.port()).unwrap();
        let this = std::slice::from_ref(client);
        cluster.begin_migration(slot, from, to).await;
        load.counts_of(this, COUNTS).await;
        cluster.move_keys(slot, from, to).await;
        load.counts_of(this, COUNTS).await;
        cluster.finish_migration(slot, from, to).await;
        load.counts_of(this, COUNTS).await;
    }
    assert_eq!(load.next_round().await, 0);
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_works_on_a_session_whose_slot_is_between_two_nodes() {
    let cluster = Cluster::start().await;
    let store = patient(&cluster.url());
    let first = record(now(), HOUR, Some("ada"));
    let user = first.user.clone().unwrap();
    let (id, other) = (new_id(), new_id());
    assert_eq!(store.create(&id, &first).await.unwrap(), Created::Done);
    let slots = [
        cluster
            .slot_of(session_key("tower-keep", &id).as_bytes())
            .await,
        cluster
            .slot_of(session_key("tower-keep", &other).as_bytes())
            .await,
        cluster.slot_of(b"tower-keep:user:ada").await,
    ];
    for slot in slots {
        let from = cluster.primary_of_slot(slot).await;
        let mut others = cluster.servers()[..3].iter();
        let to = others.find(|other| other.port() != from.port()).unwrap();
        cluster.begin_migration(slot, from, to).await;
        cluster.move_keys(slot, from, to).await;
    }
    assert_eq!(store.load(&id).await.unwrap().as_ref(), Some(&first));
    let second = next(&first);
    let updated = store.update(&id, &second, first.version).await.unwrap();
    assert_eq!(updated, Updated::Done);
    let later = second.expires_at.saturating_add(HOUR / 2);
    assert!(store.touch(&id, later, second.version).await.unwrap());
    let third = next(&second);
    let rotated = store.rotate(&id, &other, &third, second.version).await;
    assert_eq!(rotated.unwrap(), Rotated::Done);
    let sessions = store.sessions_of(&user).await.unwrap();
    assert_eq!(sessions.len(), 1);
    assert_eq!((sessions[0].id, &sessions[0].record), (other, &third));
    assert_eq!(store.load(&id).await.unwrap(), None);
    assert!(store.delete(&other).await.unwrap());
    assert_eq!(store.load(&other).await.unwrap(), None);
    assert_eq!(store.delete_all_of(&user, None).await.unwrap(), []);

    // Through the application, and with scripts that the node has forgotten.
    let mut browser = Browser::new(&app(layer_over(store)));
    browser.post("/login/eve").await.assert_ok();
    let key = session_key("tower-keep", &id_of(&browser));
    let slot = cluster.slot_of(key.as_bytes()).await;
    let from = cluster.primary_of_slot(slot).await;
    let mut others = cluster.servers()[..3].iter();
    let to = others.find(|other| other.port() != from.port()).unwrap();
    cluster.begin_migration(slot, from, to).await;
    cluster.move_keys(slot, from, to).await;
    crate::redis_places::order(to, &["SCRIPT", "FLUSH"]).await;
    assert_eq!(browser.post("/count/n").await.assert_ok().body, "1");
    browser.post("/cycle").await.assert_ok().the_cookie();
    assert_eq!(browser.get("/get/n").await.assert_ok().body, "1");
    assert_eq!(browser.get("/whoami").await.assert_ok().body, "eve");
    browser.post("/logout").await.assert_ok().the_cookie();
}
