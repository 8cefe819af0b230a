//! What the SQL stores cost: beside the raw calls of their drivers, beside the stores of tower-sessions, in tables of
//! any size, and while expired sessions are swept out.
//!
//! `cargo run --release -- reads|growth|sweep` here. It starts servers of its own; PostgreSQL and MariaDB have to be
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
        _ => eprintln!("usage: cargo run --release -- reads|growth|sweep"),
    }
}
