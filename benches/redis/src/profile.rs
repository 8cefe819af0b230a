//! What a session holds besides the number of visits.

/// With it a record is about 200 bytes long, more or less with what a contender adds of its own.
pub const PROFILE: &str = "Ada Lovelace, ada@example.org, 12 St James's Square, London; language en-GB, theme dark, \
                           time zone Europe/London, newsletter no, three items in the cart";
