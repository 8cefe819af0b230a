//! `tower-keep doctor`

#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
mod clock;
mod finding;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(not(all(feature = "mysql", feature = "postgres", feature = "redis")))]
mod nothing;
#[cfg(feature = "postgres")]
mod postgres;
mod probe;
#[cfg(feature = "redis")]
mod redis;

use serde_json::json;
use tower_keep::stores::OpenStore;

use self::finding::{Finding, Level};
#[cfg(not(feature = "mysql"))]
use self::nothing as mysql;
#[cfg(not(feature = "postgres"))]
use self::nothing as postgres;
#[cfg(not(feature = "redis"))]
use self::nothing as redis;
use crate::{
    arguments::Doctor,
    exit::{Exit, line},
    open::{check, open_unasked},
    output,
};

pub(crate) async fn run(arguments: Doctor) -> anyhow::Result<Exit> {
    let store = open_unasked(&arguments.store.url).await?;
    let findings = examine(&store, &arguments.store.url).await;
    if arguments.json.is_wanted {
        output::json(&json!({ "store": store.kind(), "checks": findings }))?;
    } else {
        let row = |finding: &Finding| {
            let Finding { level, check, text } = finding;
            [level.name().to_owned(), (*check).to_owned(), text.clone()]
        };
        output::rows(["", "check", "what was found"], findings.iter().map(row))?;
    }
    let has_failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if has_failed { Exit::No } else { Exit::Done })
}

async fn examine(store: &OpenStore, url: &str) -> Vec<Finding> {
    if let Err(error) = check(store).await {
        return vec![Finding::fail("answer", line(&error))];
    }
    let mut findings = vec![Finding::ok("answer", "the store answers")];
    findings.push(probe::run(store).await);
    // The name of a table is nothing that the driver knows.
    let server = url.split_once('#').map_or(url, |(server, _)| server);
    findings.extend(match store.kind() {
        "postgres" => postgres::examine(server).await,
        "mysql" => mysql::examine(server).await,
        "redis" => redis::examine(url).await,
        "memcached" => vec![Finding::warn(
            "durability",
            "memcached ends sessions when it restarts, or needs the room: keep those elsewhere that matter",
        )],
        _ => Vec::new(),
    });
    findings
}
