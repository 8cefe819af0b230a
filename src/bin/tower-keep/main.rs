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

use std::{error::Error, process::ExitCode};

use clap::{
    Parser,
    error::{ContextKind, ErrorKind},
};
use tokio::runtime::Runtime;

use crate::{
    arguments::Arguments,
    exit::{Exit, Refusal, report},
    interrupt::Interrupt,
    output::complain,
};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error).into(),
    };
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

/// Nothing is repeated of what was typed in a wrong place: it may be an address with a password, or a cookie.
fn refuse(error: &clap::Error) -> Exit {
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _shown = error.print();
        return Exit::Done;
    }
    if matches!(kind, ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        let of = error.get(ContextKind::InvalidArg);
        let of = of.map(|of| format!(" for {of}")).unwrap_or_default();
        let cause = error.source().map(|cause| format!(": {cause}"));
        complain(format!("a wrong value{of}{}", cause.unwrap_or_default()));
    } else if QUOTING_NOTHING.contains(&kind) {
        let _shown = error.print();
    } else {
        complain(format!("{kind}; --help tells what can be said"));
    }
    Exit::Usage
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

/// Errors that name options alone.
const QUOTING_NOTHING: [ErrorKind; 4] = [
    ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ErrorKind::MissingRequiredArgument,
    ErrorKind::MissingSubcommand,
    ErrorKind::ArgumentConflict,
];
