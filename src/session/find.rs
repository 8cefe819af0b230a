//! Which session a client presents.

use std::sync::Arc;

use crate::{
    backend::{Client, Opened, Server, Side},
    data::parse,
    error::{Error, ErrorKind, StoreErrorKind},
    id::{RecordId, SessionId},
    record::Record,
    session::{
        LazySession,
        presented::Candidates,
        state::{Doomed, Draft, Origin},
    },
    timestamp::Timestamp,
};

impl LazySession {
    /// Looks up what the client presents: exactly one live session, or none.
    pub(super) async fn find(&self) -> Result<Arc<Draft>, Error> {
        let settings = &*self.0.settings;
        let found = match &settings.backend.side {
            Side::Server(server) => self.find_in_store(server).await?,
            // A future of its own: it is larger, and does not concern the others.
            Side::Client(client) => Box::pin(self.find_in_cookies(client)).await?,
        };
        Ok(match found {
            Found::One(live) => live,
            Found::None => Arc::new(Draft::new(settings)),
            Found::Several => {
                tracing::warn!("a request presents two live sessions; neither is used");
                Arc::new(Draft::new(settings))
            }
        })
    }

    async fn find_in_store(&self, server: &Server) -> Result<Found, Error> {
        let name = self.0.settings.options.cookie.full_name();
        let Candidates { first, more } = self.0.presented.candidates(name);
        let mut found = Found::None;
        if let Some(first) = first {
            found.add(self.look_up(server, &first).await?);
        }
        match more.is_empty() {
            true => Ok(found),
            // A future of its own, as there are hardly ever any.
            false => Box::pin(self.find_more(server, more, found)).await,
        }
    }

    async fn find_more(
        &self,
        server: &Server,
        more: Vec<SessionId>,
        mut found: Found,
    ) -> Result<Found, Error> {
        for id in &more {
            if found.add(self.look_up(server, id).await?) {
                break;
            }
        }
        Ok(found)
    }

    async fn find_in_cookies(&self, client: &Client) -> Result<Found, Error> {
        let mut found = Found::None;
        for opened in self.open_tokens(client)? {
            if found.add(self.check(client, opened).await?) {
                break;
            }
        }
        Ok(found)
    }

    /// What of a session is there now.
    pub(super) async fn look_up_again(&self, origin: &Origin) -> Result<Option<Arc<Draft>>, Error> {
        match &self.0.settings.backend.side {
            Side::Server(server) => self.look_up(server, &origin.id).await,
            Side::Client(client) => {
                // Answers to other requests may have postponed its end since, but not for ever.
                let is_over = self.0.settings.now() >= origin.record.absolute_deadline;
                if is_over {
                    return Ok(None);
                }
                match client.stands(&origin.record_id, &origin.record).await? {
                    Some(_) => self.readable(origin.clone()),
                    None => Ok(None),
                }
            }
        }
    }

    /// All that the client presents, whether it is alive or not.
    ///
    /// Fails for a session in cookies of a newer version, which cannot be read, and so not be ended.
    pub(super) fn presented_sessions(&self) -> Result<Vec<Doomed>, Error> {
        let settings = &*self.0.settings;
        let name = settings.options.cookie.full_name();
        let doomed = |id: RecordId, until| Doomed { id, until };
        match &settings.backend.side {
            Side::Server(_) => {
                let candidates = self.0.presented.candidates(name).all();
                let unknown = Timestamp::from_millis(i64::MAX);
                Ok(candidates
                    .map(|id| doomed(id.record_id(), unknown))
                    .collect())
            }
            Side::Client(client) => {
                let opened = self.open_tokens(client)?.into_iter();
                let live = opened.filter(|opened| !opened.record.is_expired(settings.now()));
                let doomed =
                    live.map(|live| doomed(live.id.record_id(), live.record.absolute_deadline));
                Ok(doomed.collect())
            }
        }
    }

    /// The record of an id, if it is alive and readable.
    async fn look_up(&self, server: &Server, id: &SessionId) -> Result<Option<Arc<Draft>>, Error> {
        let record_id = id.record_id();
        let record = match server.load(&record_id).await {
            Ok(record) => record,
            // Reported where it happened. It is no use to refuse this client for ever.
            Err(error) if error.kind() == StoreErrorKind::Corrupt => None,
            Err(error) => return Err(error.into()),
        };
        // The store has looked at its own clock. Of two clocks the one that is ahead decides.
        let Some(record) = record.filter(|record| self.is_live(record)) else {
            return Ok(None);
        };
        self.readable(Origin {
            id: id.clone(),
            record_id,
            record,
            outdated: false,
        })
    }

    /// What the client presents of each session, and of several states of one the latest: the browser has both if the
    /// attributes of the cookie were changed meanwhile.
    fn open_tokens(&self, client: &Client) -> Result<Vec<Opened>, Error> {
        let settings = &*self.0.settings;
        let name = settings.options.cookie.full_name();
        let now = settings.now();
        let recognizes = |start: &[u8]| client.recognizes(start);
        let mut found: Vec<Opened> = Vec::new();
        for token in self.0.presented.tokens(name, recognizes) {
            let Some(opened) = client.open(name, &token, now)? else {
                continue;
            };
            match found.iter_mut().find(|known| known.id == opened.id) {
                Some(known) if known.state() < opened.state() => *known = opened,
                Some(_) => {}
                None => found.push(opened),
            }
        }
        Ok(found)
    }

    /// What was opened, if it is alive and readable.
    async fn check(&self, client: &Client, opened: Opened) -> Result<Option<Arc<Draft>>, Error> {
        let origin = Origin {
            outdated: opened.outdated,
            ..Origin::new(opened.id, opened.record)
        };
        if !self.is_live(&origin.record) {
            return Ok(None);
        }
        match client.stands(&origin.record_id, &origin.record).await? {
            Some(_) => self.readable(origin),
            None => Ok(None),
        }
    }

    fn is_live(&self, record: &Record) -> bool {
        !record.is_expired(self.0.settings.now())
    }

    /// A damaged record is reported, and none.
    fn readable(&self, origin: Origin) -> Result<Option<Arc<Draft>>, Error> {
        match parse(&origin.record) {
            Ok(table) => Ok(Some(Arc::new(Draft::loaded(
                origin,
                table,
                &self.0.settings,
            )))),
            Err(error) if error.kind() == ErrorKind::Unsupported => Err(error),
            Err(_) => {
                let record = origin.record_id;
                tracing::error!(?record, "a stored session is damaged and not used");
                Ok(None)
            }
        }
    }
}

/// What was found of what a request presents.
enum Found {
    None,
    One(Arc<Draft>),
    Several,
}

impl Found {
    /// Answers whether nothing more needs to be looked at.
    fn add(&mut self, live: Option<Arc<Draft>>) -> bool {
        if let Some(live) = live {
            *self = match self {
                Self::None => Self::One(live),
                Self::One(_) | Self::Several => Self::Several,
            };
        }
        matches!(self, Self::Several)
    }
}
