//! Any store, with the data of its sessions encrypted.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    error::{StoreError, StoreErrorKind},
    id::{RandomSource, RecordId, SystemRandom},
    keyring::{Keyring, Purpose},
    record::{Payload, Record, Version},
    seal::{Encryption, Seal},
    store::{
        Created, Cursor, DeleteExpired, Page, Rotated, ScanSessions, SessionStore, StoredSession,
        Updated, UserSessions,
    },
    timestamp::Timestamp,
    user::UserId,
};

/// Any store, with the data of its sessions encrypted before it gets there: who reads the store, a backup or
/// a replica of it, learns of each session whose it is and how long it lives, and nothing of what is in it.
///
/// The data is sealed with XChaCha20-Poly1305 and takes 45 bytes more. It is bound to the record's id, version,
/// user, creation and absolute deadline. Someone who can write to the store cannot move data to another id or user, or mix
/// two states. They can still delete a session, extend it up to its absolute deadline, or restore an older state of it,
/// even of a session that was ended.
///
/// What the store behind can do, this can do too: it finds the sessions of a user, sweeps and scans.
/// A record that cannot be opened is damaged ([`StoreErrorKind::Corrupt`]): the layer serves such a client an
/// empty session and leaves the record alone. That is also what becomes of sessions that were stored before the
/// encryption was turned on, and of those whose secret has been dropped from the [`Keyring`].
///
/// A retired secret opens; with the next change of a session it is sealed with the primary one. What is only
/// read stays as it is, so keep a retired secret for the layer's absolute time-out.
///
/// In front of it a [`CachedStore`](crate::CachedStore) keeps copies in clear. Put this one in front of both, to have the
/// copies encrypted too: `EncryptedStore::new(CachedStore::new(cache, store), &keyring)`.
///
/// # Examples
///
/// ```
/// use tower_keep::{EncryptedStore, Keyring, MemoryStore, SessionLayer};
///
/// # let secret = Keyring::generate_secret()?;
/// let keyring = Keyring::new(secret)?;
/// let sessions = SessionLayer::new(EncryptedStore::new(MemoryStore::new(), &keyring));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct EncryptedStore<S> {
    store: S,
    encryption: Arc<Encryption>,
    random: Arc<dyn RandomSource>,
}

impl<S> EncryptedStore<S> {
    /// Encrypts what is kept in `store`.
    #[must_use]
    pub fn new(store: S, keyring: &Keyring) -> Self {
        Self {
            store,
            encryption: Arc::new(Encryption::new(keyring, Purpose::RecordEncryption)),
            random: Arc::new(SystemRandom),
        }
    }

    /// The store behind.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// Takes the nonces from another source.
    #[must_use]
    pub fn with_random_source(self, random: impl RandomSource) -> Self {
        Self {
            random: Arc::new(random),
            ..self
        }
    }

    fn seal(&self, id: &RecordId, record: &Record) -> Result<Record, StoreError> {
        let payload = record.payload.as_bytes();
        let sealed = self
            .encryption
            .seal(&context(id, record), &[payload], &*self.random);
        let sealed = sealed.map_err(|error| StoreError::new(NAME, StoreErrorKind::Other, error))?;
        Ok(Record {
            payload: Payload::from(sealed),
            ..record.clone()
        })
    }

    fn open(&self, id: &RecordId, record: Record) -> Result<Record, StoreError> {
        let sealed = record.payload.as_bytes().to_vec();
        let opened = self.encryption.open(&context(id, &record), sealed);
        let opened = opened.ok_or_else(|| {
            StoreError::new(
                NAME,
                StoreErrorKind::Corrupt,
                "the data can not be decrypted",
            )
        })?;
        Ok(Record {
            payload: opened.body,
            ..record
        })
    }

    /// All that can be opened. What cannot is of no use to whoever asks for many, and no reason to refuse the rest.
    fn open_all(&self, sessions: Vec<StoredSession>) -> Vec<StoredSession> {
        let open = |StoredSession { id, record }| {
            let opened = self.open(&id, record);
            if opened.is_err() {
                tracing::error!(record = ?id, "a stored session can not be decrypted and is left out");
            }
            let record = opened.ok()?;
            Some(StoredSession { id, record })
        };
        sessions.into_iter().filter_map(open).collect()
    }
}

#[async_trait]
impl<S: SessionStore> SessionStore for EncryptedStore<S> {
    async fn load(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let record = self.store.load(id).await?;
        record.map(|record| self.open(id, record)).transpose()
    }

    async fn create(&self, id: &RecordId, record: &Record) -> Result<Created, StoreError> {
        let sealed = self.seal(id, record)?;
        self.store.create(id, &sealed).await
    }

    async fn update(
        &self,
        id: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Updated, StoreError> {
        let sealed = self.seal(id, record)?;
        match self.store.update(id, &sealed, expected).await? {
            Updated::Conflict(present) => Ok(Updated::Conflict(self.open(id, present)?)),
            other @ (Updated::Done | Updated::Gone) => Ok(other),
        }
    }

    async fn rotate(
        &self,
        old: &RecordId,
        new: &RecordId,
        record: &Record,
        expected: Version,
    ) -> Result<Rotated, StoreError> {
        let sealed = self.seal(new, record)?;
        match self.store.rotate(old, new, &sealed, expected).await? {
            Rotated::Conflict(present) => Ok(Rotated::Conflict(self.open(old, present)?)),
            other @ (Rotated::Done | Rotated::Gone | Rotated::Exists) => Ok(other),
        }
    }

    async fn touch(
        &self,
        id: &RecordId,
        expires_at: Timestamp,
        expected: Version,
    ) -> Result<bool, StoreError> {
        self.store.touch(id, expires_at, expected).await
    }

    async fn delete(&self, id: &RecordId) -> Result<bool, StoreError> {
        self.store.delete(id).await
    }
}

#[async_trait]
impl<S: UserSessions> UserSessions for EncryptedStore<S> {
    async fn sessions_of(&self, user: &UserId) -> Result<Vec<StoredSession>, StoreError> {
        Ok(self.open_all(self.store.sessions_of(user).await?))
    }

    async fn delete_all_of(
        &self,
        user: &UserId,
        keep: Option<&RecordId>,
    ) -> Result<Vec<RecordId>, StoreError> {
        self.store.delete_all_of(user, keep).await
    }
}

#[async_trait]
impl<S: DeleteExpired> DeleteExpired for EncryptedStore<S> {
    async fn delete_expired(&self, limit: usize) -> Result<u64, StoreError> {
        self.store.delete_expired(limit).await
    }
}

#[async_trait]
impl<S: ScanSessions> ScanSessions for EncryptedStore<S> {
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Page, StoreError> {
        let page = self.store.scan(after, limit).await?;
        Ok(Page {
            sessions: self.open_all(page.sessions),
            next: page.next,
        })
    }
}

/// What the data is bound to: all of the record but `expires_at`, which is touched without being sealed again.
///
/// `tower-keep record v1`, the id, the revision, the write token, `created_at`, `absolute_deadline` (numbers in
/// big-endian order), and the user. Every part but the last has a fixed length, so that no two records have the same.
fn context(id: &RecordId, record: &Record) -> Vec<u8> {
    let user = record.user.as_ref().map_or("", UserId::as_str);
    [
        CONTEXT,
        id.as_bytes(),
        &record.version.revision.to_be_bytes(),
        record.version.token.as_bytes(),
        &record.created_at.as_millis().to_be_bytes(),
        &record.absolute_deadline.as_millis().to_be_bytes(),
        user.as_bytes(),
    ]
    .concat()
}

const NAME: &str = "encrypted";

const CONTEXT: &[u8] = b"tower-keep record v1";
