//! What is measured.

/// One kind of request.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    /// The route that is asked:
    ///
    /// | route | does |
    /// |---|---|
    /// | `/ignored` | answers a constant and does not ask for the session |
    /// | `/read` | answers the number under `visits` |
    /// | `/increment` | adds one to the number under `visits`, and answers it |
    /// | `/fill/{keys}` | puts 0 under `visits`, and so many less one [`preferences`] |
    pub path: &'static str,
    /// How many keys the client's session holds; `None` for a client without a cookie.
    pub keys: Option<usize>,
}

/// All cases, in the order in which they are told.
pub const CASES: [Case; 7] = [
    Case::new("no cookie, ignored", "/ignored", None),
    Case::new("cookie, ignored", "/ignored", Some(1)),
    Case::new("read one key of 1", "/read", Some(1)),
    Case::new("increment one key of 1", "/increment", Some(1)),
    Case::new("new session", "/increment", None),
    Case::new("read one key of 50", "/read", Some(50)),
    Case::new("increment one key of 50", "/increment", Some(50)),
];

impl Case {
    const fn new(name: &'static str, path: &'static str, keys: Option<usize>) -> Self {
        Self { name, path, keys }
    }
}

/// What else a session of so many keys holds; with 50 keys it is 4 KiB in all.
pub fn preferences(keys: usize) -> impl Iterator<Item = (String, String)> {
    (1..keys).map(|n| (format!("preference.{n:02}"), "x".repeat(PREFERENCE_LEN)))
}

/// 50 keys of 13 bytes with values of this length, quotes and colons around them.
pub const PREFERENCE_LEN: usize = 65;
