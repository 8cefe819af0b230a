//! What sessions in cookies add to a request: tower-keep, the signed and the private jar of the crate cookie around
//! a JSON map, and actix-session's cookies, side by side.
//!
//! `cargo run --release` here. Every request goes through a whole router; what the same router costs without sessions
//! is taken off, actix-web's from actix-session. The data is the same: `visits`, and preferences of 65 bytes.
//!
//! `-- loop CONTENDER KEYS PATH TIMES` sends one request so many times and measures nothing, for a profiler.

mod actix;
mod client;
mod jar;
#[path = "../../cost/keep.rs"]
mod keep;
mod measure;

use actix_session::config::CookieContentSecurity;
use tower_keep::{CookieStore, Keyring};
use tower_keep_harness::bare;

use crate::{
    client::{Contender, over_axum},
    jar::Jar,
};

fn main() {
    let secret = Keyring::generate_secret().expect("random bits");
    let keyring = Keyring::new(secret).expect("a secret");
    let keep = |cookies| over_axum(keep::router(cookies));
    // actix-web needs its own runtime, which is tokio's of one thread.
    actix_web::rt::System::new().block_on(async {
        let bare_axum = Contender::new("axum", over_axum(bare()));
        let bare_actix = Contender::new("actix-web", actix::bare().await);
        let signed = [
            Contender::new("tower-keep signed", keep(CookieStore::signed(&keyring))),
            Contender::new("cookie signed", over_axum(jar::router(Jar::Signed))),
            Contender::new(
                "actix-session signed",
                actix::sessions(CookieContentSecurity::Signed).await,
            ),
        ];
        let encrypted = [
            Contender::new(
                "tower-keep encrypted",
                keep(CookieStore::encrypted(&keyring)),
            ),
            Contender::new("cookie private", over_axum(jar::router(Jar::Private))),
            Contender::new(
                "actix-session private",
                actix::sessions(CookieContentSecurity::Private).await,
            ),
        ];
        measure::main([bare_axum, bare_actix], &[signed, encrypted]).await;
    });
}
