//! Who may sign in.

use std::{collections::HashMap, sync::Arc};

/// The users of this demo, with the hashes of their passwords.
#[derive(Clone)]
pub(crate) struct Users(Arc<HashMap<&'static str, String>>);

impl Users {
    /// Everybody and his password, for the page that asks for them.
    pub(crate) const ALL: [(&str, &str); 2] = [("ada", "lovelace"), ("grace", "hopper")];

    pub(crate) fn new() -> Self {
        let hashed =
            Self::ALL.map(|(name, password)| (name, password_auth::generate_hash(password)));
        Self(Arc::new(HashMap::from(hashed)))
    }

    /// Takes as long for a user who does not exist: the time tells nobody who does.
    pub(crate) async fn verify(&self, user: &str, password: String) -> bool {
        let known = self.0.get(user).cloned();
        let hash = known.clone().or_else(|| self.0.values().next().cloned());
        // Checking a password is work for a thread, not for the runtime.
        let fits = tokio::task::spawn_blocking(move || {
            hash.is_some_and(|hash| password_auth::verify_password(password, &hash).is_ok())
        });
        fits.await.unwrap_or(false) && known.is_some()
    }
}
