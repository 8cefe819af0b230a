//! The stores that come with the crate, and [`open`], which takes one by its address.

mod cached;
#[cfg(feature = "cookie")]
mod encrypted;
#[cfg(all(feature = "file", unix))]
mod file;
#[cfg(any(feature = "memcached", feature = "redis"))]
mod keyed;
#[cfg(feature = "memcached")]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enums of its client are many, and may grow"
)]
mod memcached;
#[cfg(feature = "memory")]
mod memory;
mod migrating;
#[cfg(feature = "memory")]
#[cfg_attr(
    not(all(feature = "postgres", feature = "redis")),
    allow(dead_code, reason = "each server tells in its own way")
)]
mod near;
#[cfg_attr(
    not(all(feature = "memcached", feature = "sqlite")),
    allow(dead_code, reason = "each store takes what it needs")
)]
mod open;
#[cfg(feature = "redis")]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enums of its client are many, and may grow"
)]
mod redis;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;

#[cfg(feature = "redis")]
pub use self::redis::{RedisCache, RedisStore};
pub use cached::CachedStore;
#[cfg(feature = "cookie")]
pub use encrypted::EncryptedStore;
#[cfg(all(feature = "file", unix))]
pub use file::FileStore;
#[cfg(feature = "memcached")]
pub use memcached::{MemcachedCache, MemcachedStore};
#[cfg(feature = "memory")]
pub use memory::MemoryStore;
pub use migrating::{MigratingStore, MovedPage};
#[cfg(feature = "memory")]
pub use near::MemoryCache;
pub use open::{OpenStore, open};
#[cfg(feature = "mysql")]
pub use sql::MySqlStore;
#[cfg(feature = "postgres")]
pub use sql::PostgresStore;
#[cfg(feature = "sqlite")]
pub use sql::SqliteStore;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use sql::{SqlStore, TableName, TableNameError};
