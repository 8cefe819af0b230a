//! Where a layer keeps its sessions: what `SessionLayer::new` takes.

mod queue;
mod server;

use std::sync::Arc;

pub(crate) use queue::{Queues, Turn};
pub(crate) use server::Server;

use crate::store::SessionStore;

/// What can keep the sessions of a [`SessionLayer`](crate::SessionLayer): every [`SessionStore`].
pub trait IntoBackend {
    /// Hands it to the layer.
    fn into_backend(self) -> Backend;
}

impl<S: SessionStore> IntoBackend for S {
    fn into_backend(self) -> Backend {
        Backend {
            server: Server::new(Arc::new(self)),
        }
    }
}

/// A store in the form that the layer uses; made by [`IntoBackend`].
#[derive(Clone, Debug)]
pub struct Backend {
    pub(crate) server: Server,
}
