//! Stores by their address, so that an application can take one from its environment.

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod databases;

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    error::{StoreError, StoreErrorKind},
    id::RecordId,
    record::{Record, Version},
    store::{Created, DeleteExpired, Rotated, ScanSessions, SessionStore, Updated, UserSessions},
    timestamp::Timestamp,
};

/// The store at that address.
///
/// | address | store | feature |
/// |---|---|---|
/// | `postgres://USER:PASSWORD@HOST:PORT/DATABASE` | [`PostgresStore`](crate::PostgresStore) | `postgres` |
/// | `mysql://USER:PASSWORD@HOST:PORT/DATABASE`, `mariadb://` | [`MySqlStore`](crate::MySqlStore) | `mysql` |
/// | `sqlite:FILE`, `sqlite://FILE`, with `?mode=rw` or `ro` behind it; `sqlite::memory:` | [`SqliteStore`](crate::SqliteStore) | `sqlite` |
/// | `redis://`, `redis+sentinel://`, `redis+cluster://` and so on, as in [`RedisStore::open`](crate::RedisStore::open) | [`RedisStore`](crate::RedisStore) | `redis` |
/// | `memcached://HOST:PORT,HOST:PORT` | [`MemcachedStore`](crate::MemcachedStore) | `memcached` |
/// | `file://FOLDER` (Unix) | [`FileStore`](crate::FileStore) | `file` |
/// | `memory:` | [`MemoryStore`](crate::MemoryStore) | `memory` |
///
/// What follows a `#` is the name of the table of a database (`postgres://localhost/app#auth.sessions`), or what the keys of
/// Redis and memcached begin with (`redis://localhost#shop`); without it they are those of the stores. In a password, `#` is written
/// `%23`. User, password and port may be left out. A folder is written as it is, with no escapes.
///
/// Databases are reached through a pool of at most ten connections, each made when it is needed, and waited for up to 1.8 seconds. A
/// file of SQLite is made if it is missing and no mode forbids it, private to its owner and with a write-ahead log. Nothing is reached here but files and
/// folders: whether a server is there is seen at the first call.
///
/// TLS takes a feature of the driver that the application switches on, as this crate switches on none: of sqlx 0.9
/// `tls-native-tls` or `tls-rustls`, of redis 1.8 `tokio-native-tls-comp`. A server that demands TLS is not reached
/// without; for the program `tower-keep` see [its page](crate::manual::command_line).
///
/// # Errors
///
/// [`StoreErrorKind::Other`] if the address is not one of these, a part of it is missing, or the feature is off; the text tells which, and
/// never repeats a password. Whatever [`FileStore::open`](crate::FileStore::open) fails with.
///
/// # Panics
///
/// For a database outside a runtime of tokio.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_keep::{SessionLayer, stores};
///
/// let address = std::env::var("SESSION_STORE").unwrap_or("memory:".to_owned());
/// let store = stores::open(&address).await?;
/// store.migrate().await?;
/// let sessions = SessionLayer::new(store);
/// # Ok(())
/// # }
/// ```
pub async fn open(url: &str) -> Result<OpenStore, StoreError> {
    match url.split_once(':').map_or("", |(scheme, _)| scheme) {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => databases::postgres(url),
        #[cfg(feature = "mysql")]
        "mysql" | "mariadb" => databases::mysql(url),
        #[cfg(feature = "sqlite")]
        "sqlite" => databases::sqlite(url),
        #[cfg(feature = "memcached")]
        "memcached" | "memcache" => memcached(url),
        #[cfg(all(feature = "file", unix))]
        "file" => file(url),
        #[cfg(feature = "memory")]
        "memory" => memory(url),
        #[cfg(feature = "redis")]
        scheme if is_redis(scheme) => redis(url),
        scheme => Err(unknown(scheme)),
    }
}

/// A store that was chosen by its address: the answer to [`open`].
///
/// What not every store can do is asked for: [`as_user_sessions`](Self::as_user_sessions) and the like answer `None` where the store
/// cannot do it. Cheap to clone; clones are the same store.
#[derive(Clone, Debug)]
pub struct OpenStore {
    kind: &'static str,
    store: Arc<dyn SessionStore>,
    tables: Option<Arc<dyn Tables>>,
    users: Option<Arc<dyn UserSessions>>,
    expired: Option<Arc<dyn DeleteExpired>>,
    scan: Option<Arc<dyn ScanSessions>>,
}

impl OpenStore {
    /// `postgres`, `mysql`, `sqlite`, `redis`, `memcached`, `file` or `memory`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Makes the tables of a database, as [`SqlStore::migrate`](crate::SqlStore::migrate) does. Does nothing for other stores.
    ///
    /// # Errors
    ///
    /// Those of [`SqlStore::migrate`](crate::SqlStore::migrate).
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match &self.tables {
            Some(tables) => tables.migrate().await,
            None => Ok(()),
        }
    }

    /// The statements that [`migrate`](Self::migrate) runs, or `None` for a store without tables.
    #[must_use]
    pub fn schema(&self) -> Option<String> {
        self.tables.as_ref().map(|tables| tables.schema())
    }

    /// The store, if it finds the sessions of a user. All do but memcached.
    #[must_use]
    pub fn as_user_sessions(&self) -> Option<Arc<dyn UserSessions>> {
        self.users.clone()
    }

    /// The store, if its expired sessions have to be deleted: databases, files and memory. It goes into a
    /// [`Sweeper`](crate::Sweeper).
    #[must_use]
    pub fn as_delete_expired(&self) -> Option<Arc<dyn DeleteExpired>> {
        self.expired.clone()
    }

    /// The store, if it can list its sessions. All do but memcached.
    #[must_use]
    pub fn as_scan_sessions(&self) -> Option<Arc<dyn ScanSessions>> {
        self.scan.clone()
    }
}

#[async_trait]
impl SessionStore for OpenStore {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        self.store.load(id).await
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        self.store.create(id, record).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        self.store.update(id, record, expected).await
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        self.store.rotate(old, new, record, expected).await
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        self.store.touch(id, expires_at, expected).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        self.store.delete(id).await
    }
}

/// What only databases have.
#[async_trait]
trait Tables: SessionStore {
    async fn migrate(&self) -> Result<(), StoreError>;
    fn schema(&self) -> String;
}

#[cfg(feature = "redis")]
fn redis(url: &str) -> Result<OpenStore, StoreError> {
    let (url, prefix) = with_prefix("redis", url)?;
    let mut store = super::RedisStore::open(url)?;
    if let Some(prefix) = prefix {
        store = store.with_prefix(prefix);
    }
    let mut opened = OpenStore::new("redis", store.clone());
    opened.users = Some(Arc::new(store.clone()));
    opened.scan = Some(Arc::new(store));
    Ok(opened)
}

#[cfg(feature = "memcached")]
fn memcached(url: &str) -> Result<OpenStore, StoreError> {
    let (url, prefix) = with_prefix("memcached", url)?;
    let mut store = super::MemcachedStore::open(url)?;
    if let Some(prefix) = prefix {
        store = store.with_prefix(prefix);
    }
    Ok(OpenStore::new("memcached", store))
}

#[cfg(all(feature = "file", unix))]
fn file(url: &str) -> Result<OpenStore, StoreError> {
    match url.strip_prefix("file://") {
        Some(folder) if !folder.is_empty() => {
            let store = super::FileStore::open(folder)?;
            Ok(OpenStore::complete("file", store))
        }
        _ => Err(problem(
            "file",
            "the address names no folder: file://FOLDER",
        )),
    }
}

#[cfg(feature = "memory")]
fn memory(url: &str) -> Result<OpenStore, StoreError> {
    match url {
        "memory:" | "memory://" => Ok(OpenStore::complete("memory", super::MemoryStore::new())),
        _ => Err(problem("memory", "nothing may follow `memory:`")),
    }
}

impl OpenStore {
    /// A store of which nothing is known but that it is one.
    fn new(kind: &'static str, store: impl SessionStore) -> Self {
        Self {
            kind,
            store: Arc::new(store),
            tables: None,
            users: None,
            expired: None,
            scan: None,
        }
    }

    /// A store that can do all that a store may be able to do.
    fn complete(
        kind: &'static str,
        store: impl UserSessions + DeleteExpired + ScanSessions,
    ) -> Self {
        let store = Arc::new(store);
        Self {
            kind,
            store: store.clone(),
            tables: None,
            users: Some(store.clone()),
            expired: Some(store.clone()),
            scan: Some(store),
        }
    }
}

/// An address, and the name behind its `#`.
fn named<'a>(kind: &'static str, url: &'a str) -> Result<(&'a str, Option<&'a str>), StoreError> {
    match url.split_once('#') {
        Some((_, name)) if name.contains('#') => {
            let problem = "there is more than one #; in a password it is written %23";
            Err(self::problem(kind, problem))
        }
        Some((url, name)) => Ok((url, Some(name))),
        None => Ok((url, None)),
    }
}

/// Stricter than the servers are: the rest of a password with a `#` in it is not to be taken for a name.
fn with_prefix<'a>(
    kind: &'static str,
    url: &'a str,
) -> Result<(&'a str, Option<&'a str>), StoreError> {
    let (url, prefix) = named(kind, url)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:{}".contains(&byte);
    let is_name =
        |prefix: &str| (1..=PREFIX_LEN_MAX).contains(&prefix.len()) && prefix.bytes().all(is_plain);
    match prefix.is_none_or(is_name) {
        true => Ok((url, prefix)),
        false => Err(problem(
            kind,
            "what follows the # is no name: letters, digits and -_.:{}; in a password, # is written %23",
        )),
    }
}

fn is_redis(scheme: &str) -> bool {
    scheme == "unix" || scheme.starts_with("redis") || scheme.starts_with("valkey")
}

/// The address is of a store that is not compiled in, or of none.
fn unknown(scheme: &str) -> StoreError {
    let feature = match scheme {
        "postgres" | "postgresql" => "postgres",
        "mysql" | "mariadb" => "mysql",
        "sqlite" => "sqlite",
        "memcached" | "memcache" => "memcached",
        "file" => "file",
        "memory" => "memory",
        _ if is_redis(scheme) => "redis",
        _ => {
            let known = "the address begins with none of postgres://, mysql://, sqlite:, redis://, \
                redis+sentinel://, redis+cluster://, memcached://, file:// and memory:";
            return problem("stores", known);
        }
    };
    let off = format!("the feature `{feature}` of tower-keep is off");
    StoreError::new(feature, StoreErrorKind::Other, off)
}

fn problem(kind: &'static str, text: &'static str) -> StoreError {
    StoreError::new(kind, StoreErrorKind::Other, text)
}

/// In bytes.
const PREFIX_LEN_MAX: usize = 64;
