//! Where a layer keeps its sessions: what `SessionLayer::new` takes.

mod client;
mod queue;
mod server;

use std::sync::Arc;

#[cfg(feature = "cookie")]
pub use self::client::{CookieStore, Irrevocable, Revocable};
pub(crate) use self::{
    client::{Client, Opened, Token, chunks},
    queue::{Queues, Turn},
    server::Server,
};
use crate::store::SessionStore;

/// What can keep the sessions of a [`SessionLayer`](crate::SessionLayer): every [`SessionStore`], and
/// `CookieStore`.
pub trait IntoBackend {
    /// Hands it to the layer.
    fn into_backend(self) -> Backend;
}

impl<S: SessionStore> IntoBackend for S {
    fn into_backend(self) -> Backend {
        Backend {
            side: Side::Server(Server::new(Arc::new(self))),
        }
    }
}

/// A store in the form that the layer uses; made by [`IntoBackend`].
#[derive(Clone, Debug)]
pub struct Backend {
    pub(crate) side: Side,
}

/// On which side of the network the records are.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    /// In a store; the client has an id.
    Server(Server),
    /// In the cookies of the client.
    #[cfg_attr(
        not(feature = "cookie"),
        expect(dead_code, reason = "a feature only adds names")
    )]
    Client(Client),
}
