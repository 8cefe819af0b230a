//! The server process of one contender; [`ServerProcess`](crate::process::ServerProcess) starts it.

use axum::serve::ListenerExt;
use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::contender::Contender;

/// Prints its port, and serves until its input ends: its parent is gone then, whatever the cause.
pub async fn run(name: &str, redis_url: &str) {
    let contender = Contender::named(name).expect("a contender");
    let router = contender.router(redis_url).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("an option"));
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served.expect("a server"),
        _ = async { tokio::io::stdin().read_u8().await } => {}
    }
}
