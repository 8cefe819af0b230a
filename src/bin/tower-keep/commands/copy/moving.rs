//! `tower-keep copy --move`

use std::sync::Arc;

use serde_json::json;
use tower_keep::{MigratingStore, ScanSessions, stores::OpenStore};

use super::how_to_go_on;
use crate::{
    arguments::Copy,
    exit::{Exit, Refusal},
    interrupt::Interrupt,
    output,
    progress::Progress,
    warnings,
};

pub(super) async fn run(
    arguments: &Copy,
    from: Arc<dyn ScanSessions>,
    to: OpenStore,
    has_places: bool,
    interrupt: &Interrupt,
) -> anyhow::Result<Exit> {
    let store = MigratingStore::new(to, from);
    let limit = usize::from(arguments.page.get());
    let progress = Progress::new("moved");
    let (mut moved, mut failed) = (0, 0);
    let mut place = arguments.after.clone();
    let stopped = loop {
        match store.move_sessions(place.as_ref(), limit).await {
            Ok(page) => {
                moved += page.moved;
                failed += page.failed;
                progress.add(page.moved as u64);
                if page.next.is_none() {
                    break Ok(());
                }
                place = page.next;
            }
            Err(error) => break Err(error.into()),
        }
        if interrupt.is_requested() {
            break Err(Refusal::Interrupted("Ctrl-C".to_owned()).into());
        }
    };
    drop(progress);
    let printed = match arguments.json.is_wanted {
        true => output::json(&json!({ "moved": moved, "failed": failed })),
        false => output::pairs([
            ("moved", moved.to_string()),
            ("not taken", failed.to_string()),
        ]),
    };
    let place = place.as_ref().filter(|_| has_places);
    stopped.map_err(|error: anyhow::Error| error.context(how_to_go_on(place)))?;
    printed?;
    // What was left out is still where it was.
    Ok(match failed > 0 || warnings::were_shown() {
        true => Exit::No,
        false => Exit::Done,
    })
}
