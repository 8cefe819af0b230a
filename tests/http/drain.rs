//! The end of a process while sessions are being committed.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{select, sync::oneshot, task::JoinSet};
use tower_keep::{
    SessionStore,
    testing::{Fault, FaultyStore, Operation},
};

use crate::support::{Browser, TestStore, WatchedStore, app, layer_over, yields};

#[tokio::test]
async fn drain_waits_for_the_commit_of_a_request_that_nobody_waits_for() {
    waits_for_an_abandoned_commit(TestStore::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_shutdown_and_a_drain_every_answer_that_was_given_is_in_the_store() {
    acknowledged_answers_are_stored(TestStore::new()).await;
}

async fn waits_for_an_abandoned_commit(store: impl SessionStore) {
    let store = WatchedStore::new(&Arc::new(store), 2);
    let layer = layer_over(store.clone());
    let app = app(layer.clone());
    layer.drain().await; // nothing to wait for

    store.hold(Operation::Create);
    let mut browser = Browser::new(&app);
    let request = tokio::spawn(async move { browser.post("/count/n").await });
    while store.waiting() == 0 {
        yields(1).await;
    }
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());

    {
        let mut drain = pin!(layer.drain());
        select! {
            biased;
            () = &mut drain => panic!("drained while a commit is under way"),
            () = yields(50) => {}
        }
        assert_eq!(store.live().await, []);
        store.release();
        drain.await;
    }
    assert_eq!(store.writing(), 0);
    assert_eq!(store.live().await.len(), 1);
}

async fn acknowledged_answers_are_stored(store: impl SessionStore) {
    let store = WatchedStore::new(&Arc::new(store), 5);
    let layer = layer_over(store.clone());
    let app = app(layer.clone());
    let mut browser = Browser::new(&app);
    browser.post("/put/start/here").await.assert_ok();

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        stopped.await.unwrap();
    });
    let server = tokio::spawn(async move { server.await.unwrap() });

    let mut clients = JoinSet::new();
    for client in 0..32 {
        clients.spawn(count_until_refused(address, browser.clone(), client));
    }
    // The server stops once every client has been answered a few times.
    while store.live().await[0].1.version.revision < 200 {
        yields(10).await;
    }
    stop.send(()).unwrap();
    server.await.unwrap();
    layer.drain().await;
    assert_eq!(store.writing(), 0, "nothing is under way after a drain");

    let mut acknowledged = 0;
    while let Some(client) = clients.join_next().await {
        let (client, answered) = client.unwrap();
        let stored = browser.get(&format!("/get/client-{client}")).await.body;
        let stored: u64 = stored.parse().unwrap_or(0);
        assert!(
            (answered..=answered + 1).contains(&stored),
            "client {client}: {answered} answered, {stored} stored"
        );
        acknowledged += answered;
    }
    assert!(acknowledged > 0);
}

/// Counts in a key of its own until the server refuses; returns how often it was answered.
async fn count_until_refused(
    address: std::net::SocketAddr,
    browser: Browser,
    client: usize,
) -> (usize, u64) {
    use http::{Request, header::COOKIE};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};

    let cookies = browser.cookie_header().unwrap();
    let http = Client::builder(TokioExecutor::new()).build_http::<axum::body::Body>();
    let mut answered = 0;
    loop {
        let request = Request::post(format!("http://{address}/count/client-{client}"))
            .header(COOKIE, &cookies)
            .body(axum::body::Body::empty())
            .unwrap();
        match http.request(request).await {
            Ok(response) => assert_eq!(response.status(), 200),
            Err(_) => return (client, answered),
        }
        answered += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn drain_does_not_wait_longer_than_the_store_timeout_for_a_store_that_hangs() {
    let store = Arc::new(FaultyStore::new(TestStore::new()));
    let layer = layer_over(Arc::clone(&store)).with_store_timeout(Duration::from_secs(2));
    store.inject(Fault::Hang);
    let mut browser = Browser::new(&app(layer.clone()));
    let request = tokio::spawn(async move { browser.post("/count/n").await });
    yields(10).await;
    request.abort();
    // Time is paused, and goes on to the next timer whenever nothing else is to be done.
    select! {
        biased;
        () = layer.drain() => {}
        () = tokio::time::sleep(Duration::from_secs(3)) => panic!("drain still waits"),
    }
}

#[tokio::test]
async fn drain_of_one_clone_of_a_layer_waits_for_the_commits_of_all() {
    let store = WatchedStore::new(&Arc::new(TestStore::new()), 2);
    let layer = layer_over(store.clone());
    let other = layer.clone().with_cookie_name("other");
    store.hold(Operation::Create);
    let mut browser = Browser::new(&app(other));
    let request = tokio::spawn(async move { browser.post("/count/n").await });
    while store.waiting() == 0 {
        yields(1).await;
    }
    select! {
        biased;
        () = layer.drain() => panic!("drained while a commit is under way"),
        () = yields(50) => {}
    }
    store.release();
    layer.drain().await;
    assert_eq!(store.writing(), 0);
    request.await.unwrap().assert_ok();
}
