//! What only Redis can be asked.

mod servers;

use redis::{RedisResult, cmd, pipe};

use self::servers::Server;
use super::{clock, finding::Finding};

/// Asks each server that keeps sessions.
pub(super) async fn examine(url: &str) -> Vec<Finding> {
    let (url, prefix) = url.split_once('#').unwrap_or((url, "tower-keep"));
    // What the driver says of an error may quote.
    let Ok(servers) = servers::of(url).await else {
        let silent = "a server does not answer, or says of no primary: see that each can be reached from here";
        return vec![Finding::warn("servers", silent)];
    };
    let mut of_servers = Vec::with_capacity(servers.len());
    for mut server in servers {
        let findings = of_one(&mut server, prefix).await;
        of_servers.push((server.name, findings));
    }
    merged(of_servers)
}

async fn of_one(server: &mut Server, prefix: &str) -> Vec<Finding> {
    let Ok(info) = server.ask::<String>(&cmd("INFO")).await else {
        let untold = "the server does not answer INFO: allow it to this user";
        return vec![Finding::warn("memory", untold)];
    };
    vec![
        memory(&info),
        durability(&info),
        times_to_live(server, prefix).await,
        clock::compare(time(server)).await,
    ]
}

/// What all say is said once; what only some say, with their names.
fn merged(of_servers: Vec<(String, Vec<Finding>)>) -> Vec<Finding> {
    let count = of_servers.len();
    let mut merged: Vec<(Finding, Vec<String>)> = Vec::new();
    for (name, findings) in of_servers {
        for finding in findings {
            match merged.iter_mut().find(|(known, _)| *known == finding) {
                Some((_, names)) => names.push(name.clone()),
                None => merged.push((finding, vec![name.clone()])),
            }
        }
    }
    let say = |(finding, names): (Finding, Vec<String>)| match names.len() == count {
        true => finding,
        false => Finding {
            text: format!("{}: {}", names.join(", "), finding.text),
            ..finding
        },
    };
    merged.into_iter().map(say).collect()
}

async fn time(server: &mut Server) -> RedisResult<i64> {
    let (seconds, micros): (i64, i64) = server.ask(&cmd("TIME")).await?;
    Ok(seconds * 1000 + micros / 1000)
}

async fn times_to_live(server: &mut Server, prefix: &str) -> Finding {
    let check = "expiry";
    match without_time_to_live(server, prefix).await {
        Ok((0, _)) => Finding::ok(
            check,
            "the keys that were looked at all have a time to live",
        ),
        Ok((without, looked_at)) => {
            let text = format!(
                "of {looked_at} keys that were looked at {without} have no time to live and stay for ever: something else has written \
                 them, or PERSIST was run; give them one with PEXPIRE"
            );
            Finding::warn(check, text)
        }
        Err(_) => Finding::warn(
            check,
            "the server does not answer SCAN and PTTL: allow them to this user",
        ),
    }
}

/// How many of some keys of the store have none, and how many were looked at.
async fn without_time_to_live(server: &mut Server, prefix: &str) -> RedisResult<(usize, usize)> {
    // What a prefix may be in an address means itself in a pattern.
    let pattern = format!("{prefix}:*");
    let (mut without, mut looked_at) = (0, 0);
    let mut cursor = 0_u64;
    for _ in 0..SCANS_MAX {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&pattern);
        let (next, keys): (u64, Vec<Vec<u8>>) = server.ask(scan.arg("COUNT").arg(1000)).await?;
        let mut questions = pipe();
        for key in &keys {
            questions.cmd("PTTL").arg(key);
        }
        let times: Vec<i64> = server.ask_all(&questions).await?;
        without += times
            .iter()
            .filter(|time| **time == NO_TIME_TO_LIVE)
            .count();
        looked_at += times.len();
        cursor = next;
        if cursor == 0 || looked_at >= KEYS_ENOUGH {
            break;
        }
    }
    Ok((without, looked_at))
}

/// In a server that is full of other keys.
const SCANS_MAX: u32 = 100;
const KEYS_ENOUGH: usize = 1000;
/// What PTTL answers.
const NO_TIME_TO_LIVE: i64 = -1;

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
