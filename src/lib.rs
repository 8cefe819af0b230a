#![doc = "placeholder"]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod backend;
mod caching;
mod clock;
mod cookie;
mod data;
mod error;
mod expiry;
mod future;
mod id;
mod layer;
mod meter;
mod options;
mod record;
mod service;
mod session;
mod store;
mod stores;
mod timestamp;
mod user;

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "testing")]
pub mod testing;

pub use ::cookie::SameSite;

#[cfg(feature = "memory")]
pub use crate::stores::MemoryStore;
pub use crate::{
    backend::{Backend, IntoBackend},
    clock::{Clock, SystemClock},
    data::Entry,
    error::{Error, ErrorKind, StoreError, StoreErrorKind},
    expiry::Expiry,
    future::ResponseFuture,
    id::{RandomError, RandomSource, RecordId, SessionId, SystemRandom, WriteToken},
    layer::SessionLayer,
    options::{Conflict, OptionsError, Outage, SessionOptions},
    record::{Payload, Record, RecordError, Version},
    service::SessionService,
    session::{LazySession, Session},
    store::{
        Created, Cursor, DeleteExpired, Page, Rotated, ScanSessions, SessionStore, StoredSession,
        Updated, UserSessions,
    },
    timestamp::Timestamp,
    user::UserId,
};
