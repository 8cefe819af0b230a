//! Extractors for axum, and errors as responses.

use axum_core::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::request::Parts;

use crate::{
    error::Error,
    session::{LazySession, Session},
};

/// Loads the session. The rejection is an [`Error`]; what it says, see [`LazySession::load`].
impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = Error;

    fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> impl Future<Output = Result<Self, Error>> + Send {
        load(parts)
    }
}

/// `Some` only where the client has presented a live session. A store that fails is still a
/// rejection: nobody knows then whether there is a session.
impl<S: Send + Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Error> {
        let session = load(parts).await?;
        Ok(Some(session).filter(|session| session.record_id().is_some()))
    }
}

/// Holds nothing but the handle: what a request waits in is the smaller for it.
fn load(parts: &Parts) -> impl Future<Output = Result<Session, Error>> + use<> {
    let lazy: Option<LazySession> = parts.extensions.get().cloned();
    async move {
        match lazy {
            Some(lazy) => lazy.into_loaded().await,
            None => Err(LazySession::MISSING),
        }
    }
}

/// Takes the handle and loads nothing.
impl<S: Send + Sync> FromRequestParts<S> for LazySession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        Self::of(&parts.extensions)
    }
}

/// The status and the text of the error. The error itself is in the extensions of the response.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.body_text()).into_response();
        response.extensions_mut().insert(self);
        response
    }
}
