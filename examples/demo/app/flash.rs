//! A message for the next page, shown once: what a form did is told after the redirect.

use tower_keep::{Error, Session};

pub(crate) fn say(session: &Session, message: String) -> Result<(), Error> {
    session.insert(KEY, message)
}

/// Takes the message away. Without one, nothing is written.
pub(crate) fn take(session: &Session) -> Result<Option<String>, Error> {
    session.remove(KEY)
}

const KEY: &str = "flash";
