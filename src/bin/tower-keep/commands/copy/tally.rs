//! How many sessions a copy has brought over.

use serde_json::json;

use super::record::{Mode, Outcome};
use crate::{exit::Exit, output};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    created: u64,
    updated: u64,
    present: u64,
    left_alone: u64,
    expired: u64,
    failed: u64,
    different: u64,
}

impl Tally {
    pub(super) fn add(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Created => &mut self.created,
            Outcome::Updated => &mut self.updated,
            Outcome::Present => &mut self.present,
            Outcome::LeftAlone => &mut self.left_alone,
            Outcome::Expired => &mut self.expired,
            Outcome::Failed => &mut self.failed,
            Outcome::Different => &mut self.different,
        };
        *count += 1;
    }

    pub(super) fn print(&self, mode: Mode, is_json: bool) -> anyhow::Result<()> {
        if is_json {
            return output::json(&json!({
                "dry_run": mode == Mode::DryRun,
                "verified": mode == Mode::Verify,
                "created": self.created,
                "updated": self.updated,
                "present": self.present,
                "left_alone": self.left_alone,
                "expired": self.expired,
                "failed": self.failed,
                "different": self.different,
            }));
        }
        let (created, updated) = match mode {
            Mode::DryRun => ("would be created", "would be updated"),
            Mode::Write | Mode::Verify => ("created", "updated"),
        };
        output::pairs([
            (created, self.created.to_string()),
            (updated, self.updated.to_string()),
            ("already there", self.present.to_string()),
            ("newer there, left alone", self.left_alone.to_string()),
            ("expired meanwhile", self.expired.to_string()),
            ("not taken", self.failed.to_string()),
            ("not the same when read back", self.different.to_string()),
        ])
    }

    pub(super) fn exit(&self) -> Exit {
        match self.failed + self.different {
            0 => Exit::Done,
            _ => Exit::No,
        }
    }
}
