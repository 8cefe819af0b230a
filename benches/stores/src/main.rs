//! What the SQL stores cost: beside the raw calls of their drivers, beside the stores of tower-sessions, in tables of
//! any size, and while expired sessions are swept out.
//!
//! `cargo run --release -- reads|growth|sweep` here; `reads` and `growth` take the name of one database (`postgres`,
//! `mariadb`, `sqlite`) and otherwise measure all. It starts servers of its own; PostgreSQL and MariaDB have to be
//! installed.

mod contender;
mod database;
mod fill;
mod growth;
mod keep;
mod measure;
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
        _ => {
            eprintln!("usage: cargo run --release -- reads|growth|sweep [postgres|mariadb|sqlite]")
        }
    }
}

/// Whether that database is to be measured.
fn is_wanted(database: &str) -> bool {
    env::args().nth(2).is_none_or(|wanted| wanted == database)
}
