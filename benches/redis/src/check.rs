//! Checks that a contender does what it is measured for, and opens its sessions.

use crate::{client::Client, contender::Contender, process::ServerProcess};

/// With less of them, all would be changed by the check.
pub const SESSIONS_MIN: usize = 7;

/// Panics unless each session counts for itself, over two connections.
pub async fn keeps_sessions(server: &mut ServerProcess, sessions: usize) {
    for _ in 0..sessions {
        let cookie = server.login().await;
        assert!(!server.cookies.contains(&cookie) || is_bare(server));
        server.cookies.push(cookie);
    }
    if is_bare(server) {
        return;
    }
    for visits in 1..=3 {
        let cookies = server.cookies.iter().take(2 * visits);
        for cookie in cookies {
            let mut client = Client::connect(server.address).await;
            let before = number(&mut client, "/read", cookie).await;
            let after = number(&mut client, "/increment", cookie).await;
            assert_eq!(after, before + 1, "{}", server.contender.name());
            let mut client = Client::connect(server.address).await;
            let read = number(&mut client, "/read", cookie).await;
            assert_eq!(read, after, "{}", server.contender.name());
        }
    }
    let mut client = Client::connect(server.address).await;
    let first = number(&mut client, "/read", &server.cookies[0]).await;
    let last = number(&mut client, "/read", &server.cookies[sessions - 1]).await;
    assert_eq!((first, last), (3, 0), "{}", server.contender.name());
}

async fn number(client: &mut Client, path: &str, cookie: &str) -> u64 {
    let reply = client.send(&Client::request(path, cookie)).await;
    reply.body().parse().expect("a number")
}

fn is_bare(server: &ServerProcess) -> bool {
    server.contender == Contender::Bare
}
