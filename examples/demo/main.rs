//! A small shop to look at in a browser: a cart that survives the sign-in, a message that is shown once, "remember me", and
//! a list of one's devices with a button to end each.
//!
//! ```console
//! $ cargo run --example demo --features sqlite
//! sessions are in sqlite: …/target/debug/examples/demo.sqlite
//! listening on http://localhost:3000
//! open it in Firefox or Chromium: Safari may drop Secure cookies of plain HTTP
//! ```
//!
//! Open it in two browsers, sign in as the same user, and end one from the other. Stop it with Ctrl-C and start it again:
//! nobody is signed out.
//!
//! `--store URL` keeps the sessions elsewhere, if the crate is built with the feature of that store:
//! `--store redis://127.0.0.1:6379`, `--store postgres://localhost/sessions`, `--store memory:`. `--listen 127.0.0.1:0` takes
//! a free port.

mod app;
mod arguments;
#[cfg(test)]
mod tests;

use std::{env, error::Error as StdError, process::ExitCode};

use tokio::net::TcpListener;
use tower_keep::stores;

use crate::{app::Users, arguments::Arguments};

#[tokio::main]
async fn main() -> ExitCode {
    let served = match Arguments::parse(env::args().skip(1)) {
        Ok(arguments) => serve(&arguments).await,
        Err(usage) => Err(usage.into()),
    };
    let Err(error) = served else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("because: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}

async fn serve(arguments: &Arguments) -> Result<(), Box<dyn StdError>> {
    let (url, shown) = match &arguments.store {
        // It may hold a password.
        Some(url) => (url.clone(), "at the address that was given".to_owned()),
        None => beside_the_program()?,
    };
    let store = stores::open(&url).await?;
    store.migrate().await?;
    println!("sessions are in {}: {shown}", store.kind());

    let listener = TcpListener::bind(&arguments.listen).await?;
    let address = listener.local_addr()?;
    match address.ip().is_loopback() {
        true => {
            println!("listening on http://localhost:{}", address.port());
            println!(
                "open it in Firefox or Chromium: Safari may drop Secure cookies of plain HTTP"
            );
        }
        // Browsers keep the cookie of a site that is not localhost only if it came over HTTPS.
        false => println!("listening on http://{address}, for a proxy that speaks HTTPS"),
    }
    app::serve(listener, store, Users::new(), told_to_stop()).await?;
    Ok(())
}

/// Ctrl-C, or what a system sends to the services that it stops.
async fn told_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    interrupt.await.unwrap_or_default();
}

/// The address of a file of SQLite, and its path for people.
fn beside_the_program() -> Result<(String, String), Box<dyn StdError>> {
    let file = env::current_exe()?.with_extension("sqlite");
    let path = file.to_str().ok_or("the path of this program is no text")?;
    let escaped = path
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23");
    Ok((format!("sqlite://{escaped}"), path.to_owned()))
}
