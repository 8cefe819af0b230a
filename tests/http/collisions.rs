//! A random source that repeats itself.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{Router, routing::post};
use tower_keep::{
    RandomError, RandomSource, Session, SystemRandom,
    testing::{CountingStore, Counts},
};

use crate::support::{Browser, TestStore, app, layer_over};

/// Gives out ids that consist of one byte, in the order of a script; its last one for ever.
#[derive(Debug)]
struct Scripted(Mutex<VecDeque<u8>>);

impl RandomSource for Scripted {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        if buffer.len() != 32 {
            return SystemRandom.fill(buffer); // no id
        }
        let mut script = self.0.lock().unwrap();
        let next = match script.len() {
            1 => script[0],
            _ => script.pop_front().unwrap(),
        };
        buffer.fill(next);
        Ok(())
    }
}

struct Scene {
    store: Arc<CountingStore<TestStore>>,
    random: Arc<Scripted>,
    /// Logged in, under an id of ones.
    victim: Browser,
    /// With a cart, under an id of twos.
    client: Browser,
}

impl Scene {
    async fn new() -> Self {
        let store = Arc::new(CountingStore::new(TestStore::new()));
        let random = Arc::new(Scripted(Mutex::new([1, 2, 3].into())));
        let layer = layer_over(Arc::clone(&store)).with_random_source(Arc::clone(&random));
        let app = app(layer);
        let (mut victim, mut client) = (Browser::new(&app), Browser::new(&app));
        victim.post("/login/victim").await.assert_ok();
        client.post("/put/cart/full").await.assert_ok();
        store.take();
        Self {
            store,
            random,
            victim,
            client,
        }
    }

    fn script<const N: usize>(&self, bytes: [u8; N]) {
        *self.random.0.lock().unwrap() = bytes.into();
    }

    async fn assert_victim_unaltered(&mut self) {
        assert_eq!(self.victim.get("/whoami").await.body, "victim");
        assert_eq!(self.victim.get("/dump").await.body, "{}");
    }
}

#[tokio::test]
async fn a_new_session_whose_id_is_taken_gets_another_and_the_other_session_stays_as_it_is() {
    let mut scene = Scene::new().await;
    scene.script([1, 2, 1, 4]);
    let mut newcomer = scene.client.stranger();
    newcomer.post("/put/secret/mine").await.assert_ok();
    let calls = scene.store.take();
    assert_eq!((calls.create, calls.total()), (4, 4));
    assert_ne!(newcomer.id(), scene.victim.id());
    assert_ne!(newcomer.id(), scene.client.id());
    assert_eq!(newcomer.get("/dump").await.body, r#"{"secret":"mine"}"#);
    scene.assert_victim_unaltered().await;
}

#[tokio::test]
async fn a_new_session_for_which_every_id_is_taken_is_an_error_after_a_bounded_number_of_tries() {
    let mut scene = Scene::new().await;
    scene.script([1]);
    let mut newcomer = scene.client.stranger();
    let answer = newcomer.post("/put/secret/mine").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.set_cookies(), [""; 0]);
    let expected = Counts {
        create: 4,
        ..Counts::default()
    };
    assert_eq!(scene.store.take(), expected);
    assert_eq!(scene.store.inner().count().await, 2);
    scene.assert_victim_unaltered().await;
}

#[tokio::test]
async fn a_rotation_onto_an_id_that_is_taken_gets_another_and_the_other_session_stays_as_it_is() {
    for path in ["/cycle", "/login/client"] {
        let mut scene = Scene::new().await;
        // The other session's, and its own.
        scene.script([1, 2, 4]);
        let old = scene.client.clone();
        scene.client.post(path).await.assert_ok();
        assert_eq!(scene.store.take().rotate, 3, "{path}");
        assert_ne!(scene.client.id(), old.id(), "{path}");
        assert_ne!(scene.client.id(), scene.victim.id(), "{path}");
        let cart = r#"{"cart":"full"}"#;
        assert_eq!(scene.client.get("/dump").await.body, cart, "{path}");
        assert_eq!(old.clone().get("/dump").await.body, "{}", "{path}");
        assert_eq!(scene.store.inner().count().await, 2, "{path}");
        scene.assert_victim_unaltered().await;
    }
}

#[tokio::test]
async fn a_rotation_for_which_every_id_is_taken_is_an_error_and_the_old_id_goes_on_to_work() {
    for path in ["/cycle", "/login/client"] {
        let mut scene = Scene::new().await;
        scene.script([1]);
        let answer = scene.client.post(path).await;
        assert_eq!(answer.status, 500, "{path}");
        assert_eq!(answer.set_cookies(), [""; 0], "{path}");
        assert_eq!(scene.store.take().rotate, 4, "{path}");
        let cart = r#"{"cart":"full"}"#;
        assert_eq!(scene.client.get("/dump").await.body, cart, "{path}");
        assert_eq!(scene.client.get("/whoami").await.body, "-", "{path}");
        scene.assert_victim_unaltered().await;
    }
}

#[tokio::test]
async fn an_explicit_save_without_an_unused_id_is_an_error_and_stores_nothing() {
    let random = Scripted(Mutex::new([1].into()));
    let store = TestStore::new();
    let layer = layer_over(store.clone()).with_random_source(random);
    let save = async |session: Session| {
        session.insert("secret", "mine").unwrap();
        let saved = session.save().await.map_err(|error| error.kind());
        session.clear().unwrap();
        format!("{saved:?}")
    };
    let app = Router::new().route("/", post(save)).layer(layer);
    assert_eq!(Browser::new(&app).post("/").await.body, "Ok(())");
    let answer = Browser::new(&app).post("/").await.assert_ok();
    assert_eq!(answer.body, "Err(IdGeneration)");
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(store.count().await, 1);
}
