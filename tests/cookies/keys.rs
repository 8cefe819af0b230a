//! Keyrings that change.

use tower_keep::Keyring;

use crate::{
    both_kinds,
    support::Browser,
    world::{Kind, World},
};

both_kinds!(
    what_a_retired_secret_has_sealed_is_sealed_with_the_primary_one_by_that_answer,
    what_is_changed_or_rotated_is_sealed_with_the_primary_secret,
    what_a_dropped_secret_has_sealed_is_worth_nothing,
    a_new_secret_that_is_first_added_as_a_retired_one_is_opened_on_every_node,
);

fn secret() -> String {
    Keyring::generate_secret().unwrap()
}

/// A session under `old`, and the same world under other keyrings.
async fn session_under(kind: Kind, old: &str) -> (World, Browser) {
    let world = World {
        keyring: Keyring::new(old).unwrap(),
        ..World::new(kind)
    };
    let mut browser = world.browser();
    browser.post("/login/ada").await.assert_ok();
    (world, browser)
}

fn with(world: &World, keyring: Keyring) -> World {
    World {
        keyring,
        ..world.clone()
    }
}

async fn what_a_retired_secret_has_sealed_is_sealed_with_the_primary_one_by_that_answer(
    kind: Kind,
) {
    let (old, new) = (secret(), secret());
    let (world, browser) = session_under(kind, &old).await;
    let both = Keyring::new(&new).unwrap().with_retired(&old).unwrap();
    let mut reader = with(&world, both).browser().with_id_of(&browser);
    let max_age = reader.get("/whoami").await.assert_ok();
    assert_eq!(max_age.body, "ada");
    max_age.the_cookie();
    let again = reader.get("/whoami").await.assert_ok();
    assert_eq!(again.set_cookies(), [""; 0], "once is enough");
    let new_only = with(&world, Keyring::new(&new).unwrap());
    let mut reader = new_only.browser().with_id_of(&reader);
    assert_eq!(reader.get("/whoami").await.assert_ok().body, "ada");
}

async fn what_is_changed_or_rotated_is_sealed_with_the_primary_secret(kind: Kind) {
    for path in ["/put/color/red", "/cycle", "/login/ada"] {
        let (old, new) = (secret(), secret());
        let (world, browser) = session_under(kind, &old).await;
        let both = Keyring::new(&new).unwrap().with_retired(&old).unwrap();
        let mut writer = with(&world, both).browser().with_id_of(&browser);
        writer.post(path).await.assert_ok().the_cookie();
        let new_only = with(&world, Keyring::new(&new).unwrap());
        let mut reader = new_only.browser().with_id_of(&writer);
        let read = reader.get("/whoami").await.assert_ok();
        assert_eq!(read.body, "ada", "{path}");
        assert_eq!(read.set_cookies(), [""; 0]);
    }
}

async fn what_a_dropped_secret_has_sealed_is_worth_nothing(kind: Kind) {
    let (world, browser) = session_under(kind, &secret()).await;
    let ring = Keyring::new(secret())
        .unwrap()
        .with_retired(secret())
        .unwrap();
    let elsewhere = with(&world, ring).browser().with_id_of(&browser);
    assert!(elsewhere.is_anonymous().await);
}

async fn a_new_secret_that_is_first_added_as_a_retired_one_is_opened_on_every_node(kind: Kind) {
    let (old, new) = (secret(), secret());
    let (world, browser) = session_under(kind, &old).await;
    let prepared = Keyring::new(&old).unwrap().with_retired(&new).unwrap();
    let switched = Keyring::new(&new).unwrap().with_retired(&old).unwrap();
    let mut browser = with(&world, switched).browser().with_id_of(&browser);
    browser.post("/put/color/red").await.assert_ok();
    let mut behind = with(&world, prepared).browser().with_id_of(&browser);
    assert_eq!(behind.get("/get/color").await.assert_ok().body, "\"red\"");
}
