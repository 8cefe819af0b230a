//! Statements that meet others.

use std::time::{Duration, Instant};

use super::{dialect::Dialect, failure::Cause};

/// Sends a statement again that was undone because it met others.
pub(super) async fn past_contention<Db, T, F>(run: impl Fn() -> F) -> Result<T, sqlx::Error>
where
    Db: Dialect,
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let started = Instant::now();
    let mut pause_max = PAUSE_MIN;
    loop {
        let done = run().await;
        let met = matches!(&done, Err(error) if Cause::of::<Db>(error) == Cause::Contention);
        if !met || started.elapsed() > CONTENTION_TIME_MAX {
            return done;
        }
        // Without random bits they meet again at the same time; the next pause is longer.
        let random = getrandom::u32().unwrap_or(u32::MAX);
        tokio::time::sleep(pause_max.mul_f64(f64::from(random) / f64::from(u32::MAX))).await;
        pause_max = (pause_max * 2).min(PAUSE_MAX);
    }
}

/// How long statements that were undone are sent again: as long as the layer waits by default.
const CONTENTION_TIME_MAX: Duration = Duration::from_secs(2);

/// The first pause is up to this long: what a few statements take.
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// No pause is longer than this.
const PAUSE_MAX: Duration = Duration::from_millis(100);
