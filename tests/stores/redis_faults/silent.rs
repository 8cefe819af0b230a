//! One connection goes silent, and others do not.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower_keep::SessionStore;
use tower_keep_servers::{Kind, Server};

use crate::{redis_places::patient, sql_places::new_id};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_replaced_once_for_all_who_wait() {
    let server = Server::shared(Kind::Redis).await.address();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (count, is_silent) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (counted, silent) = (Arc::clone(&count), Arc::clone(&is_silent));
    let passing = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let is_first = counted.fetch_add(1, SeqCst) == 0;
            let silent = Arc::clone(&silent);
            connections.spawn(async move {
                let mut server = TcpStream::connect(server).await?;
                if !is_first {
                    return copy_bidirectional(&mut client, &mut server).await.map(drop);
                }
                let (mut from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let back = async {
                    let mut buffer = [0; 4096];
                    loop {
                        let read = from_server.read(&mut buffer).await?;
                        if read == 0 {
                            return Ok(());
                        }
                        if !silent.load(Relaxed) {
                            to_client.write_all(&buffer[..read]).await?;
                        }
                    }
                };
                let passed = tokio::try_join!(copy(&mut from_client, &mut to_server), back);
                passed.map(drop)
            });
        }
    });
    let store = patient(&format!("redis://127.0.0.1:{port}"));
    assert_eq!(store.load(&new_id()).await.unwrap(), None);
    is_silent.store(true, Relaxed);
    let mut loads = JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        loads.spawn(async move { store.load(&new_id()).await.unwrap() });
    }
    loads.join_all().await;
    assert_eq!(count.load(SeqCst), 2);
    passing.abort();
}
