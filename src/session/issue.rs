//! Carries out, for sessions in cookies, what `decide` has chosen: each change is a new token.

use std::pin::pin;

use crate::{
    backend::Client,
    error::Error,
    id::{SessionId, WriteToken},
    record::Record,
    session::{
        commit::{Outcome, Stored, Work, gone},
        decide::Commit,
        settings::Settings,
        state::{CookieChange, CookieValue, Origin},
    },
};

/// There is nobody to have a conflict with: of two tokens the browser keeps the one that comes last.
pub(super) struct Issuer<'a> {
    settings: &'a Settings,
    client: &'a Client,
    work: &'a Work,
}

impl<'a> Issuer<'a> {
    pub(super) const fn new(settings: &'a Settings, client: &'a Client, work: &'a Work) -> Self {
        Self {
            settings,
            client,
            work,
        }
    }

    pub(super) async fn run(&self) -> Result<Outcome, Error> {
        match self.work.commit {
            Commit::Nothing => Ok(Outcome::unchanged()),
            Commit::Touch => Ok(self.touch().await),
            Commit::Create => self.create().await,
            Commit::Update => self.update().await,
            Commit::Rotate => self.rotate().await,
            Commit::Delete => self.delete().await,
            Commit::Replace => {
                let ended = self.delete().await?;
                if self.work.plan.was_live && ended.cookie == CookieChange::Keep {
                    // Ended by somebody else meanwhile: the client may have another session by now.
                    let ended = self.work.plan.doomed.first();
                    return Ok(gone(ended.map(|session| &session.id)));
                }
                let created = self.create().await?;
                Ok(match created.stored {
                    // Nothing that lives was put in: it is a flush and no more.
                    Stored::Same => ended,
                    Stored::Live(_) | Stored::Nothing { .. } => created,
                })
            }
        }
    }

    /// Also for what was sealed with a retired key, when the deadline is not due.
    ///
    /// As with a store, one that fails is no reason to refuse an answer for which nothing else was to be written.
    async fn touch(&self) -> Outcome {
        let touch = pin!(self.write_over(|origin| {
            let policy = &self.settings.options.expiry;
            let deadline = self.work.draft.postponed(policy, self.work.now);
            Ok(Record {
                expires_at: deadline.unwrap_or(origin.record.expires_at),
                ..origin.record.clone()
            })
        }));
        let touched = self.settings.in_time("touch", touch).await;
        // An error of the store was reported where it happened.
        touched.unwrap_or_else(|_| Outcome::unchanged())
    }

    async fn update(&self) -> Result<Outcome, Error> {
        self.write_over(|origin| self.next_record(origin, origin.record.version.token))
            .await
    }

    /// A session that has been ended meanwhile stays as it is: its cookie may be that of a login by now.
    async fn write_over(
        &self,
        next: impl Fn(&Origin) -> Result<Record, Error>,
    ) -> Result<Outcome, Error> {
        let Some(origin) = &self.work.draft.origin else {
            return Ok(Outcome::unchanged());
        };
        if self.stands(origin).await?.is_none() {
            return Ok(gone(Some(&origin.record_id)));
        }
        self.issue(Origin {
            record: next(origin)?,
            outdated: false,
            ..origin.clone()
        })
    }

    async fn create(&self) -> Result<Outcome, Error> {
        let draft = &self.work.draft;
        let generation = self.generation().await?;
        let policy = &self.settings.options.expiry;
        let record = draft.first_record(policy, self.work.now, generation)?;
        if record.is_expired(self.work.now) {
            // Its own rule has ended it before it began.
            return Ok(Outcome::unchanged());
        }
        self.issue(Origin::new(self.new_id()?, record))
    }

    async fn rotate(&self) -> Result<Outcome, Error> {
        let draft = &self.work.draft;
        let Some(origin) = &draft.origin else {
            return Ok(Outcome::unchanged());
        };
        // Of what can fail all but the last comes first: with the revocation the old session is over.
        let Some(own) = self.stands(origin).await? else {
            return Ok(gone(Some(&origin.record_id)));
        };
        let generation = match draft.user() == origin.record.user.as_ref() {
            true => own,
            false => self.generation().await?,
        };
        let record = self.next_record(origin, generation)?;
        let issued = self.issue(Origin::new(self.new_id()?, record))?;
        let ended = origin.doomed();
        let random = &*self.settings.random;
        let rotated = self
            .client
            .revoke(&ended.id, ended.until, self.work.now, random)
            .await?;
        match rotated {
            true => Ok(issued),
            false => Ok(gone(Some(&origin.record_id))),
        }
    }

    /// The cookie goes only if a session went, as with a store.
    async fn delete(&self) -> Result<Outcome, Error> {
        let random = &*self.settings.random;
        let mut ended = Ok(false);
        for session in &self.work.plan.doomed {
            // What fails for one is no reason to leave the others alive.
            let revoke = self
                .client
                .revoke(&session.id, session.until, self.work.now, random);
            let done = revoke.await;
            ended = ended.and_then(|ended| done.map(|done| ended | done));
        }
        let ended = ended?;
        Ok(Outcome {
            cookie: match ended {
                true => CookieChange::Remove,
                false => CookieChange::Keep,
            },
            stored: Stored::Nothing { gone: false },
        })
    }

    /// The generation of the session that was loaded, if it is still one: neither ended by somebody else nor expired
    /// meanwhile.
    async fn stands(&self, origin: &Origin) -> Result<Option<WriteToken>, Error> {
        if origin.record.is_expired(self.work.now) {
            return Ok(None);
        }
        self.client.stands(&origin.record_id, &origin.record).await
    }

    /// The generation of a session that begins with a login.
    async fn generation(&self) -> Result<WriteToken, Error> {
        let random = &*self.settings.random;
        let user = self.work.draft.user();
        self.client.generation(user, self.work.now, random).await
    }

    fn next_record(&self, origin: &Origin, generation: WriteToken) -> Result<Record, Error> {
        let policy = &self.settings.options.expiry;
        let draft = &self.work.draft;
        draft.next_record(&origin.record, policy, self.work.now, generation)
    }

    fn issue(&self, origin: Origin) -> Result<Outcome, Error> {
        let options = &self.settings.options;
        let token = self.client.issue(
            &options.cookie,
            &origin.id,
            &origin.record,
            self.work.now,
            &*self.settings.random,
        )?;
        let rule = self.work.draft.data.rule();
        Ok(Outcome {
            cookie: CookieChange::Set {
                value: CookieValue::Token(token),
                max_age: options
                    .expiry
                    .cookie_age(rule, self.work.now, origin.record.expires_at),
            },
            stored: Stored::Live(origin),
        })
    }

    fn new_id(&self) -> Result<SessionId, Error> {
        Ok(SessionId::generate(&*self.settings.random)?)
    }
}
