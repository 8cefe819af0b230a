//! `tower-keep list`

use serde_json::json;
use tower_keep::{ScanSessions, StoredSession, UserId};

use crate::{
    arguments::List,
    exit::Exit,
    moment,
    open::{open, scan_of, users_of},
    output,
};

pub(crate) async fn run(arguments: List) -> anyhow::Result<Exit> {
    let store = open(&arguments.store.url).await?;
    let unless_told = if arguments.json.is_wanted {
        usize::MAX
    } else {
        ROWS_MAX
    };
    let mut list = Sessions {
        is_json: arguments.json.is_wanted,
        left: arguments.limit.unwrap_or(unless_told),
        rows: Vec::new(),
    };
    let is_whole = if let Some(user) = &arguments.user {
        let mut sessions = users_of(&store)?.sessions_of(user).await?;
        sessions.sort_unstable_by_key(|session| (session.record.created_at, session.id));
        list.take(sessions)?
    } else {
        list.read(&*scan_of(&store)?).await?
    };
    list.print()?;
    if !is_whole {
        output::complain("there are more; --limit says how many to list");
    }
    Ok(Exit::Done)
}

struct Sessions {
    is_json: bool,
    left: usize,
    rows: Vec<[String; 5]>,
}

impl Sessions {
    /// Answers whether there was room for all of them.
    async fn read(&mut self, scan: &dyn ScanSessions) -> anyhow::Result<bool> {
        let mut after = None;
        loop {
            let page = scan.scan(after.as_ref(), PAGE).await?;
            if !self.take(page.sessions)? {
                return Ok(false);
            }
            after = page.next;
            if after.is_none() {
                return Ok(true);
            }
        }
    }

    /// Answers whether there was room for all of them.
    fn take(&mut self, sessions: Vec<StoredSession>) -> anyhow::Result<bool> {
        for session in sessions {
            if self.left == 0 {
                return Ok(false);
            }
            self.left -= 1;
            match self.is_json {
                true => output::json(&document(&session))?,
                false => self.rows.push(row(&session)),
            }
        }
        Ok(true)
    }

    fn print(self) -> anyhow::Result<()> {
        if self.is_json {
            return Ok(());
        }
        output::rows(
            ["session", "user", "created, UTC", "expires, UTC", "bytes"],
            self.rows,
        )
    }
}

fn document(session: &StoredSession) -> serde_json::Value {
    let record = &session.record;
    json!({
        "id": session.id.to_hex(),
        "user": record.user.as_ref().map(UserId::as_str),
        "created_at": moment::rfc3339(record.created_at),
        "expires_at": moment::rfc3339(record.expires_at),
        "payload_bytes": record.payload.len(),
    })
}

fn row(session: &StoredSession) -> [String; 5] {
    let record = &session.record;
    [
        session.id.to_hex(),
        record.user.as_ref().map_or("-", UserId::as_str).to_owned(),
        moment::for_people(record.created_at),
        moment::for_people(record.expires_at),
        record.payload.len().to_string(),
    ]
}

/// More than a person reads; they are in memory at once.
const ROWS_MAX: usize = 1000;

const PAGE: usize = 1000;
