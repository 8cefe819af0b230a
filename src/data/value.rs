//! One value of a session: JSON text, typed at the moment it is put in or taken out.

use std::{any::type_name, fmt};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;

use crate::{
    error::{Error, ErrorKind},
    record::Payload,
};

/// A key of a session and its value; what [`Session::iter`](crate::Session::iter) returns.
///
/// # Examples
///
/// ```
/// use tower_keep::{Error, Session};
///
/// fn cart(session: &Session) -> Result<Vec<(String, u32)>, Error> {
///     session
///         .iter()
///         .filter(|entry| entry.key().starts_with("cart."))
///         .map(|entry| Ok((entry.key().to_owned(), entry.value()?)))
///         .collect()
/// }
/// ```
#[derive(Clone)]
pub struct Entry {
    key: String,
    value: Payload,
}

impl Entry {
    pub(crate) fn new((key, value): (&str, &[u8])) -> Self {
        Self {
            key: key.to_owned(),
            value: value.into(),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value, decoded.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if what is stored is not of that type.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, Error> {
        decode(&self.value)
    }

    /// The value as the JSON text that is stored.
    #[must_use]
    pub fn json(&self) -> &str {
        str::from_utf8(self.value.as_bytes()).unwrap_or_default()
    }
}

/// Shows the key alone: a value may be private.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Payload, Error> {
    match serde_json::to_vec(value) {
        Ok(json) => Ok(json.into()),
        Err(_) => Err(Error::with_source(
            ErrorKind::Encode,
            "the value can not be written as JSON",
            ValueError {
                type_name: type_name::<T>(),
                problem: "its Serialize failed, or it has a map whose keys are not strings",
            },
        )),
    }
}

pub(crate) fn decode<T: DeserializeOwned>(json: &Payload) -> Result<T, Error> {
    serde_json::from_slice(json.as_bytes()).map_err(|error| {
        Error::with_source(
            ErrorKind::Decode,
            "the stored value is of another type",
            ValueError {
                type_name: type_name::<T>(),
                problem: match error.classify() {
                    Category::Data => "the JSON does not fit the type",
                    Category::Syntax | Category::Eof | Category::Io => "it is not JSON",
                },
            },
        )
    })
}

/// Stands in for the error of `serde_json`, whose text quotes the value.
#[derive(Debug, thiserror::Error)]
#[error("{type_name}: {problem}")]
struct ValueError {
    type_name: &'static str,
    problem: &'static str,
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, error::Error as _};

    use super::*;

    #[test]
    fn no_text_of_a_decoding_error_quotes_the_value() {
        let stored = encode("pin 1234").unwrap();
        let error = decode::<u64>(&stored).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        let texts = format!("{error} {error:?} {}", error.source().unwrap());
        assert!(!texts.contains("1234"), "{texts}");
        assert!(texts.contains("u64"), "{texts}");
    }

    #[test]
    fn a_map_with_keys_that_are_no_strings_is_an_encoding_error() {
        let error = encode(&HashMap::from([((1, 2), 3)])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);
    }

    #[test]
    fn the_widest_integers_survive() {
        let stored = encode(&u128::MAX).unwrap();
        assert_eq!(decode::<u128>(&stored).unwrap(), u128::MAX);
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow_of_the_stack() {
        let deep = Payload::from("[".repeat(100_000).into_bytes());
        let error = decode::<serde_json::Value>(&deep).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
    }
}
