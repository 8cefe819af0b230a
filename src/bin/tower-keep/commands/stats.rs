//! `tower-keep stats`

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};
use tower_keep::{Record, Timestamp, UserId};

use crate::{
    arguments::Stats,
    exit::Exit,
    moment,
    open::{open, scan_of},
    output,
    progress::Progress,
};

pub(crate) async fn run(arguments: Stats) -> anyhow::Result<Exit> {
    let scan = scan_of(&open(&arguments.store.url).await?)?;
    let progress = Progress::new("read");
    let mut counts = Counts::default();
    let mut after = None;
    loop {
        let page = scan.scan(after.as_ref(), PAGE).await?;
        progress.add(page.sessions.len() as u64);
        for session in page.sessions {
            counts.add(session.record);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    drop(progress);
    match arguments.json.is_wanted {
        true => output::json(&counts.document())?,
        false => counts.print()?,
    }
    Ok(Exit::Done)
}

#[derive(Debug, Default)]
struct Counts {
    sessions: u64,
    with_user: u64,
    users: HashSet<UserId>,
    /// How many payloads have which size, in bytes.
    sizes: BTreeMap<usize, u64>,
    oldest: Option<Timestamp>,
    next_to_expire: Option<Timestamp>,
}

impl Counts {
    fn add(&mut self, record: Record) {
        self.sessions += 1;
        *self.sizes.entry(record.payload.len()).or_default() += 1;
        self.oldest = Some(earlier(self.oldest, record.created_at));
        self.next_to_expire = Some(earlier(self.next_to_expire, record.expires_at));
        if let Some(user) = record.user {
            self.with_user += 1;
            self.users.insert(user);
        }
    }

    /// The smallest size that at least half of the payloads do not exceed.
    fn median(&self) -> Option<usize> {
        let mut so_far = 0;
        let middle = self.sizes.iter().find(|(_, count)| {
            so_far += **count;
            so_far * 2 >= self.sessions
        });
        middle.map(|(size, _)| *size)
    }

    fn bytes(&self) -> u64 {
        let sizes = self.sizes.iter();
        sizes.map(|(size, count)| *size as u64 * count).sum()
    }

    fn document(&self) -> Value {
        json!({
            "sessions": self.sessions,
            "with_user": self.with_user,
            "without_user": self.sessions - self.with_user,
            "users": self.users.len(),
            "payload_bytes": {
                "min": self.sizes.keys().next(),
                "median": self.median(),
                "max": self.sizes.keys().next_back(),
                "total": self.bytes(),
            },
            "oldest": self.oldest.map(moment::rfc3339),
            "next_to_expire": self.next_to_expire.map(moment::rfc3339),
        })
    }

    fn print(&self) -> anyhow::Result<()> {
        let size = |size: Option<usize>| size.map_or_else(none, |size| size.to_string());
        let time = |time: Option<Timestamp>| time.map_or_else(none, moment::for_people);
        output::pairs([
            ("sessions", self.sessions.to_string()),
            ("with a user", self.with_user.to_string()),
            (
                "without a user",
                (self.sessions - self.with_user).to_string(),
            ),
            ("users", self.users.len().to_string()),
            (
                "smallest payload, bytes",
                size(self.sizes.keys().next().copied()),
            ),
            ("median payload, bytes", size(self.median())),
            (
                "largest payload, bytes",
                size(self.sizes.keys().next_back().copied()),
            ),
            ("all payloads, bytes", self.bytes().to_string()),
            ("oldest, UTC", time(self.oldest)),
            ("next to expire, UTC", time(self.next_to_expire)),
        ])
    }
}

fn earlier(known: Option<Timestamp>, time: Timestamp) -> Timestamp {
    known.map_or(time, |known| known.min(time))
}

fn none() -> String {
    "-".to_owned()
}

const PAGE: usize = 1000;
