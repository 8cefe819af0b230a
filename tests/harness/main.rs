//! The servers and the proxy that other tests build upon do what those tests take for granted.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod redis_sets;

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use sqlx::{Connection, MySqlConnection, PgConnection, Row};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower_keep_servers::{Cluster, Direction, FaultProxy, Kind, Sentinels, Server};

const KINDS: [Kind; 4] = [Kind::Postgres, Kind::MariaDb, Kind::Redis, Kind::Memcached];
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_server_that_is_dropped_is_gone_with_its_folder() {
    for kind in KINDS {
        let server = Server::start(kind).await;
        let (address, folder) = (server.address(), server.folder());
        assert!(TcpStream::connect(address).await.is_ok(), "{kind:?}");
        drop(server);
        assert!(TcpStream::connect(address).await.is_err(), "{kind:?}");
        assert!(!folder.exists(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_set_of_servers_that_is_dropped_is_gone_with_its_folders() {
    let sentinels = Sentinels::start().await;
    let cluster = Cluster::start().await;
    let sets = [
        sentinels.sentinels(),
        sentinels.servers(),
        cluster.servers(),
    ];
    let places: Vec<_> = sets
        .into_iter()
        .flatten()
        .map(|server| (server.address(), server.folder()))
        .collect();
    assert_eq!(places.len(), 12);
    // Also of one that can not be asked to go.
    cluster.servers()[0].pause().await;
    drop((sentinels, cluster));
    for (address, folder) in places {
        assert!(TcpStream::connect(address).await.is_err());
        assert!(!folder.exists());
    }
}

#[tokio::test]
async fn a_server_whose_owner_is_killed_is_gone_with_its_folder() {
    let mut owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", "as_an_owner_that_gets_killed", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let servers: Vec<(SocketAddr, String)> = lines
        .map_while(Result::ok)
        .filter_map(|line| {
            let (_, server) = line.split_once("server: ")?;
            let (address, folder) = server.split_once(' ')?;
            Some((address.parse().unwrap(), folder.to_owned()))
        })
        .take(OWNED)
        .collect();
    assert_eq!(servers.len(), OWNED);
    for (address, folder) in &servers {
        assert!(TcpStream::connect(address).await.is_ok());
        assert!(Path::new(folder).exists());
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    for (address, folder) in servers {
        let gone = async {
            while Path::new(&folder).exists() || TcpStream::connect(address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, gone).await.expect(&folder);
    }
}

/// The other process of the test above, which starts it; by itself it does nothing.
#[tokio::test]
async fn as_an_owner_that_gets_killed() {
    if env::var_os(OWNER).is_none() {
        return;
    }
    let mut servers = Vec::new();
    for kind in KINDS {
        let server = Server::start(kind).await;
        println!("server: {} {}", server.address(), server.folder().display());
        servers.push(server);
    }
    let (sentinels, cluster) = tokio::join!(Sentinels::start(), Cluster::start());
    let sets = [
        sentinels.sentinels(),
        sentinels.servers(),
        cluster.servers(),
    ];
    for server in sets.into_iter().flatten() {
        println!("server: {} {}", server.address(), server.folder().display());
    }
    // It may die at any moment: before it reads a reply, and while a server is stopped.
    loop {
        servers[0].pause().await;
        servers[0].resume().await;
    }
}

/// One of each kind, and six in each set.
const OWNED: usize = KINDS.len() + 12;
const OWNER: &str = "TOWER_KEEP_OWNER_OF_SERVERS";

#[tokio::test]
async fn postgres_keeps_what_was_committed_before_it_was_killed() {
    let server = Server::start(Kind::Postgres).await;
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    for statement in ["CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)"] {
        sqlx::query(statement)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    server.kill9().await;
    sqlx::query("SELECT 1")
        .execute(&mut connection)
        .await
        .unwrap_err();
    PgConnection::connect(&server.url()).await.unwrap_err();
    server.start_again().await;
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let rows = sqlx::query("SELECT n FROM kept")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<i32, _>(0), 7);
}

#[tokio::test]
async fn mariadb_keeps_what_was_committed_before_it_was_killed() {
    let server = Server::start_with(Kind::MariaDb, &["--sql-mode="]).await;
    let mut connection = MySqlConnection::connect(&server.url()).await.unwrap();
    for statement in ["CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)"] {
        sqlx::query(statement)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    server.kill9().await;
    sqlx::query("SELECT 1")
        .execute(&mut connection)
        .await
        .unwrap_err();
    MySqlConnection::connect(&server.url()).await.unwrap_err();
    server.start_again().await;
    let mut connection = MySqlConnection::connect(&server.url()).await.unwrap();
    let row = sqlx::query("SELECT n, @@global.sql_mode FROM kept");
    let rows = row.fetch_all(&mut connection).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<i32, _>(0), 7);
    assert_eq!(rows[0].get::<String, _>(1), "");
}

#[tokio::test]
async fn a_paused_server_answers_when_it_is_resumed() {
    let asks_for_encryption: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
    for (kind, request) in [
        (Kind::Postgres, asks_for_encryption),
        (Kind::Redis, b"PING\r\n"),
    ] {
        let server = Server::start(kind).await;
        server.pause().await;
        let mut client = TcpStream::connect(server.address()).await.unwrap();
        client.write_all(request).await.unwrap();
        let mut byte = [0];
        let early = timeout(Duration::from_millis(200), client.read(&mut byte)).await;
        assert!(early.is_err(), "{kind:?}");
        server.resume().await;
        let read = timeout(PATIENCE, client.read(&mut byte)).await;
        assert_eq!(read.unwrap().unwrap(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn the_tests_of_a_process_share_a_server() {
    let (one, other) = tokio::join!(Server::shared(Kind::Redis), Server::shared(Kind::Redis));
    assert_eq!(one.port(), other.port());
}

#[test]
fn a_shared_server_outlives_the_runtime_of_the_test_that_started_it() {
    for _ in 0..2 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let server = Server::shared(Kind::Memcached).await;
            server.resume().await;
            TcpStream::connect(server.address()).await.unwrap();
        });
    }
}

/// A server that answers each line of 10 bytes by one of 5, and tells what it got when its client is gone.
async fn line_server() -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let got = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte).await.is_ok_and(|read| read == 1) {
            got.push(byte[0]);
            if got.len() % REQUEST.len() == 0 {
                let _ = stream.write_all(REPLY).await;
            }
        }
        got
    });
    (address, got)
}

const REQUEST: &[u8] = b"0123456789";
const REPLY: &[u8] = b"abcde";

/// Sends the request and reads the reply, or as much of it as comes.
async fn exchange(client: &mut TcpStream) -> Vec<u8> {
    let _ = client.write_all(REQUEST).await;
    let mut reply = Vec::new();
    let mut byte = [0];
    while reply.len() < REPLY.len() && client.read(&mut byte).await.is_ok_and(|read| read == 1) {
        reply.push(byte[0]);
    }
    reply
}

#[tokio::test]
async fn the_server_gets_exactly_the_bytes_before_the_cut() {
    for bytes in 0..=REQUEST.len() {
        let (address, got) = line_server().await;
        let proxy = FaultProxy::to(address).await;
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        // Only what comes after the order counts.
        assert_eq!(exchange(&mut client).await, REPLY);
        proxy.cut_after(Direction::ToServer, bytes as u64);
        assert_eq!(exchange(&mut client).await, b"");
        let expected = [REQUEST, &REQUEST[..bytes]].concat();
        assert_eq!(got.await.unwrap(), expected);
        assert_eq!(proxy.traffic().cuts, 1);
        assert_eq!(proxy.traffic().to_server, expected.len() as u64);
    }
}

#[tokio::test]
async fn the_client_gets_exactly_the_bytes_before_the_cut() {
    for bytes in 0..REPLY.len() {
        for reset in [false, true] {
            let (address, got) = line_server().await;
            let proxy = FaultProxy::to(address).await;
            let mut client = TcpStream::connect(proxy.address()).await.unwrap();
            assert_eq!(exchange(&mut client).await, REPLY);
            if reset {
                proxy.reset_after(Direction::ToClient, bytes as u64);
            } else {
                proxy.cut_after(Direction::ToClient, bytes as u64);
            }
            client.write_all(REQUEST).await.unwrap();
            let mut reply = Vec::new();
            let end = client.read_to_end(&mut reply).await;
            assert_eq!(reply, &REPLY[..bytes]);
            assert_eq!(end.is_err(), reset);
            // The whole request had its effect.
            assert_eq!(got.await.unwrap(), [REQUEST, REQUEST].concat());
        }
    }
}

#[tokio::test]
async fn a_swallowed_reply_is_of_a_request_that_had_its_effect() {
    let server = Server::shared(Kind::Redis).await;
    let proxy = FaultProxy::to(server.address()).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.swallow_reply();
    client.write_all(b"SET swallowed 7\r\n").await.unwrap();
    assert_eq!(client.read(&mut [0; 9]).await.unwrap(), 0);
    // The order is done: the next connection is whole.
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"GET swallowed\r\n").await.unwrap();
    let mut reply = [0; 7];
    client.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"$1\r\n7\r\n");
    assert_eq!(proxy.traffic().connections, 2);
}

#[tokio::test]
async fn what_is_held_comes_when_it_is_released() {
    let (address, _got) = line_server().await;
    let proxy = FaultProxy::to(address).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.hold(Direction::ToClient);
    client.write_all(REQUEST).await.unwrap();
    let traffic = proxy
        .wait_until(|traffic| traffic.held_to_client == 1)
        .await;
    assert_eq!((traffic.to_server, traffic.to_client), (10, 0));
    proxy.release(Direction::ToClient);
    let mut reply = [0; REPLY.len()];
    client.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply, REPLY);
}

#[tokio::test]
async fn refused_and_cut_connections_end_and_healed_ones_go_on() {
    let (address, _got) = line_server().await;
    let proxy = FaultProxy::to(address).await;
    proxy.refuse();
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    refused.read(&mut [0]).await.unwrap_err();
    proxy.heal();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(exchange(&mut client).await, REPLY);
    proxy.cut_now();
    client.read(&mut [0]).await.unwrap_err();
}
