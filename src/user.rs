//! Whose session it is.

use std::{fmt, sync::Arc};

use crate::error::{Error, ErrorKind};

/// The application's own identifier of a user, as a session is bound to it by
/// [`Session::login`](crate::Session::login).
///
/// 1 to 255 bytes of UTF-8 without control characters. It is compared byte by byte: bring names
/// that people type into one form first. `Debug` does not show it.
///
/// # Examples
///
/// ```
/// use tower_keep::UserId;
///
/// let user = UserId::new(7)?;
/// assert_eq!(user.as_str(), "7");
/// assert!(UserId::new("").is_err());
/// # Ok::<(), tower_keep::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// The longest identifier, in bytes: it fits an index of every database.
    pub const LEN_MAX: usize = 255;

    /// Makes an identifier of anything that can be displayed: a number, a UUID, a name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if its text is empty, longer than [`UserId::LEN_MAX`] bytes
    /// or holds control characters.
    pub fn new(user: impl fmt::Display) -> Result<Self, Error> {
        Self::parse(&user.to_string()).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                "a user id has 1 to 255 bytes and no control characters",
            )
        })
    }

    /// Reads what a store has kept, or a client has typed; `None` if it is no user id.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let fits = (1..=Self::LEN_MAX).contains(&written.len());
        (fits && !written.chars().any(char::is_control)).then(|| Self(written.into()))
    }

    /// The identifier as the application gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserId(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_long_and_control_characters_are_refused() {
        assert!(UserId::new("a".repeat(255)).is_ok());
        for bad in ["", "a\0b", "a\n", "\u{85}", &"a".repeat(256)] {
            let error = UserId::new(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn debug_does_not_show_it() {
        let user = UserId::new("ada@example.org").unwrap();
        assert_eq!(format!("{user:?}"), "UserId(redacted)");
    }
}
