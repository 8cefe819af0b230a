//! What a check has found.

use serde::Serialize;

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    #[serde(rename = "result")]
    pub(super) level: Level,
    pub(super) check: &'static str,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// It works, and may not do what is expected of it.
    Warn,
    Fail,
}

impl Level {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

impl Finding {
    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        let (level, text) = (Level::Ok, text.into());
        Self { level, check, text }
    }

    pub(super) fn warn(check: &'static str, text: impl Into<String>) -> Self {
        let (level, text) = (Level::Warn, text.into());
        Self { level, check, text }
    }

    pub(super) fn fail(check: &'static str, text: impl Into<String>) -> Self {
        let (level, text) = (Level::Fail, text.into());
        Self { level, check, text }
    }
}
