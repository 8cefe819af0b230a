//! `RedisStore` when servers are killed, hang, refuse, forget, or are cut off.

mod cluster;
mod cuts;
mod load;
mod memory;
mod migration;
mod outages;
mod refusals;
mod sentinel;

use std::time::{Duration, Instant};

use tower_keep::{StoreError, StoreErrorKind};

/// Awaits an operation of a store that was given so much time, and fails if that has not been kept.
async fn in_time<T>(
    timeout: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let started = Instant::now();
    let answer = operation.await;
    let (took, limit) = (started.elapsed(), timeout + timeout / 10 + CUSHION);
    assert!(took < limit, "{took:?}, and not {timeout:?}");
    if let Err(error) = &answer {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    }
    answer
}

/// Calls until it succeeds, and fails if that takes much longer than a second.
async fn recovers<T, F>(what: &str, since: Instant, call: impl Fn() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    loop {
        if let Some(answer) = call().await {
            let took = since.elapsed();
            eprintln!("{what}: service {took:?} after its return");
            assert!(took < Duration::from_secs(1) + CUSHION, "{what}: {took:?}");
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a machine may be late that does a lot of other things.
const CUSHION: Duration = Duration::from_secs(10);
