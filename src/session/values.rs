//! Reading and changing the data of a session.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    data::{Entry, Replay, UpdateFn, decode, encode},
    error::{Error, ErrorKind},
    record::Payload,
    session::Session,
};

/// Reading and changing data.
///
/// Values are anything that `serde` can write as JSON. They are encoded when they are put in, so
/// that one that cannot be encoded fails at the line that puts it in, and decoded one by one when
/// they are read.
impl Session {
    /// The value of a key, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if what is stored is not of that type, as after a deployment that
    /// changed it. The value is left as it is: [`insert`](Self::insert) another, or
    /// [`remove`](Self::remove) it.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// let theme: Option<String> = session.get("theme")?;
    /// # Ok(()) }
    /// ```
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let value = self.read(|draft| draft.data.get(key));
        value.map(|value| decode(&value)).transpose()
    }

    /// Puts a value under a key, in place of what was there. The same value again is no change.
    ///
    /// JSON has no number for infinities and NaN: such a float is stored as `null`, which reads as
    /// `Option::None`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] if the value cannot be written as JSON, [`ErrorKind::TooLarge`] if the
    /// session would outgrow the layer's limit (64 KiB by default), and those of every change:
    /// [`ErrorKind::Committed`] after the answer, [`ErrorKind::ReadOnly`] during an outage,
    /// [`ErrorKind::Gone`] once a save or a reload has found the session ended. The session is then
    /// as before.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// session.insert("theme", "dark")?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "set")]
    pub fn insert(&self, key: &str, value: impl Serialize) -> Result<(), Error> {
        let value = encode(&value)?;
        let set = self.change(|draft| draft.data.set(key, Some(value), Replay::Value));
        set.map(drop)
    }

    /// Puts the result of a function of the old value under a key, and returns it.
    ///
    /// This is the way to change a value that depends on what it was: a counter, a cart. Where two
    /// requests do so at once, the later one's function runs again, on what the earlier one has
    /// stored; that is why it must be able to run more than once, and should do nothing but
    /// compute. What it returned first has then been shown to the handler, and is not what is stored.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the old value is of another type, and as [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session, article: u32) -> Result<(), tower_keep::Error> {
    /// let cart = session.update("cart", move |cart: Option<Vec<u32>>| {
    ///     let mut cart = cart.unwrap_or_default();
    ///     cart.push(article);
    ///     cart
    /// })?;
    /// # Ok(()) }
    /// ```
    pub fn update<T, F>(&self, key: &str, update: F) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Option<T>) -> T + Send + Sync + 'static,
    {
        let update = Arc::new(update);
        let again = Arc::clone(&update);
        let replay: UpdateFn = Arc::new(move |old| {
            let old = old.map(decode).transpose()?;
            encode(&again(old))
        });
        self.apply(key, |old| {
            let new = update(old.map(decode).transpose()?);
            let replay = Replay::Updates(Arc::clone(&replay), Vec::new());
            Ok((Some(encode(&new)?), replay, new))
        })
    }

    /// The value of a key; where there is none, puts the function's result there first.
    ///
    /// Where two requests do so at once, the value of the first to commit stays.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get) and [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn random_token() -> String { String::new() }
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// let csrf_token = session.get_or_insert_with("csrf_token", random_token)?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "setdefault")]
    pub fn get_or_insert_with<T, F>(&self, key: &str, default: F) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> T,
    {
        if let Some(present) = self.get(key)? {
            return Ok(present);
        }
        let default = default();
        let value = encode(&default)?;
        let or_default = value.clone();
        let replay: UpdateFn =
            Arc::new(move |old| Ok(old.cloned().unwrap_or_else(|| or_default.clone())));
        // If a clone of this session has put something there meanwhile, that stays.
        let mut default = Some(default);
        self.apply(key, |old| {
            let stays = old.cloned().unwrap_or_else(|| value.clone());
            let output = match (old, default.take()) {
                (None, Some(default)) => default,
                _ => decode(&stays)?,
            };
            let replay = Replay::Updates(Arc::clone(&replay), Vec::new());
            Ok((Some(stays), replay, output))
        })
    }

    /// Removes a key and returns what was there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if what is stored is not of that type; it then stays. To remove a
    /// value whatever it is, ask for a [`serde::de::IgnoredAny`]. And those of every change, as
    /// [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// let flash: Option<String> = session.remove("flash")?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "pop")]
    pub fn remove<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        self.apply(key, |old| {
            let removed = old.map(decode).transpose()?;
            Ok((None, Replay::Value, removed))
        })
    }

    /// Puts several values in, or none of them.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// session.extend([("theme", "dark"), ("language", "eo")])?;
    /// # Ok(()) }
    /// ```
    pub fn extend<K, T, I>(&self, entries: I) -> Result<(), Error>
    where
        K: AsRef<str>,
        T: Serialize,
        I: IntoIterator<Item = (K, T)>,
    {
        let encoded: Vec<(String, Payload)> = entries
            .into_iter()
            .map(|(key, value)| Ok((key.as_ref().to_owned(), encode(&value)?)))
            .collect::<Result<_, Error>>()?;
        self.change(|draft| {
            let mut data = draft.data.clone();
            for (key, value) in encoded {
                data.set(&key, Some(value), Replay::Value)?;
            }
            Ok(std::mem::replace(&mut draft.data, data))
        })
        .map(drop)
    }

    /// Whether there is a value under a key.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.read(|draft| draft.data.contains_key(key))
    }

    /// All keys, in ascending order.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// use serde::de::IgnoredAny;
    ///
    /// let drafts = session.keys().into_iter().filter(|key| key.starts_with("draft:"));
    /// for key in drafts {
    ///     session.remove::<IgnoredAny>(&key)?;
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.read(|draft| draft.data.iter().map(|(key, _)| key.to_owned()).collect())
    }

    /// All keys with their values, in ascending order of the keys, as they are now.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// for entry in session.iter() {
    ///     println!("{} is {}", entry.key(), entry.json());
    /// }
    /// # Ok(()) }
    /// ```
    #[doc(alias = "items")]
    #[doc(alias = "values")]
    pub fn iter(&self) -> impl Iterator<Item = Entry> + use<> {
        let entries: Vec<Entry> = self.read(|draft| draft.data.iter().map(Entry::new).collect());
        entries.into_iter()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read(|draft| draft.data.iter().count())
    }

    /// Whether there are no keys. A session without data may still have a user and an id.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read(|draft| draft.data.is_empty())
    }

    /// Forgets all data and the session's own expiry rule. Keeps the id, the record and the user.
    ///
    /// To log out, use [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// Those of every change, as [`insert`](Self::insert).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn page(session: &tower_keep::Session) -> Result<(), tower_keep::Error> {
    /// session.clear()?; // the cart and all else; whoever is logged in stays so
    /// # Ok(()) }
    /// ```
    pub fn clear(&self) -> Result<(), Error> {
        self.change(|draft| Ok(draft.data.clear())).map(drop)
    }

    /// Puts what `compute` makes of the old value under a key, or removes it.
    ///
    /// `compute` is code of the application and runs without the lock; if a clone of this session
    /// has changed the key meanwhile, it runs again.
    fn apply<T>(
        &self,
        key: &str,
        mut compute: impl FnMut(Option<&Payload>) -> Result<(Option<Payload>, Replay, T), Error>,
    ) -> Result<T, Error> {
        for _ in 0..UPDATE_ATTEMPTS_MAX {
            let old = self.change(|draft| Ok(draft.data.get(key)))?;
            let (value, replay, output) = compute(old.as_ref())?;
            let applied = self.change(|draft| match draft.data.get(key) == old {
                true => draft.data.set(key, value, replay).map(Some),
                false => Ok(None),
            })?;
            if applied.is_some() {
                return Ok(output);
            }
        }
        Err(Error::new(
            ErrorKind::Conflict,
            "the key is changed whenever its update runs; does the update change it itself?",
        ))
    }
}

/// Clones of one session that change one key in one request are few.
const UPDATE_ATTEMPTS_MAX: u32 = 64;
