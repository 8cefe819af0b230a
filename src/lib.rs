//! x
#![allow(dead_code, missing_docs, unused)]
mod clock; mod id; mod timestamp; mod user; mod error; mod record; mod expiry; mod store; mod data;
pub use crate::{clock::*, id::*, timestamp::*, user::*, error::*, record::*, store::*, data::Entry, expiry::Expiry};
pub struct Session; pub struct SessionLayer;
