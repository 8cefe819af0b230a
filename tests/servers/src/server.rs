use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    panic,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{resp, script::Script};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL; user and database `postgres`, no password.
    Postgres,
    /// MariaDB; user `root`, no password, database `test`. Its settings are its own defaults.
    MariaDb,
    /// Redis; nothing is kept on disk.
    Redis,
    /// memcached.
    Memcached,
    /// ChromeDriver, which steers Chromium. Profiles of browsers belong in its [`folder`](Server::folder).
    ChromeDriver,
}

impl Kind {
    /// # Errors
    ///
    /// If it is not installed, with one line that says how to install it.
    pub fn check(self) -> Result<(), String> {
        Script::check(script_name(self))
    }
}

/// A server in a temporary folder, on a free port of 127.0.0.1.
///
/// It is gone, and its folder too, when this value is dropped, or when this process ends in any way.
///
/// Every method panics with the end of the server's log when the server does not do what it is told.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    name: &'static str,
    port: u16,
    folder: PathBuf,
    script: Arc<Mutex<Script>>,
}

impl Server {
    /// Starts a server of one's own.
    ///
    /// # Panics
    ///
    /// If it is not installed, with one line that says how to install it, or does not start.
    pub async fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[]).await
    }

    /// Starts a server of one's own with more arguments for its command line, which win over the usual ones.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(kind: Kind, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        blocking(move || Self::open(kind, script_name(kind), &arguments)).await
    }

    /// The server that all tests of this process share, started when first asked for. It runs until the process ends;
    /// who kills or pauses a server wants one of their own.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn shared(kind: Kind) -> &'static Self {
        static SERVERS: [OnceLock<Server>; 5] = [const { OnceLock::new() }; 5];
        let server = &SERVERS[kind as usize];
        blocking(move || server.get_or_init(|| Self::open(kind, script_name(kind), &[]))).await
    }

    /// `postgres://`, `mysql://`, `redis://` or `memcache://`, with user and database; `http://`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same with another port: a proxy's.
    #[must_use]
    pub fn url_at(&self, port: u16) -> String {
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Kind::MariaDb => format!("mysql://root@127.0.0.1:{port}/test"),
            Kind::Redis => format!("redis://127.0.0.1:{port}"),
            Kind::Memcached => format!("memcache://127.0.0.1:{port}"),
            Kind::ChromeDriver => format!("http://127.0.0.1:{port}"),
        }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its folder, with its `log`.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// Kills it and its child processes with `kill -9`. The folder and the port stay its own.
    pub async fn kill9(&self) {
        self.ask("kill").await;
    }

    /// Starts it again after [`kill9`](Self::kill9), in the same folder and on the same port; it takes connections then.
    pub async fn start_again(&self) {
        self.ask("start").await;
    }

    /// Stops it with SIGSTOP: the system still accepts connections for it, and nobody answers.
    pub async fn pause(&self) {
        self.ask("stop").await;
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub async fn resume(&self) {
        self.ask("cont").await;
    }

    /// Sends one command to a Redis server or Sentinel, on a connection of its own: `["INFO", "commandstats"]`. The reply
    /// comes as text, an array's elements one a line, nil empty.
    ///
    /// # Errors
    ///
    /// With the text of an error reply, as `MOVED 866 127.0.0.1:10001`; and if the connection fails, or there is no reply
    /// within ten seconds.
    pub async fn redis_command(&self, words: &[impl AsRef<[u8]> + Sync]) -> io::Result<String> {
        let reply = resp::command(self.port, words, COMMAND_TIMEOUT).await?;
        Ok(resp::text(&reply))
    }

    /// The same for something to poll, which does not wait long for a server that is paused.
    pub(crate) async fn status(&self, words: &[impl AsRef<[u8]> + Sync]) -> Result<String, String> {
        match resp::command(self.port, words, STATUS_TIMEOUT).await {
            Ok(reply) => Ok(resp::text(&reply)),
            Err(error) => Err(format!("{}: {error}", self.port)),
        }
    }

    /// The same for what has to succeed; with the elements of the reply apart.
    pub(crate) async fn order(&self, words: &[impl AsRef<[u8]> + Sync]) -> resp::Reply {
        match resp::command(self.port, words, COMMAND_TIMEOUT).await {
            Ok(reply) => reply,
            Err(error) => panic!("{}: {}: {error}", self.name, resp::shown(words)),
        }
    }

    /// Starts that many at the same time, which all speak the protocol of Redis.
    pub(crate) async fn start_some(
        count: usize,
        script: &'static str,
        arguments: &[&str],
    ) -> Vec<Self> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let mut servers = JoinSet::new();
        for _ in 0..count {
            let arguments = arguments.clone();
            servers.spawn_blocking(move || Self::open(Kind::Redis, script, &arguments));
        }
        servers.join_all().await
    }

    fn open(kind: Kind, name: &'static str, arguments: &[String]) -> Self {
        let (script, port) =
            Script::start(name, arguments).unwrap_or_else(|error| panic!("{name}: {error}"));
        let folder = script.folder().to_owned();
        let script = Arc::new(Mutex::new(script));
        Self {
            kind,
            name,
            port,
            folder,
            script,
        }
    }

    async fn ask(&self, command: &'static str) {
        let script = Arc::clone(&self.script);
        let reply = blocking(move || {
            let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
            script.ask(command)
        });
        if let Err(error) = reply.await {
            panic!("{}: {error}", self.name);
        }
    }
}

fn script_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "postgres",
        Kind::MariaDb => "mariadb",
        Kind::Redis => "redis",
        Kind::Memcached => "memcached",
        Kind::ChromeDriver => "chromedriver",
    }
}

/// Servers outlive the runtime of the test that started them, so nothing here is bound to a runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => panic::resume_unwind(error.into_panic()),
    }
}

const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than a living server ever takes; one that is paused takes all of it.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
