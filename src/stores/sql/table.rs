//! The name of a table, checked before it becomes part of a statement.

use std::{error::Error, fmt, str::FromStr};

/// The name of the table that keeps the sessions, with or without its schema.
///
/// Each part has 1 to 48 ASCII letters, digits and underscores, and does not begin with a digit.
/// It is always quoted, so upper and lower case stay as they are, and reserved words are names
/// like others. 48, because the names of the indexes are made of it and PostgreSQL cuts off what
/// is longer than 63.
///
/// What comes before the dot is a schema for PostgreSQL, a database for MySQL, and an attached
/// database for SQLite.
///
/// # Examples
///
/// ```
/// use tower_keep::TableName;
///
/// let table = TableName::parse("auth.sessions")?;
/// assert_eq!(table.to_string(), "auth.sessions");
/// assert!(TableName::parse("sessions; DROP TABLE users").is_err());
/// # Ok::<(), tower_keep::TableNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    schema: Option<Box<str>>,
    name: Box<str>,
}

impl TableName {
    /// The longest part of a name, in bytes.
    pub const LEN_MAX: usize = 48;

    /// The table that a store uses if nothing else is said.
    pub const DEFAULT: &str = "tower_keep_sessions";

    /// Reads `table` or `schema.table`.
    ///
    /// # Errors
    ///
    /// If a part is empty, too long, begins with a digit or has another character.
    pub fn parse(written: &str) -> Result<Self, TableNameError> {
        let (schema, name) = match written.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, written),
        };
        if !schema.into_iter().chain([name]).all(is_identifier) {
            return Err(TableNameError(()));
        }
        Ok(Self {
            schema: schema.map(Box::from),
            name: name.into(),
        })
    }

    /// The schema, if one was named.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The name without the schema.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `schema.table` with that ending and each part in that kind of quotes.
    pub(super) fn quoted(&self, ending: &str, quote: char) -> String {
        let name = format!("{quote}{}{ending}{quote}", self.name);
        match &self.schema {
            Some(schema) => format!("{quote}{schema}{quote}.{name}"),
            None => name,
        }
    }
}

impl Default for TableName {
    fn default() -> Self {
        Self {
            schema: None,
            name: Self::DEFAULT.into(),
        }
    }
}

impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        Self::parse(written)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.name)
    }
}

/// A text that is no [`TableName`]. It does not repeat the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableNameError(());

impl fmt::Display for TableNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a table name is `table` or `schema.table`, each of 1 to 48 ASCII letters, digits and \
             underscores, not beginning with a digit",
        )
    }
}

impl Error for TableNameError {}

fn is_identifier(part: &str) -> bool {
    (1..=TableName::LEN_MAX).contains(&part.len())
        && !part.starts_with(|first: char| first.is_ascii_digit())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_schema() {
        let table = TableName::parse("auth.Sessions_2").unwrap();
        assert_eq!(table.schema(), Some("auth"));
        assert_eq!(table.name(), "Sessions_2");
        assert_eq!(table.quoted("_x", '`'), "`auth`.`Sessions_2_x`");
        assert_eq!(TableName::parse(&table.to_string()), Ok(table));
        let plain: TableName = "sessions".parse().unwrap();
        assert_eq!(plain.quoted("", '"'), "\"sessions\"");
        assert_eq!(
            TableName::parse(TableName::DEFAULT).unwrap(),
            TableName::default()
        );
    }

    #[test]
    fn anything_that_could_leave_the_quotes_is_refused() {
        let long = "x".repeat(49);
        for bad in [
            "", ".", "a.", ".a", "a.b.c", "1a", "a b", "a\"", "a`", "a'", "a;", "a-b", "ä", "a\0",
            " a", "a.1b", &long,
        ] {
            assert!(TableName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(TableName::parse(&long[1..]).is_ok());
    }
}
