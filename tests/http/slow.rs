//! Requests that hold their session while others do something to it.

use std::sync::Arc;

use axum::{Router, extract::Path, routing::post};
use tokio::{sync::Notify, task::JoinHandle};
use tower_keep::{Error, LazySession};

use crate::{
    counted::Counted,
    support::{Answer, Browser, router},
};

/// Where slow requests wait.
#[derive(Clone, Default)]
pub(crate) struct Door {
    arrived: Arc<Notify>,
    open: Arc<Notify>,
}

impl Door {
    /// The application of the tests, with `POST /slow/{action}` before this door.
    pub(crate) fn before_app(&self) -> Counted {
        let door = self.clone();
        let slow = async move |lazy: LazySession, Path(action): Path<String>| {
            door.pass(&lazy, &action).await
        };
        let slow = Router::new().route("/slow/{action}", post(slow));
        Counted::of(router().merge(slow), |layer| layer)
    }

    /// Sends a slow request, and returns once it has its session and waits.
    pub(crate) async fn request(&self, browser: &Browser, action: &str) -> JoinHandle<Answer> {
        let mut browser = browser.clone();
        let path = format!("/slow/{action}");
        let answer = tokio::spawn(async move { browser.post(&path).await });
        self.arrived.notified().await;
        answer
    }

    /// Lets the request that waits go on to its end.
    pub(crate) async fn open(&self, waiting: JoinHandle<Answer>) -> Answer {
        self.open.notify_one();
        waiting.await.unwrap()
    }

    async fn pass(&self, lazy: &LazySession, action: &str) -> Result<(), Error> {
        if action != "logout" {
            lazy.load().await?;
        }
        self.arrived.notify_one();
        self.open.notified().await;
        if action == "logout" {
            return lazy.flush();
        }
        let session = lazy.load().await?;
        match action {
            "read" => session.get::<String>("color").map(drop),
            "put" => session.insert("late", true),
            "clear" => session.clear(),
            "cycle" => session.cycle_id(),
            "login" => session.login("late"),
            "flush" => session.flush(),
            other => panic!("no action {other}"),
        }
    }
}
