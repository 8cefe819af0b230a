//! Servers that do not behave.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tower_keep::{
    MemcachedStore, Record, SessionStore, StoreError, StoreErrorKind, Updated, testing::Operation,
};
use tower_keep_servers::{Kind, Server};

use super::{CANARY, CUSHION, Nodes, moved, new_id, open, pending, put, put_record, quiet};
use crate::{
    file_faults::record,
    support::{PATIENCE, eventually},
};

/// What a server says to a read and to a write; nothing is the end of the connection.
#[derive(Clone, Copy)]
struct Manners {
    settings: &'static str,
    read: &'static [u8],
    write: &'static str,
}

const PLAIN: Manners = Manners {
    settings: "STAT item_size_max 1048576\r\nEND\r\n",
    read: b"EN\r\n",
    write: "HD\r\n",
};

/// How many commands it was sent, from now on.
async fn misbehave(manners: Manners) -> (MemcachedStore, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let commands = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&commands);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, manners, Arc::clone(&counted)));
        }
    });
    (open(&[port]).with_timeout(LIMIT), commands)
}

async fn serve(stream: TcpStream, manners: Manners, commands: Arc<AtomicU64>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while let Ok(1..) = stream.read_line(&mut line).await {
        commands.fetch_add(1, SeqCst);
        let reply = match &line[..2] {
            "st" => manners.settings.as_bytes(),
            "ms" => {
                let length: usize = line.split(' ').nth(2).unwrap().trim().parse().unwrap();
                let mut value = vec![0; length + 2];
                stream.read_exact(&mut value).await.unwrap();
                manners.write.as_bytes()
            }
            _ => manners.read,
        };
        if reply.is_empty() || stream.write_all(reply).await.is_err() {
            break;
        }
        line.clear();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_each_write_is_an_error_in_time() {
    let first = record(1, CANARY.as_bytes());
    let bytes = first.to_bytes();
    let head = format!("VA {} c1\r\n", bytes.len());
    let there = [head.as_bytes(), &bytes, b"\r\n"].concat().leak();
    let mut fastest = Duration::MAX;
    for (operation, read) in [
        (Operation::Create, PLAIN.read),
        (Operation::Update, there),
        (Operation::Touch, there),
        (Operation::Delete, there),
        (Operation::Rotate, PLAIN.read),
    ] {
        for write in ["EX\r\n", ""] {
            let manners = Manners {
                read,
                write,
                ..PLAIN
            };
            let (store, commands) = misbehave(manners).await;
            let started = Instant::now();
            let run = timeout(PATIENCE, run(operation, &store, &first)).await;
            let error = run.unwrap().unwrap_err();
            assert_eq!(quiet(&error), StoreErrorKind::Unavailable);
            let took = started.elapsed();
            let sent = commands.load(SeqCst);
            eprintln!("{operation:?} {write:?}: {sent} commands in {took:?}");
            assert!(took < LIMIT + CUSHION, "{took:?}");
            fastest = fastest.min(took);
            // Nothing goes on behind it for long.
            eventually("silence", || async {
                let before = commands.load(SeqCst);
                tokio::time::sleep(LIMIT / 10).await;
                (commands.load(SeqCst) == before).then_some(())
            })
            .await;
        }
    }
    // What is late on a busy machine is not late each time.
    assert!(fastest < LIMIT * 4, "{fastest:?}");
}

async fn run(
    operation: Operation,
    store: &MemcachedStore,
    first: &Record,
) -> Result<(), StoreError> {
    let (id, next) = (new_id(), record(2, CANARY.as_bytes()));
    let (later, expected) = (next.expires_at.saturating_add(LIMIT), first.version);
    match operation {
        Operation::Create => drop(store.create(&id, first).await?),
        Operation::Update => drop(store.update(&id, &next, expected).await?),
        Operation::Touch => drop(store.touch(&id, later, expected).await?),
        Operation::Delete => drop(store.delete(&id).await?),
        _ => drop(store.rotate(&id, &new_id(), &next, expected).await?),
    }
    Ok(())
}

/// With `-C` it would take each write, whatever was compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_compare_and_set_is_refused_or_loses_nothing() {
    let server = Server::start_with(Kind::Memcached, &["-C"]).await;
    let store = open(&[server.port()]).with_timeout(LIMIT);
    let (id, first) = (new_id(), record(1, CANARY.as_bytes()));
    if let Err(error) = store.create(&id, &first).await {
        quiet(&error);
        return;
    }
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let (store, expected) = (store.clone(), first.version);
        tasks.spawn(async move {
            let next = record(2, CANARY.as_bytes());
            store.update(&id, &next, expected).await
        });
    }
    let updated = tasks.join_all().await;
    let done = updated.iter().filter(|u| matches!(u, Ok(Updated::Done)));
    assert!(done.count() <= 1, "writes were lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_says_out_of_turn_is_a_quiet_error() {
    for reply in [
        "VA 6 c1\r\nc4n4ry",
        "VA 99999999 c1\r\nc4n4ry\r\n",
        "c4n4ry\r\n",
        "VA c4n4ry\r\n",
        "HD\r\n",
        "ERROR\r\n",
        "SERVER_ERROR out of memory\r\n",
        "CLIENT_ERROR bad command line format\r\n",
        "ERROR Too many open connections\r\n",
        "",
    ] {
        let (store, _) = misbehave(Manners {
            read: reply.as_bytes(),
            ..PLAIN
        })
        .await;
        match timeout(PATIENCE, store.load(&new_id())).await.unwrap() {
            Ok(found) => panic!("{reply:?}: {found:?}"),
            Err(error) => {
                let kind = quiet(&error);
                eprintln!("{reply:?}: {kind:?}");
            }
        }
        let settings = Manners {
            settings: reply,
            ..PLAIN
        };
        let (store, _) = misbehave(settings).await;
        let (id, record) = (new_id(), record(1, CANARY.as_bytes()));
        let created = timeout(PATIENCE, store.create(&id, &record)).await;
        let error = created.unwrap().unwrap_err();
        assert_eq!(quiet(&error), StoreErrorKind::Unavailable, "{reply:?}");
    }
}

/// As when a server was replaced by one with another `-I`. The first that meets it is lost, as if evicted: the
/// server refuses the write, and lets go of what was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_returns_with_a_lower_limit_is_asked_for_it_again() {
    let arguments = ["-I", "16k", "-o", "slab_chunk_max=8192"];
    let large = Server::start(Kind::Memcached).await;
    let small = Server::start_with(Kind::Memcached, &arguments).await;
    let switch = Switch::to(large.address()).await;
    let store = open(&[switch.port]);
    put_record(&store, &new_id(), &record(1, vec![1; 40_000])).await;
    switch.change(small.address());
    let (id, first) = (new_id(), record(1, b"small".as_slice()));
    // The old connection ends a moment later.
    eventually("the other server", || async {
        let (id, probe) = (new_id(), record(1, b"probe".as_slice()));
        let _ = store.create(&id, &probe).await;
        super::item(&small, &id).await.map(drop)
    })
    .await;
    let second = record(2, vec![2; 40_000]);
    for _ in 0..2 {
        let _ = store.create(&id, &first).await.unwrap();
        let error = store.update(&id, &second, first.version).await.unwrap_err();
        assert_eq!(quiet(&error), StoreErrorKind::TooLarge);
    }
    assert_eq!(store.load(&id).await.unwrap(), Some(first));
}

/// Passes connections on to one server, and later to another one.
struct Switch {
    port: u16,
    target: watch::Sender<SocketAddr>,
}

impl Switch {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = watch::Sender::new(server);
        let targets = target.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut target = targets.subscribe();
                tokio::spawn(async move {
                    let address = *target.borrow_and_update();
                    let mut server = TcpStream::connect(address).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = target.changed() => {}
                    }
                });
            }
        });
        Self { port, target }
    }

    fn change(&self, server: SocketAddr) {
        self.target.send_replace(server);
    }
}

/// The limit of [`MemcachedStore::with_timeout`] is one for all commands of an operation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_over_a_slow_node_and_a_dead_one_is_answered_in_time() {
    let nodes = Nodes::start().await;
    let (old_id, _) = nodes.session_at(0).await;
    let new_id = nodes.id_at(1).await;
    let new = record(2, CANARY.as_bytes());
    put(&nodes.servers[1], &new_id, &pending(&new, &old_id)).await;
    put(&nodes.servers[0], &old_id, &moved(&new, &new_id)).await;
    let limit = Duration::from_secs(1);
    let store = nodes.another_store();
    assert!(!store.delete(&nodes.id_at(1).await).await.unwrap());
    let store = store.with_timeout(limit);
    nodes.proxies[0].pause();
    nodes.proxies[1].pause();
    let started = Instant::now();
    let slow = async {
        tokio::time::sleep(limit * 4 / 5).await;
        nodes.proxies[1].resume();
    };
    let (load, ()) = tokio::join!(store.load(&new_id), slow);
    assert_eq!(quiet(&load.unwrap_err()), StoreErrorKind::Unavailable);
    let took = started.elapsed();
    assert!(took < limit + CUSHION, "{took:?}");
}

const LIMIT: Duration = Duration::from_millis(200);
