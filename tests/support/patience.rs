//! Patience for a machine on which a lot else happens.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tower_keep::{StoreError, StoreErrorKind};

/// Calls a store again that was not answered for as long as stores have patience. An error that comes sooner is one.
pub async fn patiently<T, F>(call: impl Fn() -> F + Send) -> Result<T, StoreError>
where
    T: Send,
    F: Future<Output = Result<T, StoreError>> + Send,
{
    let started = Instant::now();
    loop {
        let called = Instant::now();
        let answer = call().await;
        let was_slow = called.elapsed() > SLOW && started.elapsed() < PATIENCE;
        match answer {
            Err(error) if was_slow && error.kind() == StoreErrorKind::Unavailable => {}
            answer => return answer,
        }
    }
}

/// Asks again and again until there is an answer.
pub async fn eventually<T, F>(what: &str, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "no {what} after {PATIENCE:?}");
        sleep(PAUSE).await;
    }
}

/// Less than any of them has: a node of a cluster is waited for a second, a server and a statement that meets others for two.
const SLOW: Duration = Duration::from_millis(900);

/// More than a store that is well ever takes, and than anything here does on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(1);
