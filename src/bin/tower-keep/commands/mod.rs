//! The commands, one a file.

mod copy;
mod delete_expired;
mod doctor;
mod keygen;
mod list;
mod migrate;
mod revoke;
mod schema;
mod show;
mod stats;

use crate::{
    arguments::Command,
    exit::{Exit, is_closed_pipe},
    interrupt::Interrupt,
};

pub(crate) async fn run(command: Command, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    // Those that take the interrupt themselves stop at places from which one can go on.
    match command {
        Command::Migrate(arguments) => interrupt.or(migrate::run(arguments)).await,
        Command::Schema(arguments) => seen(interrupt.or(schema::run(arguments)).await),
        Command::DeleteExpired(arguments) => delete_expired::run(arguments, interrupt).await,
        Command::Stats(arguments) => seen(interrupt.or(stats::run(arguments)).await),
        Command::List(arguments) => seen(interrupt.or(list::run(arguments)).await),
        Command::Show(arguments) => seen(interrupt.or(show::run(arguments)).await),
        Command::Revoke(arguments) => revoke::run(arguments, interrupt).await,
        Command::Keygen(arguments) => keygen::run(&arguments),
        Command::Doctor(arguments) => interrupt.or(doctor::run(arguments)).await,
        Command::Copy(arguments) => copy::run(arguments, interrupt).await,
    }
}

/// Of what does nothing but show, no more was wanted than what was read.
fn seen(shown: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    match shown {
        Err(error) if is_closed_pipe(&error) => Ok(Exit::Done),
        shown => shown,
    }
}
