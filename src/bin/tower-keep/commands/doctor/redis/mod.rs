//! What only Redis can be asked.

use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection, cmd};

use super::{clock, finding::Finding};

pub(super) async fn examine(url: &str) -> Vec<Finding> {
    if url.contains("+cluster://") || url.contains("+sentinel://") {
        let each = "ask each server by its own address for its memory, durability and clock";
        return vec![Finding::warn("servers", each)];
    }
    // What the driver says of an error may quote.
    let Ok((connection, info)) = ask(url).await else {
        let untold = "the server does not answer INFO: allow it to this user";
        return vec![Finding::warn("memory", untold)];
    };
    vec![
        memory(&info),
        durability(&info),
        clock::compare(time(connection)).await,
    ]
}

async fn ask(url: &str) -> Result<(MultiplexedConnection, String), RedisError> {
    let client = Client::open(url)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    let info = cmd("INFO").query_async(&mut connection).await?;
    Ok((connection, info))
}

async fn time(mut connection: MultiplexedConnection) -> Result<i64, RedisError> {
    let (seconds, micros): (i64, i64) = cmd("TIME").query_async(&mut connection).await?;
    Ok(seconds * 1000 + micros / 1000)
}

/// As long as the store is waited for.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Every key of a session has a time to live, so those that begin with `volatile` drop sessions too.
fn memory(info: &str) -> Finding {
    match field(info, "maxmemory_policy") {
        Some("noeviction") => Finding::ok("memory", "sessions are not dropped when it is full"),
        Some(policy) => {
            let text = format!(
                "with maxmemory-policy {policy} a full server ends sessions, and forgets which are a user's: set \
                 noeviction, and room enough"
            );
            Finding::warn("memory", text)
        }
        None => Finding::warn("memory", "the server does not tell its maxmemory-policy"),
    }
}

fn durability(info: &str) -> Finding {
    let check = "durability";
    let has_failed = |name| field(info, name) == Some("err");
    if has_failed("rdb_last_bgsave_status") || has_failed("aof_last_write_status") {
        let text = "the server could not write to its disk the last time: see its log";
        return Finding::fail(check, text);
    }
    match field(info, "aof_enabled") {
        Some("1") => Finding::ok(check, "there is an append-only file"),
        _ => Finding::warn(
            check,
            "a crash loses what has changed since the last snapshot, or all: set appendonly yes",
        ),
    }
}

/// Of the lines `NAME:VALUE`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(key, _)| *key == name)?;
    Some(value.trim_end())
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    #[test]
    fn a_server_that_drops_or_forgets_is_warned_of() {
        let good = "# Memory\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";
        assert_eq!(memory(good).level, Level::Ok);
        assert_eq!(durability(good).level, Level::Ok);
        let cache = "maxmemory_policy:volatile-lru\r\naof_enabled:0\r\n";
        assert_eq!(memory(cache).level, Level::Warn);
        assert_eq!(durability(cache).level, Level::Warn);
        let broken = "aof_enabled:1\r\naof_last_write_status:err\r\n";
        assert_eq!(durability(broken).level, Level::Fail);
    }
}
