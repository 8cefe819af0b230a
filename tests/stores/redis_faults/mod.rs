//! `RedisStore` when servers are killed, hang, refuse, forget, or are cut off.

mod cluster;
mod cuts;
mod haste;
mod hopping;
mod load;
mod memory;
mod migration;
mod outages;
mod refusals;
mod rotation;
mod rotation_cuts;
mod sentinel;
mod silent;

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

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

/// The same of a server that does not answer. What is late on a busy machine is not late each time.
async fn gives_up_in_time<T: Debug, F>(timeout: Duration, operation: impl Fn() -> F)
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut fastest = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let started = Instant::now();
        in_time(timeout, operation()).await.unwrap_err();
        fastest = fastest.min(started.elapsed());
        if fastest < timeout * 2 {
            return;
        }
    }
    panic!("{fastest:?}, and not {timeout:?}");
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

const ATTEMPTS: u32 = 10;

/// What a machine may be late that does a lot of other things.
const CUSHION: Duration = Duration::from_secs(10);
