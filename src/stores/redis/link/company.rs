//! For a connection that must be to the same server as the link's.

use std::sync::Arc;

use redis::{Client, ErrorKind, RedisError, RedisResult};

use super::{Connection, Link, Mark, Origin, State};

/// Which connection of the link it is, and how to make another one to the same server.
pub(in crate::stores::redis) struct Company {
    pub(in crate::stores::redis) mark: Mark,
    pub(in crate::stores::redis) connection: Connection,
    pub(in crate::stores::redis) server: Client,
}

impl Link {
    /// Whether each server has to be asked whether it is a primary.
    pub(in crate::stores::redis) fn changes_servers(&self) -> bool {
        matches!(self.origin, Some(Origin::Sentinel(_)))
    }

    /// Whether the application made the connection, and nobody here knows how.
    pub(in crate::stores::redis) fn is_given(&self) -> bool {
        self.origin.is_none()
    }

    /// The connection as soon as there is one, and it is not that one, which is replaced if it is still there.
    /// The caller bounds the wait.
    ///
    /// # Errors
    ///
    /// As [`next_live`](Self::next_live).
    pub(in crate::stores::redis) async fn company(
        self: &Arc<Self>,
        but: Option<Mark>,
    ) -> RedisResult<Company> {
        loop {
            let live = self.next_live().await?;
            if but == Some(live.mark()) {
                self.replace(live.mark());
                self.left(live.mark()).await;
                continue;
            }
            if let State::Up { live, server } = &*self.state.borrow() {
                let mark = live.mark();
                let server = *server.clone().ok_or_else(no_server)?;
                let connection = live.connection.clone();
                return Ok(Company {
                    mark,
                    connection,
                    server,
                });
            }
        }
    }

    /// Ends when that connection is not the link's any more.
    pub(in crate::stores::redis) async fn left(&self, mark: Mark) {
        let mut changes = self.state.subscribe();
        let is_other =
            |state: &State| !matches!(state, State::Up { live, .. } if live.mark() == mark);
        let _ = changes.wait_for(is_other).await;
    }
}

fn no_server() -> RedisError {
    RedisError::from((
        ErrorKind::Client,
        "the connection leads to no single server",
    ))
}
