//! The program `tower-keep`: sessions in a store, seen by those who operate it.

mod arguments;
mod commands;
mod concurrently;
mod confirmation;
mod exit;
mod interrupt;
mod moment;
mod open;
mod output;
mod progress;
mod warnings;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Runtime;

use crate::{
    arguments::Arguments,
    exit::{Exit, Refusal, report},
    interrupt::Interrupt,
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let exit = match Runtime::new() {
        Ok(runtime) => {
            let exit = runtime.block_on(run(arguments));
            // A thread may be waiting for an answer to a question, and would never end.
            runtime.shutdown_background();
            exit
        }
        Err(error) => report(&error.into()),
    };
    exit.into()
}

async fn run(arguments: Arguments) -> Exit {
    warnings::show();
    let interrupt = Interrupt::listen();
    let done = tokio::select! {
        done = commands::run(arguments.command, &interrupt) => done,
        () = interrupt.insisted() => Err(Refusal::Interrupted("stopped at once".to_owned()).into()),
    };
    done.unwrap_or_else(|error| report(&error))
}
