//! Many clients that write to one session all the time.

use std::time::Duration;

use axum::{
    extract::Request,
    middleware::{Next, from_fn},
};
use tokio::{task::JoinSet, time::sleep};

use crate::support::{Browser, TestStore, layer_in_time, router};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_clients_that_write_a_key_each_every_last_value_stays() {
    own_keys(TestStore::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_clients_that_count_together_no_count_is_lost() {
    one_counter(TestStore::new()).await;
}

const CLIENTS: usize = 64;
const REQUESTS: usize = 50;

async fn own_keys(store: TestStore) {
    let mut browser = hammer(store, |client, n| format!("/put/client-{client:02}/{n}")).await;
    let expected: Vec<String> = (0..CLIENTS)
        .map(|client| format!(r#""client-{client:02}":"{}""#, REQUESTS - 1))
        .collect();
    let dump = browser.get("/dump").await.assert_ok().body;
    assert_eq!(
        dump,
        format!(r#"{{{},"start":"here"}}"#, expected.join(","))
    );
}

async fn one_counter(store: TestStore) {
    let mut browser = hammer(store, |_, _| "/count/all".into()).await;
    assert_eq!(
        browser.get("/get/all").await.assert_ok().body,
        (CLIENTS * REQUESTS).to_string()
    );
}

/// Every client sends its requests one after the other, all clients at once. Every answer is a 200, in time.
async fn hammer(store: TestStore, path: fn(usize, usize) -> String) -> Browser {
    let app = router()
        .layer(from_fn(async |request: Request, next: Next| {
            let response = next.run(request).await;
            // The work of a handler, which makes its request overlap with others.
            sleep(Duration::from_millis(2)).await;
            response
        }))
        .layer(layer_in_time(store.clone(), store.is_in_memory()));
    let mut browser = Browser::new(&app);
    browser.post("/put/start/here").await.assert_ok();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut browser = browser.clone();
        clients.spawn(async move {
            for n in 0..REQUESTS {
                let answer = browser.post(&path(client, n)).await.assert_ok();
                assert_eq!(answer.set_cookies(), [""; 0], "the id stays as it is");
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    browser
}
