//! The four operations of a store beside the raw calls and beside tower-sessions.

use std::time::Duration;

use tempfile::TempDir;

use crate::{
    contender::{Contenders, Operation},
    database::{
        CONNECTIONS, mariadb, mariadb_server, postgres, postgres_server, sqlite_file, sqlite_memory,
    },
    is_wanted,
    measure::{SESSIONS, measure, populate},
    turns::Turns,
};

pub async fn run() {
    println!(
        "microseconds an operation (all callers together), and the medians of the rounds' ratios\n"
    );
    println!(
        "| database | callers | operation | floor | ours | peer | ours to floor | ours to peer |"
    );
    println!("|---|---:|---|---:|---:|---:|---:|---:|");
    let tests = [(true, ""), (false, ", untested")];
    if is_wanted("postgres") {
        let server = postgres_server().await;
        for (tested, mark) in tests {
            let contenders = postgres(&server.url(), CONNECTIONS, tested).await;
            compare(&format!("PostgreSQL{mark}"), &contenders, SERVER_OPERATIONS).await;
            clear_postgres(&server.url()).await;
        }
        count_header();
        for (tested, mark) in tests {
            let turns = Turns::to(server.port()).await;
            let contenders = postgres(&server.url_at(turns.port), 1, tested).await;
            count(&format!("PostgreSQL{mark}"), &contenders, &turns).await;
            clear_postgres(&server.url()).await;
        }
    }
    if is_wanted("mariadb") {
        let server = mariadb_server().await;
        for (tested, mark) in tests {
            let contenders = mariadb(&server.url(), CONNECTIONS, tested).await;
            compare(&format!("MariaDB{mark}"), &contenders, SERVER_OPERATIONS).await;
            clear_mariadb(&server.url()).await;
        }
        count_header();
        for (tested, mark) in tests {
            let turns = Turns::to(server.port()).await;
            let contenders = mariadb(&server.url_at(turns.port), 1, tested).await;
            count(&format!("MariaDB{mark}"), &contenders, &turns).await;
            clear_mariadb(&server.url()).await;
        }
    }
    if is_wanted("sqlite") {
        let folder = TempDir::new().expect("a folder");
        let in_file = sqlite_file(&folder).await;
        compare("SQLite, file", &in_file, SQLITE_OPERATIONS).await;
        let in_memory = sqlite_memory().await;
        compare("SQLite, memory", &in_memory, SQLITE_OPERATIONS).await;
    }
}

fn count_header() {
    println!(
        "\nhow often an operation of one caller waits for the server, the pool's own questions included\n"
    );
    println!("| database | operation | floor | ours | peer |");
    println!("|---|---|---:|---:|---:|");
}

/// A row for each operation and number of callers. "untested": the pool does not test a connection before it hands
/// it out.
async fn compare(database: &str, contenders: &Contenders, turn_operations: usize) {
    populate(contenders, SESSIONS).await;
    for callers in [1, 16] {
        for (operation, costs) in measure(contenders, callers, turn_operations).await {
            let name = operation.name();
            let times = costs
                .iter()
                .map(|cost| format!("{:.1}", cost.time))
                .collect::<Vec<_>>()
                .join(" | ");
            let (to_floor, to_peer) = (costs[1].to_floor, costs[2].ours_to_it);
            println!(
                "| {database} | {callers} | {name} | {times} | {to_floor:.2} | {to_peer:.2} |"
            );
        }
    }
}

async fn count(database: &str, contenders: &Contenders, turns: &Turns) {
    populate(contenders, 1).await;
    for operation in Operation::ALL {
        let name = operation.name();
        print!("| {database} | {name} |");
        for (_, contender) in contenders {
            let number = match operation {
                Operation::Load | Operation::Update => 0,
                Operation::Create | Operation::Delete => 1,
            };
            // Without the preparation of the statement, which is done once for a connection.
            match operation {
                Operation::Load | Operation::Update => operation.run(&**contender, number).await,
                Operation::Create => {
                    contender.create(2).await;
                }
                Operation::Delete => contender.delete(2).await,
            }
            tokio::time::sleep(SETTLED).await;
            let before = turns.count();
            operation.run(&**contender, number).await;
            tokio::time::sleep(SETTLED).await;
            print!(" {} |", turns.count() - before);
        }
        println!();
    }
}

/// Everybody begins with empty tables.
async fn clear_postgres(url: &str) {
    let pool = crate::database::postgres_pool(url, 1, false).await;
    let tables = "TRUNCATE floor, tower_keep_sessions, tower_sessions.session";
    sqlx::raw_sql(tables)
        .execute(&pool)
        .await
        .expect("empty tables");
}

async fn clear_mariadb(url: &str) {
    let pool = crate::database::mariadb_pool(url, 1, false).await;
    let tables = "TRUNCATE floor; TRUNCATE tower_keep_sessions; TRUNCATE tower_sessions.session";
    sqlx::raw_sql(tables)
        .execute(&pool)
        .await
        .expect("empty tables");
}

const SERVER_OPERATIONS: usize = 160;

const SQLITE_OPERATIONS: usize = 800;

/// The pool asks a connection that comes back whether it is well.
const SETTLED: Duration = Duration::from_millis(20);
