//! Places in Redis of the tests' own, and raw access to what lies in them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use data_encoding::BASE64URL_NOPAD;
use redis::{AsyncConnectionConfig, Value, aio::MultiplexedConnection, cluster::ClusterClient};
use tower_keep::{Clock, RecordId, RedisStore, SessionId, UserId};
use tower_keep_servers::{Cluster, Kind, Server};

use crate::support::{Browser, PATIENCE};

/// Runs each promise, an `async fn(Which)`, on one server and in a cluster.
macro_rules! on_each_topology {
    ($($promise:ident),+ $(,)?) => {$(
        mod $promise {
            use crate::redis_places::Which;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn single() {
                super::$promise(Which::Single).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn cluster() {
                super::$promise(Which::Cluster).await;
            }
        }
    )+};
}
pub(crate) use on_each_topology;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Single,
    Cluster,
}

/// Servers, and a prefix of its own on them.
#[derive(Debug)]
pub struct Place {
    pub servers: Servers,
    pub prefix: String,
}

#[derive(Debug)]
pub enum Servers {
    Shared(&'static Server),
    SharedCluster(&'static Cluster),
    Own(Server),
    OwnCluster(Cluster),
}

impl Place {
    /// On servers that all tests share.
    pub async fn new(which: Which) -> Self {
        Self::on(match which {
            Which::Single => Servers::Shared(Server::shared(Kind::Redis).await),
            Which::Cluster => Servers::SharedCluster(Cluster::shared().await),
        })
    }

    /// On servers that nobody else uses.
    pub async fn own(which: Which) -> Self {
        Self::on(match which {
            Which::Single => Servers::Own(Server::start(Kind::Redis).await),
            Which::Cluster => Servers::OwnCluster(Cluster::start().await),
        })
    }

    pub fn on(servers: Servers) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("place{}", COUNT.fetch_add(1, Relaxed));
        Self { servers, prefix }
    }

    pub fn url(&self) -> String {
        match &self.servers {
            Servers::Shared(server) => server.url(),
            Servers::Own(server) => server.url(),
            Servers::SharedCluster(cluster) => cluster.url(),
            Servers::OwnCluster(cluster) => cluster.url(),
        }
    }

    pub fn store(&self) -> RedisStore {
        patient(&self.url()).with_prefix(&*self.prefix)
    }

    /// The same by a connection that takes no node of a cluster that is slow for one that is lost, and so sends nothing
    /// twice.
    pub async fn steady_store(&self) -> RedisStore {
        let Servers::SharedCluster(cluster) = &self.servers else {
            return self.store();
        };
        let client = ClusterClient::builder(cluster.servers().iter().map(Server::url))
            .retries(0)
            .connection_timeout(PATIENCE)
            .response_timeout(PATIENCE)
            .build();
        let connection = client.unwrap().get_async_connection().await.unwrap();
        RedisStore::from_cluster_connection(connection)
            .with_timeout(PATIENCE)
            .with_prefix(&*self.prefix)
    }

    pub fn store_with_clock(&self, clock: impl Clock) -> RedisStore {
        self.store().with_clock(clock)
    }

    /// The servers that take writes, as long as there was no failover.
    pub fn primaries(&self) -> &[Server] {
        match &self.servers {
            Servers::Shared(server) => std::slice::from_ref(*server),
            Servers::Own(server) => std::slice::from_ref(server),
            Servers::SharedCluster(cluster) => &cluster.servers()[..3],
            Servers::OwnCluster(cluster) => &cluster.servers()[..3],
        }
    }

    pub fn session_key(&self, id: &RecordId) -> String {
        session_key(&self.prefix, id)
    }

    pub fn user_key(&self, user: &UserId) -> String {
        format!("{}:user:{}", self.prefix, user.as_str())
    }

    /// The server that has that key.
    pub async fn server_of(&self, key: &str) -> &Server {
        match &self.servers {
            Servers::Shared(server) => server,
            Servers::Own(server) => server,
            Servers::SharedCluster(cluster) => cluster.primary_of(key.as_bytes()).await,
            Servers::OwnCluster(cluster) => cluster.primary_of(key.as_bytes()).await,
        }
    }

    /// Sends a command whose first argument is a key to the server that has it.
    pub async fn raw(&self, command: &str, key: &str, arguments: &[&[u8]]) -> Value {
        let server = self.server_of(key).await;
        let mut words = vec![command.as_bytes(), key.as_bytes()];
        words.extend(arguments);
        ask(server, &words).await
    }

    /// What lies under a key that holds a string.
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.raw("GET", key, &[]).await {
            Value::BulkString(bytes) => Some(bytes),
            Value::Nil => None,
            other => panic!("{other:?}"),
        }
    }

    /// What lies under a key of any type, as bytes to compare.
    pub async fn dump(&self, key: &str) -> Value {
        self.raw("DUMP", key, &[]).await
    }

    /// Puts it there for an hour, whatever was there.
    pub async fn set(&self, key: &str, bytes: &[u8]) {
        self.raw("SET", key, &[bytes, b"PX", b"3600000"]).await;
    }

    /// How long a key lives, in milliseconds: -1 for ever, -2 if it is not there.
    pub async fn pttl(&self, key: &str) -> i64 {
        match self.raw("PTTL", key, &[]).await {
            Value::Int(millis) => millis,
            other => panic!("{other:?}"),
        }
    }

    /// All keys with the prefix.
    pub async fn keys(&self) -> Vec<String> {
        let mut all = Vec::new();
        for server in self.primaries() {
            let pattern = format!("{}:*", self.prefix);
            let keys = server.redis_command(&["KEYS", &pattern]).await.unwrap();
            all.extend(keys.lines().map(str::to_owned));
        }
        all
    }
}

/// A store that waits as long as the slowest machine takes.
pub fn patient(url: &str) -> RedisStore {
    RedisStore::open(url).unwrap().with_timeout(PATIENCE)
}

/// A connection that waits as long.
pub async fn connect(server: &Server) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    connection.await.unwrap()
}

/// Sends one command to a server; an error is a panic.
pub async fn ask(server: &Server, words: &[&[u8]]) -> Value {
    let mut command = redis::Cmd::new();
    command.arg(words);
    let mut connection = connect(server).await;
    command.query_async(&mut connection).await.unwrap()
}

/// Sends one command to a server; an error is a panic.
pub async fn order(server: &Server, words: &[&str]) -> String {
    let reply = server.redis_command(words).await;
    reply.unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

pub fn session_key(prefix: &str, id: &RecordId) -> String {
    let id = BASE64URL_NOPAD.encode(id.as_bytes());
    format!("{prefix}:session:{id}")
}

/// Of the session whose cookie a browser has.
pub fn id_of(browser: &Browser) -> RecordId {
    let id = SessionId::parse(browser.id().unwrap().as_bytes());
    id.unwrap().record_id()
}
