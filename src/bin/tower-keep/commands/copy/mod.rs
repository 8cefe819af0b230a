//! `tower-keep copy`

mod moving;
mod record;
mod tally;

use data_encoding::HEXLOWER;
use tower_keep::{Cursor, Page, ScanSessions, StoredSession, stores::OpenStore};

use self::{
    record::{Mode, carry_over},
    tally::Tally,
};
use crate::{
    arguments::Copy,
    concurrently::{self, at_once},
    exit::{Exit, Refusal},
    interrupt::Interrupt,
    open::{open, scan_of},
    progress::Progress,
    warnings,
};

pub(crate) async fn run(arguments: Copy, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    if arguments.from == arguments.to {
        let same = "--from and --to are the same store";
        return Err(Refusal::Usage(same.to_owned()).into());
    }
    let from = interrupt.or(open(&arguments.from)).await?;
    if arguments.after.is_some() && !has_places(&from) {
        let nowhere =
            "--after is for other stores: a place in Redis is gone with its process; begin again";
        return Err(Refusal::Usage(nowhere.to_owned()).into());
    }
    let to = interrupt.or(open(&arguments.to)).await?;
    let has_places = has_places(&from);
    let from = scan_of(&from)?;
    if arguments.moving {
        return moving::run(&arguments, from, to, has_places, interrupt).await;
    }
    let mode = match (arguments.dry_run, arguments.verify) {
        (true, _) => Mode::DryRun,
        (false, true) => Mode::Verify,
        (false, false) => Mode::Write,
    };
    let copying = Copying {
        to,
        mode,
        has_places,
        progress: Progress::new("read"),
        tally: Tally::default(),
    };
    copying.run(&*from, &arguments, interrupt).await
}

struct Copying {
    to: OpenStore,
    mode: Mode,
    has_places: bool,
    progress: Progress,
    tally: Tally,
}

impl Copying {
    async fn run(
        mut self,
        from: &dyn ScanSessions,
        arguments: &Copy,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Exit> {
        let limit = usize::from(arguments.page.get());
        // All before this place has been written.
        let mut place = arguments.after.clone();
        let stopped = self.pages(from, limit, &mut place, interrupt).await;
        drop(self.progress);
        let printed = self.tally.print(self.mode, arguments.json.is_wanted);
        let place = place.as_ref().filter(|_| self.has_places);
        stopped.map_err(|error| error.context(how_to_go_on(place)))?;
        printed?;
        Ok(match warnings::were_shown() {
            true => Exit::No,
            false => self.tally.exit(),
        })
    }

    async fn pages(
        &mut self,
        from: &dyn ScanSessions,
        limit: usize,
        place: &mut Option<Cursor>,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let mut page = from.scan(place.as_ref(), limit).await?;
        loop {
            let Page { sessions, next } = page;
            let Some(next) = next else {
                return self.write(sessions).await;
            };
            // The next page is read while this one is written.
            let (written, read) = tokio::join!(self.write(sessions), from.scan(Some(&next), limit));
            written?;
            *place = Some(next);
            if interrupt.is_requested() {
                return Err(Refusal::Interrupted("Ctrl-C".to_owned()).into());
            }
            page = read?;
        }
    }

    async fn write(&mut self, sessions: Vec<StoredSession>) -> anyhow::Result<()> {
        let count = sessions.len() as u64;
        let mode = self.mode;
        let outcomes = concurrently::each(sessions, at_once(&self.to), |session| {
            let to = self.to.clone();
            async move { Ok(carry_over(&to, &session, mode).await?) }
        });
        for outcome in outcomes.await? {
            self.tally.add(outcome);
        }
        self.progress.add(count);
        Ok(())
    }
}

fn how_to_go_on(place: Option<&Cursor>) -> String {
    match place {
        Some(place) => format!(
            "stopped (to go on, add --after {})",
            HEXLOWER.encode(place.as_bytes())
        ),
        None => "stopped (to go on, run it again)".to_owned(),
    }
}

/// Whether a place in the source is the same place when its server was started again.
fn has_places(from: &OpenStore) -> bool {
    from.kind() != "redis"
}
