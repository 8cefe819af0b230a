//! A place in a request where it waits until the test lets it go on.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use super::{Answer, Browser};

/// Closed until it is opened for a number of requests. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    arrived: Arc<watch::Sender<usize>>,
    permits: Arc<Semaphore>,
}

impl Gate {
    pub fn new() -> Self {
        Self {
            arrived: Arc::new(watch::Sender::new(0)),
            permits: Arc::new(Semaphore::new(0)),
        }
    }

    /// Puts the gate behind every handler of a router, for requests that end in `?hold`: they do
    /// their work, wait, and answer.
    pub fn behind(&self, router: Router) -> Router {
        let gate = self.clone();
        router.layer(from_fn(move |request: Request, next: Next| {
            let gate = gate.clone();
            async move {
                let hold = request.uri().query() == Some("hold");
                let response = next.run(request).await;
                if hold {
                    gate.pass().await;
                }
                response
            }
        }))
    }

    /// Waits to be let through.
    pub async fn pass(&self) {
        self.arrived.send_modify(|count| *count += 1);
        self.permits.acquire().await.unwrap().forget();
    }

    /// Waits until so many in all have come to the gate.
    pub async fn arrived(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        arrived.wait_for(|now| *now >= count).await.unwrap();
    }

    /// Lets so many through, in the order in which they came.
    pub fn open(&self, count: usize) {
        self.permits.add_permits(count);
    }
}

/// Sends a POST in a task of its own, with a copy of the browser's cookies; returns the browser
/// with what it has kept then.
pub fn post_meanwhile(browser: &Browser, path: &str) -> JoinHandle<(Browser, Answer)> {
    let (mut browser, path) = (browser.clone(), path.to_owned());
    tokio::spawn(async move {
        let answer = browser.post(&path).await;
        (browser, answer)
    })
}
