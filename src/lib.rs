//! Sessions for tower, axum and hyper that lose nothing, leak nothing, and ask the store for nothing
//! that is not needed.
//!
//! A [`SessionLayer`] puts a handle into the extensions of every request. When a handler asks for
//! the [`Session`], it is loaded from a store; when the handler has answered, what it changed is
//! committed, and a cookie is set if that is needed. A request that does not use its session costs
//! no store call, no cookie and no header.
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower_keep::{Error, MemoryStore, Session, SessionLayer};
//!
//! async fn counter(session: Session) -> Result<String, Error> {
//!     let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
//!     Ok(format!("visits: {visits}"))
//! }
//!
//! let app: Router = Router::new()
//!     .route("/", get(counter))
//!     .layer(SessionLayer::new(MemoryStore::new()));
//! ```
//!
//! # Where to look
//!
//! | you want to | see |
//! |---|---|
//! | read and change a session | [`Session`] |
//! | log somebody in and out | [`Session::login`], [`LazySession::flush`] |
//! | choose cookie and expiry | [`SessionLayer`], [`SessionOptions`], [`Expiry`] |
//! | list and end the sessions of a user | [`UserSessions`], [`StoredSession`] |
//! | remove expired sessions | [`Sweeper`] |
//! | choose where sessions are kept | [`MemoryStore`], [`FileStore`], [`SqliteStore`], [`PostgresStore`], [`MySqlStore`], [`RedisStore`], [`MemcachedStore`], [`CookieStore`] |
//! | read from a cache, or encrypt what is kept | [`CachedStore`], [`EncryptedStore`] |
//! | take the store from the environment | [`stores::open`] |
//! | operate a store from the command line | [`manual::command_line`] |
//! | move from one store to another | [`MigratingStore`] |
//! | bring a store of your own | [`SessionStore`], [`testing`](https://docs.rs/tower-keep/latest/tower_keep/testing/) |
//! | know what can fail | [`Error`], [`ErrorKind`] |
//!
//! # What you can rely on
//!
//! - **Nothing acknowledged is lost.** Every write is a compare-and-set. Where two requests change
//!   one session at the same time, the later one's changes are made again over the earlier one's.
//! - **Logout is final.** No write brings an ended session back, not even one that was under way.
//! - **An outage is not a logout.** A store that fails is an error (503), never an empty session.
//! - **Ids are secrets.** 256 random bits, hashed before they reach a store, in no log and no error.
//!   An id that this crate did not mint is never adopted; [`Session::login`] always changes it.
//! - **A client that disconnects cuts nothing in half.** A commit that has begun runs to its end.
//! - **Everything is bounded**: attempts, waiting, record size, memory.
//!
//! # What it does not do
//!
//! It does not check passwords or permissions, and is no protection against forged requests
//! (CSRF) beyond what `SameSite=Lax` gives. It needs tokio. Anyone who can read the store can read
//! session data (unless it is an [`EncryptedStore`]), but cannot use the ids as cookies.
//!
//! It cannot merge what two requests change at the same time where the sessions are in cookies (`CookieStore`).
//!
//! It keeps nothing that its store lets go of: Redis may lose the last writes, a logout among them,
//! when a replica takes over; memcached drops sessions when it needs the room. The pages of
//! `RedisStore` and `MemcachedStore` say when.
//!
//! # Features
//!
//! | feature | default | gives |
//! |---|---|---|
//! | `axum` | yes | for axum 0.8: extractors `Session`, `Option<Session>`, `LazySession`; `Error: IntoResponse` |
//! | `memory` | yes | `MemoryStore`, and `MemoryCache` for a `CachedStore` |
//! | `file` | | `FileStore` (Unix) |
//! | `sqlite` | | `SqliteStore`, over a pool of sqlx 0.9 |
//! | `postgres` | | `PostgresStore`, over a pool of sqlx 0.9; with `memory` also its near cache |
//! | `mysql` | | `MySqlStore`, for MySQL and MariaDB, over a pool of sqlx 0.9 |
//! | `redis` | | `RedisStore` and `RedisCache`, over the crate redis 1.8: one server, Sentinel, Cluster; with `memory` also a near cache |
//! | `memcached` | | `MemcachedStore` and `MemcachedCache`: one node of memcached 1.6 or several |
//! | `cookie` | | `CookieStore`: sessions in the cookies of the client, signed or encrypted; `EncryptedStore`: any store with its data encrypted; `Keyring` |
//! | `metrics` | | counters `tower_keep_loads_total`, and so on for creates, updates, rotates, touches, deletes, conflicts, replays, gone, store errors, expired deletes, cache hits, misses and errors; the histogram `tower_keep_commit_seconds` |
//! | `testing` | | the module `testing`: the conformance suite, stores that count and fail, a manual clock |
//! | `cli` | | the program `tower-keep` for operators: `cargo install tower-keep --features cli,postgres`, or whichever stores it has to reach |
//! | `full` | | all of these but `cli` |
//!
//! # Logs
//!
//! Events of `tracing` name a record by the first 8 hexadecimal digits of its [`RecordId`], which
//! is a hash.
//!
//! | level | events |
//! |---|---|
//! | `error` | a store that failed or was silent; a record that is damaged or cannot be decrypted, a damaged entry of an index; a colliding id; a session that cannot be moved by a [`MigratingStore`]; a panic in a sweep or in its report |
//! | `warn` | a session served empty during an outage; two live sessions in one request; a batch of a sweep that failed; a cache that failed, or hears of writes no more; a copy that a cache cannot read or take; a note that a [`MigratingStore`] leaves behind |
//! | `info` | a session that was ended while a request was at work; a cache that hears of writes again |
//! | `debug` | an eviction from memory; a sweep that deleted something; a cache that still hears of no writes; an entry left behind in the index of a [`FileStore`] |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod backend;
mod cache;
mod caching;
mod clock;
mod cookie;
mod data;
mod error;
mod expiry;
mod future;
mod id;
#[cfg(feature = "cookie")]
mod keyring;
mod layer;
mod meter;
mod options;
mod patience;
mod record;
mod seal;
mod service;
mod session;
mod store;
pub mod stores;
mod sweeper;
mod timestamp;
mod user;

#[cfg(feature = "axum")]
mod axum;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod manual;
#[cfg(feature = "testing")]
pub mod testing;

pub use ::cookie::SameSite;

#[cfg(feature = "cookie")]
#[doc(inline)]
pub use crate::stores::EncryptedStore;
#[cfg(all(feature = "file", unix))]
#[doc(inline)]
pub use crate::stores::FileStore;
#[cfg(feature = "mysql")]
#[doc(inline)]
pub use crate::stores::MySqlStore;
#[cfg(feature = "postgres")]
#[doc(inline)]
pub use crate::stores::PostgresStore;
#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use crate::stores::SqliteStore;
#[doc(inline)]
pub use crate::stores::{CachedStore, MigratingStore, MovedPage};
#[cfg(feature = "memcached")]
#[doc(inline)]
pub use crate::stores::{MemcachedCache, MemcachedStore};
#[cfg(feature = "memory")]
#[doc(inline)]
pub use crate::stores::{MemoryCache, MemoryStore};
#[cfg(feature = "redis")]
#[doc(inline)]
pub use crate::stores::{RedisCache, RedisStore};
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
#[doc(inline)]
pub use crate::stores::{SqlStore, TableName, TableNameError};
pub use crate::{
    backend::{Backend, IntoBackend},
    cache::{Cached, RecordCache},
    clock::{Clock, SystemClock},
    data::Entry,
    error::{Error, ErrorKind, StoreError, StoreErrorKind},
    expiry::Expiry,
    future::ResponseFuture,
    id::{RandomError, RandomSource, RecordId, RecordIdError, SessionId, SystemRandom, WriteToken},
    layer::SessionLayer,
    options::{Conflict, Outage, SessionOptions},
    record::{Payload, Record, RecordError, Version},
    service::SessionService,
    session::{LazySession, Session},
    store::{
        Created, Cursor, DeleteExpired, Page, Rotated, ScanSessions, SessionStore, StoredSession,
        Updated, UserSessions,
    },
    sweeper::{Sweep, Sweeper, Sweeping},
    timestamp::Timestamp,
    user::UserId,
};
#[cfg(feature = "cookie")]
pub use crate::{
    backend::{CookieStore, Irrevocable, Revocable},
    keyring::{Keyring, KeyringError},
};
