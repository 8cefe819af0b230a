//! What a request does with its session.

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Nothing, though it has a cookie.
    Untouched,
    /// Reads the number of visits.
    Read,
    /// Adds one to it.
    Increment,
}

impl Case {
    pub const ALL: [Self; 3] = [Self::Untouched, Self::Read, Self::Increment];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::Read => "read",
            Self::Increment => "increment",
        }
    }

    pub const fn path(self) -> &'static str {
        match self {
            Self::Untouched => "/untouched",
            Self::Read => "/read",
            Self::Increment => "/increment",
        }
    }
}
