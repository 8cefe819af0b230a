//! Servers that go silent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};
use tower_keep::{SessionStore, StoreErrorKind};

use super::{new_id, open, quiet};
use crate::support::{PATIENCE, eventually};

/// Its host may have gone without a word, and the name may lead to another one by now: it is looked up again when the
/// server is asked for its settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_gone_silent_is_looked_for_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            connections.spawn(async move {
                let mut lines = BufReader::new(stream).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line == "stats settings" {
                        count.fetch_add(1, SeqCst);
                        let settings = b"STAT item_size_max 1048576\r\nEND\r\n";
                        let _ = lines.get_mut().write_all(settings).await;
                    }
                }
            });
        }
    });
    let hasty = open(&[port]).with_timeout(Duration::from_millis(50));
    let patient = open(&[port]);
    for (store, limit) in [(hasty, PATIENCE), (patient, Duration::from_millis(50))] {
        let before = asked.load(SeqCst);
        // Whose caller gives up before the store does, never hears of it.
        eventually("another look", || async {
            match timeout(limit, store.load(&new_id())).await {
                Ok(found) => assert_eq!(quiet(&found.unwrap_err()), StoreErrorKind::Unavailable),
                Err(_) => assert!(limit < PATIENCE),
            }
            (asked.load(SeqCst) > before + 1).then_some(())
        })
        .await;
    }
    server.abort();
}
