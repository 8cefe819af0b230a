//! The layer that the tests are about.

use std::{env, sync::LazyLock, time::Duration};

use tower_keep::{CookieStore, Keyring, SessionLayer, SessionStore};

use super::{patience::PATIENCE, test_store::CHOICE};

/// A layer over a store; or, where `TOWER_KEEP_TEST_STORE` says so, one with sessions in cookies, which keeps
/// in that store what was ended. It waits for the store as long as that takes.
pub fn layer_over(store: impl SessionStore) -> SessionLayer {
    hasty_layer_over(store).with_store_timeout(PATIENCE)
}

/// The same with the store timeout that a layer has if nothing is said, where nothing but the layer takes time; and
/// everywhere on a machine that has time, see [`patient`].
pub fn layer_in_time(store: impl SessionStore, is_in_memory: bool) -> SessionLayer {
    match is_in_memory || is_strict() {
        true => hasty_layer_over(store),
        false => layer_over(store),
    }
}

fn hasty_layer_over(store: impl SessionStore) -> SessionLayer {
    match cookies() {
        None => SessionLayer::new(store),
        Some(cookies) => SessionLayer::new(cookies.with_revocations(store)),
    }
}

/// The cookies that the variable names, with a secret that all nodes of this process share.
pub fn cookies() -> Option<CookieStore> {
    static KEYRING: LazyLock<Keyring> =
        LazyLock::new(|| Keyring::new(Keyring::generate_secret().unwrap()).unwrap());
    match env::var(CHOICE).as_deref() {
        Ok("cookie-signed") => Some(CookieStore::signed(&KEYRING)),
        Ok("cookie-encrypted") => Some(CookieStore::encrypted(&KEYRING)),
        _ => None,
    }
}

/// A store or a cache with more time than it ever needs. Where `TOWER_KEEP_TEST_DEADLINES` is `default`, with the time
/// that it has if nothing is said: what has to be done in that is too much for a machine that does a lot else.
pub fn patient<S>(store: S, give_time: impl FnOnce(S, Duration) -> S) -> S {
    match is_strict() {
        true => store,
        false => give_time(store, PATIENCE),
    }
}

fn is_strict() -> bool {
    env::var("TOWER_KEEP_TEST_DEADLINES").is_ok_and(|deadlines| deadlines == "default")
}
