//! The clock of a server beside the one of this machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;

use super::finding::Finding;
use crate::open::CONNECT_TIMEOUT;

/// Compares what a server answers, in milliseconds since 1970, with the time at which it was asked.
pub(super) async fn compare<E>(asked: impl Future<Output = Result<i64, E>>) -> Finding {
    let before = millis();
    let Ok(Ok(there)) = timeout(CONNECT_TIMEOUT, asked).await else {
        return untold();
    };
    judge(before, there, millis())
}

pub(super) fn untold() -> Finding {
    Finding::warn(CHECK, "the server does not tell its time")
}

fn judge(before: i64, there: i64, after: i64) -> Finding {
    // The answer is of some moment between the two.
    let apart = match there {
        _ if there < before => before - there,
        _ if there > after => there - after,
        _ => 0,
    };
    if apart <= APART_MAX_MS {
        return Finding::ok(CHECK, "the server's clock goes with this one");
    }
    let text = format!(
        "the server's clock is {apart} ms away from this one: let both follow the same time server, or \
         sessions expire early or late"
    );
    Finding::warn(CHECK, text)
}

fn millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or(Duration::ZERO).as_millis()).unwrap_or(i64::MAX)
}

const CHECK: &str = "clock";

/// Shorter than what anybody notices of a deadline, longer than clocks that are looked after differ.
const APART_MAX_MS: i64 = 1000;

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    #[test]
    fn clocks_may_be_a_second_apart_besides_the_time_of_the_answer() {
        for (before, there, after, level) in [
            (5000, 5010, 5020, Level::Ok),
            (5000, 4000, 5020, Level::Ok),
            (5000, 3999, 5020, Level::Warn),
            (5000, 6020, 5020, Level::Ok),
            (5000, 6021, 5020, Level::Warn),
        ] {
            assert_eq!(judge(before, there, after).level, level, "{there}");
        }
    }
}
