//! The layer that the tests are about.

use std::{env, sync::LazyLock};

use tower_keep::{CookieStore, Keyring, SessionLayer, SessionStore};

use super::test_store::CHOICE;

/// A layer over a store; or, where `TOWER_KEEP_TEST_STORE` says so, one with sessions in cookies, which keeps
/// in that store what was ended.
pub fn layer_over(store: impl SessionStore) -> SessionLayer {
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
