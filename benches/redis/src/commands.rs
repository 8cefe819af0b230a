//! What a request asks of Redis.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;

use crate::{case::Case, load, process::ServerProcess};

/// Reads how often Redis has run each command.
pub struct Counter {
    connection: MultiplexedConnection,
}

impl Counter {
    pub async fn of(redis_url: &str) -> Self {
        let client = redis::Client::open(redis_url).expect("an address");
        let connection = client.get_multiplexed_async_connection().await;
        Self {
            connection: connection.expect("Redis"),
        }
    }

    /// The number of calls of each command, but for its own.
    async fn calls(&mut self) -> BTreeMap<String, f64> {
        let text: String = redis::cmd("INFO")
            .arg("commandstats")
            .query_async(&mut self.connection)
            .await
            .expect("statistics");
        let calls = text.lines().filter_map(|line| {
            let (command, numbers) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = numbers.split(',').next()?.parse().ok()?;
            Some((command.to_owned(), calls))
        });
        calls.filter(|(command, _)| command != "info").collect()
    }
}

/// Prints a row for each contender.
pub async fn print(counter: &mut Counter, servers: &mut [ServerProcess]) {
    println!("Commands a request, with those that a script runs\n");
    let cases = Case::ALL.map(Case::name).join(" | ");
    println!("| contender | {cases} |");
    println!("|---|---|---|---|");
    for server in servers {
        let mut cells = Vec::new();
        for case in Case::ALL {
            let before = counter.calls().await;
            let requests = load::run_times(server, case, EACH).await;
            let after = counter.calls().await;
            cells.push(difference(&before, &after, f64::from(requests)));
        }
        println!("| {} | {} |", server.contender.name(), cells.join(" | "));
    }
    println!();
}

fn difference(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
    requests: f64,
) -> String {
    let commands = after.iter().filter_map(|(command, calls)| {
        let calls = calls - before.get(command).unwrap_or(&0.0);
        let rate = calls / requests;
        (rate >= 0.005).then(|| format!("{} {}", rounded(rate), command.to_uppercase()))
    });
    let commands: Vec<String> = commands.collect();
    match commands[..] {
        [] => "none".to_owned(),
        _ => commands.join(", "),
    }
}

/// With two decimals if need be.
fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

/// Requests of each connection.
const EACH: u32 = 50;
