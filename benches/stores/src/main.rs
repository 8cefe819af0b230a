//! What the SQL stores cost: beside the raw calls of their drivers, beside the stores of tower-sessions, in tables of
//! any size, while expired sessions are swept out, and behind a cache that fails.
//!
//! `cargo run --release -- reads|growth|sweep|outage` here; `reads` and `growth` take the name of one database (`postgres`,
//! `mariadb`, `sqlite`) and otherwise measure all. It starts servers of its own; PostgreSQL, MariaDB and Redis have to
//! be installed.

mod contender;
mod database;
mod fill;
mod growth;
mod keep;
mod measure;
mod outage;
mod raw;
mod reads;
mod sweep;
mod tower_sessions;
mod turns;

use std::env;

#[tokio::main]
async fn main() {
    match env::args().nth(1).as_deref() {
        Some("reads") => reads::run().await,
        Some("growth") => growth::run().await,
        Some("sweep") => sweep::run().await,
        Some("outage") => outage::run().await,
        _ => {
            eprintln!(
                "usage: cargo run --release -- reads|growth|sweep|outage [postgres|mariadb|sqlite]"
            )
        }
    }
}

/// Whether that database is to be measured.
fn is_wanted(database: &str) -> bool {
    env::args().nth(2).is_none_or(|wanted| wanted == database)
}
