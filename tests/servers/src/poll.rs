use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Asks again and again until there is a value, and panics with the last reason why there is none.
pub(crate) async fn until<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(reason) if Instant::now() > deadline => panic!("{what}: {reason}"),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Many times what the slowest thing takes, a second election after one that nobody won.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
