//! Who may sign in.

use std::{collections::HashMap, sync::Arc, thread::available_parallelism};

use tokio::sync::Semaphore;

/// The users of this demo, with the hashes of their passwords.
#[derive(Clone)]
pub(crate) struct Users {
    hashes: Arc<HashMap<&'static str, String>>,
    /// One for each core: to check a password takes megabytes on purpose, and anybody may ask for it.
    turns: Arc<Semaphore>,
}

impl Users {
    /// Everybody and his password, for the page that asks for them.
    pub(crate) const ALL: [(&str, &str); 2] = [("ada", "lovelace"), ("grace", "hopper")];

    pub(crate) fn new() -> Self {
        let hashed =
            Self::ALL.map(|(name, password)| (name, password_auth::generate_hash(password)));
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            hashes: Arc::new(HashMap::from(hashed)),
            turns: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Takes as long for a user who does not exist: the time tells nobody who does.
    pub(crate) async fn verify(&self, user: &str, password: String) -> bool {
        let known = self.hashes.get(user).cloned();
        let hash = known
            .clone()
            .or_else(|| self.hashes.values().next().cloned());
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        // Checking a password is work for a thread, not for the runtime.
        let fits = tokio::task::spawn_blocking(move || {
            // Until it is done, also if nobody waits for it any more.
            let _turn = turn;
            hash.is_some_and(|hash| password_auth::verify_password(password, &hash).is_ok())
        });
        fits.await.unwrap_or(false) && known.is_some()
    }
}
