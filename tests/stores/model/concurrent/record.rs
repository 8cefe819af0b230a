//! What is written down of a request, to be judged when all is over.

use std::collections::BTreeMap;

use super::script::Plan;
use crate::model::world::Cookie;

/// One request, from its start to its answer. Times are counted in events, not in seconds.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) number: usize,
    pub(super) client: usize,
    pub(super) plan: Plan,
    pub(super) presented: Option<String>,
    pub(super) started: usize,
    pub(super) loaded: Option<Loaded>,
    /// The handler has asked for the session to be ended.
    pub(super) flushed: bool,
    /// What the handler has done since to what is to be committed.
    pub(super) deeds: Vec<Deed>,
    /// When the handler answered: what it did is committed after that, whether or not the client
    /// waits for it.
    pub(super) finished: Option<usize>,
    pub(super) answer: Option<Answered>,
}

#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) at: usize,
    /// `None` for a client without a session.
    pub(super) view: Option<View>,
}

#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) at: usize,
    pub(super) status: u16,
    pub(super) cookie: Cookie,
}

/// All that a session shows.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) life: Life,
    pub(super) user: Option<String>,
    pub(super) count: u64,
    pub(super) marks: Vec<String>,
    /// By client.
    pub(super) own: BTreeMap<usize, String>,
}

#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// Began a session.
    Begin(Life),
    Mark {
        life: Life,
        mark: String,
    },
    /// Put a value under the client's own key, or removed it.
    Own {
        life: Life,
        value: Option<String>,
    },
    /// Asked for a new id.
    Rotate,
    Clear(Life),
}

/// Whose data it is. It lies in the session itself, as a canary.
///
/// A session begins with its first life. Another begins where another user logs in, and nothing of
/// the one before may be seen in it. The session is the same in the store, under another id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    pub(super) session: String,
    pub(super) life: String,
}

impl Life {
    pub(super) fn first(name: String) -> Self {
        Self {
            session: name.clone(),
            life: name,
        }
    }

    /// Another user's, in the same session.
    pub(super) fn after(&self, name: String) -> Self {
        Self {
            session: self.session.clone(),
            life: name,
        }
    }

    pub(super) fn canary(&self) -> String {
        format!("{}/{}", self.session, self.life)
    }

    pub(super) fn parse(canary: &str) -> Self {
        let (session, life) = canary.split_once('/').unwrap();
        Self {
            session: session.into(),
            life: life.into(),
        }
    }
}

impl Deed {
    pub(super) fn begun(&self) -> Option<&Life> {
        match self {
            Self::Begin(life) => Some(life),
            Self::Mark { .. } | Self::Own { .. } | Self::Rotate | Self::Clear(_) => None,
        }
    }

    pub(super) fn mark(&self) -> Option<(&Life, &String)> {
        match self {
            Self::Mark { life, mark } => Some((life, mark)),
            Self::Begin(_) | Self::Own { .. } | Self::Rotate | Self::Clear(_) => None,
        }
    }

    /// What is under the client's own key after it.
    pub(super) fn own(&self) -> Option<(&Life, Option<&String>)> {
        match self {
            Self::Own { life, value } => Some((life, value.as_ref())),
            Self::Begin(_) | Self::Mark { .. } | Self::Rotate | Self::Clear(_) => None,
        }
    }

    pub(super) fn cleared(&self) -> Option<&Life> {
        match self {
            Self::Clear(life) => Some(life),
            Self::Begin(_) | Self::Mark { .. } | Self::Own { .. } | Self::Rotate => None,
        }
    }
}

impl Record {
    /// What the handler did was to be committed.
    pub(super) fn is_effective(&self) -> bool {
        self.finished.is_some() && self.plan.status < 500
    }

    /// Whether the client had its answer before that.
    pub(super) fn is_answered_before(&self, time: usize) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.at < time)
    }

    pub(super) fn view(&self) -> Option<&View> {
        self.loaded.as_ref()?.view.as_ref()
    }

    /// The id under which the changes were to be written over what is there.
    pub(super) fn target(&self) -> Option<&str> {
        let live = self.view().is_some() && !self.flushed;
        self.presented.as_deref().filter(|_| live)
    }

    /// Whether it was to put another id in place of this one.
    pub(super) fn rotates(&self, id: &str) -> bool {
        let asked = || self.deeds.iter().any(|deed| matches!(deed, Deed::Rotate));
        self.is_effective() && self.target() == Some(id) && asked()
    }

    /// Whether the client had its answer before that request began to commit.
    pub(super) fn is_answered_before_commit_of(&self, other: &Self) -> bool {
        let finished = other.finished.unwrap_or(other.started);
        self.is_answered_before(finished)
    }

    /// Whether it was to end the session of this id.
    pub(super) fn ends(&self, id: &str) -> bool {
        self.flushed && self.presented.as_deref() == Some(id)
    }

    /// The session that it leaves behind, as far as it knows.
    pub(super) fn session(&self) -> Option<&str> {
        let begun = self
            .deeds
            .iter()
            .find_map(|deed| Some(&deed.begun()?.session));
        let found = || Some(&self.view().filter(|_| !self.flushed)?.life.session);
        begun.or_else(found).map(String::as_str)
    }
}
