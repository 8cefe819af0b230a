//! Reading the data of a session as it lies in a store.

use serde::de::DeserializeOwned;

use crate::{
    data::{Entry, Table, decode},
    error::{Error, ErrorKind},
    record::{Record, RecordError},
    store::StoredSession,
};

/// Reading data, of a session that is not the request's own: as a [`Session`](crate::Session) reads
/// it, and never changing anything.
impl StoredSession {
    /// The value of a key, or `None` if there is none.
    ///
    /// Each call checks the whole payload. For more than a few keys take
    /// [`entries`](Self::entries).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if what is stored is not of that type, [`ErrorKind::Store`] if the
    /// payload is damaged, and [`ErrorKind::Unsupported`] if a newer version of this crate has
    /// written it. None of them says anything about the user's other sessions.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(stored: &tower_keep::StoredSession) -> Result<(), tower_keep::Error> {
    /// let user_agent: Option<String> = stored.get("user_agent")?;
    /// # Ok(()) }
    /// ```
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let value = parse(&self.record)?.get(key);
        value.map(|value| decode(&value)).transpose()
    }

    /// All keys with their values, in ascending order of the keys.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] and [`ErrorKind::Unsupported`], as [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn show(stored: &tower_keep::StoredSession) -> Result<(), tower_keep::Error> {
    /// for entry in stored.entries()? {
    ///     println!("{} is {}", entry.key(), entry.json());
    /// }
    /// # Ok(()) }
    /// ```
    #[doc(alias = "iter")]
    #[doc(alias = "keys")]
    pub fn entries(&self) -> Result<impl Iterator<Item = Entry> + use<>, Error> {
        let table = parse(&self.record)?;
        let entries: Vec<Entry> = table.iter().map(Entry::new).collect();
        Ok(entries.into_iter())
    }
}

/// The table of a record that has to be readable: one that somebody asks for, or has just written.
pub(crate) fn parse(record: &Record) -> Result<Table, Error> {
    Table::parse(record.payload.clone()).map_err(|error| {
        let (kind, message) = match error {
            RecordError::Corrupt => (ErrorKind::Store, "the session is damaged"),
            RecordError::Unsupported => (
                ErrorKind::Unsupported,
                "the session was written by a newer version",
            ),
        };
        Error::with_source(kind, message, error)
    })
}
