//! `MemcachedStore` when nodes are killed, hang, are cut off, are full, or hold what it did not write.

mod crowd;
mod cuts;
mod damage;
mod down;
mod eviction;
mod handover;
mod hostile;
mod lifetimes;
mod races;
mod silent;
mod sizes;

use std::{
    error::Error,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_keep::{
    Created, MemcachedStore, Record, RecordId, SessionStore, StoreError, StoreErrorKind,
};
use tower_keep_servers::{FaultProxy, Kind, Server};

use crate::{file_faults::record, support::PATIENCE};

/// Two nodes, each behind a proxy.
struct Nodes {
    servers: [Server; 2],
    proxies: [FaultProxy; 2],
    /// Through the proxies.
    store: MemcachedStore,
}

impl Nodes {
    async fn start() -> Self {
        let (one, other) = tokio::join!(
            Server::start(Kind::Memcached),
            Server::start(Kind::Memcached)
        );
        let servers = [one, other];
        let proxies = [
            FaultProxy::to(servers[0].address()).await,
            FaultProxy::to(servers[1].address()).await,
        ];
        let store = open(&[proxies[0].port(), proxies[1].port()]);
        Self {
            servers,
            proxies,
            store,
        }
    }

    /// The same nodes by other connections.
    fn another_store(&self) -> MemcachedStore {
        open(&[self.proxies[0].port(), self.proxies[1].port()])
    }

    /// An id that this node has, and nothing is there.
    async fn id_at(&self, node: usize) -> RecordId {
        loop {
            let id = new_id();
            put_record(&self.store, &id, &record(1, b"probe".as_slice())).await;
            let is_there = item(&self.servers[node], &id).await.is_some();
            for server in &self.servers {
                ask(server, format!("md {}\r\n", key(&id)).as_bytes()).await;
            }
            if is_there {
                return id;
            }
        }
    }

    async fn session_at(&self, node: usize) -> (RecordId, Record) {
        let id = self.id_at(node).await;
        let record = record(1, CANARY.as_bytes());
        put_record(&self.store, &id, &record).await;
        (id, record)
    }
}

/// A store in nodes at these ports, which waits as long as the slowest machine takes.
fn open(ports: &[u16]) -> MemcachedStore {
    let hosts: Vec<String> = ports.iter().map(|p| format!("127.0.0.1:{p}")).collect();
    let store = MemcachedStore::open(&format!("memcached://{}", hosts.join(",")));
    store.unwrap().with_timeout(PATIENCE)
}

async fn put_record(store: &MemcachedStore, id: &RecordId, record: &Record) {
    assert_eq!(store.create(id, record).await.unwrap(), Created::Done);
}

/// What a server has under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    value: Vec<u8>,
    /// In seconds.
    ttl: i64,
}

/// Looks past the store.
async fn item(server: &Server, id: &RecordId) -> Option<Item> {
    let reply = ask(server, format!("mg {} v t\r\n", key(id)).as_bytes()).await;
    let line = reply.iter().position(|byte| *byte == b'\n').unwrap();
    let (line, value) = reply.split_at(line + 1);
    let line = str::from_utf8(line).unwrap().trim();
    if line == "EN" {
        return None;
    }
    let words: Vec<&str> = line.split(' ').collect();
    let ["VA", length, ttl] = words[..] else {
        panic!("{line}");
    };
    Some(Item {
        value: value[..length.parse().unwrap()].to_vec(),
        ttl: ttl[1..].parse().unwrap(),
    })
}

/// Writes past the store.
async fn put(server: &Server, id: &RecordId, value: &[u8]) {
    let head = format!("ms {} {} T3600\r\n", key(id), value.len());
    let reply = ask(server, &[head.as_bytes(), value, b"\r\n"].concat()).await;
    assert_eq!(reply, b"HD\r\n");
}

/// Sends a command and returns the reply.
pub(crate) async fn ask(server: &Server, command: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(command).await.unwrap();
    stream.write_all(b"mn\r\nquit\r\n").await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    assert!(reply.ends_with(b"MN\r\n"), "{reply:?}");
    reply.truncate(reply.len() - b"MN\r\n".len());
    reply
}

fn key(id: &RecordId) -> String {
    let id = BASE64URL_NOPAD.encode(id.as_bytes());
    format!("tower-keep:session:{id}")
}

/// The note that the session of that key has moved there, by becoming that record.
fn moved(record: &Record, to: &RecordId) -> Vec<u8> {
    let version = &record.to_bytes()[1..25];
    [b"\0m", version, to.as_bytes()].concat()
}

/// The record that is to be, if the session has left that key.
fn pending(record: &Record, from: &RecordId) -> Vec<u8> {
    [b"\0p", from.as_bytes().as_slice(), &record.to_bytes()].concat()
}

/// The kind of an error, which tells nothing that is secret (clause C12).
#[track_caller]
fn quiet(error: &StoreError) -> StoreErrorKind {
    let mut texts = vec![error.to_string(), format!("{error:?}")];
    let mut source = error.source();
    while let Some(error) = source {
        texts.extend([error.to_string(), format!("{error:?}")]);
        source = error.source();
    }
    for text in texts {
        for secret in [CANARY, "tower-keep:session:", "AAAAAAAA", "00000000"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    error.kind()
}

/// An id that no other test has; most of it is zeros.
fn new_id() -> RecordId {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let mut bytes = [0; RecordId::LEN];
    let number = COUNT
        .fetch_add(1, Relaxed)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    RecordId::from_bytes(bytes)
}

/// What no error may show.
const CANARY: &str = "c4n4ry";

/// What a machine may be late that does a lot of other things.
const CUSHION: Duration = Duration::from_secs(10);
