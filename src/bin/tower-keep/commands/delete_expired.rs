//! `tower-keep delete-expired`

use serde_json::json;

use crate::{
    arguments::DeleteExpired,
    exit::{Exit, Refusal},
    interrupt::Interrupt,
    open::{open, sweep_of},
    output,
    progress::Progress,
};

pub(crate) async fn run(arguments: DeleteExpired, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let store = interrupt.or(open(&arguments.store.url)).await?;
    let Some(sweep) = sweep_of(&store) else {
        match arguments.json.is_wanted {
            true => output::json(&json!({ "deleted": 0 }))?,
            false => output::line(format!(
                "{} lets go of expired sessions by itself",
                store.kind()
            ))?,
        }
        return Ok(Exit::Done);
    };
    let batch = usize::from(arguments.batch.get());
    let progress = Progress::new("deleted");
    let mut deleted = 0;
    loop {
        let some = sweep.delete_expired(batch).await?;
        deleted += some;
        progress.add(some);
        if some < batch as u64 {
            break;
        }
        if interrupt.is_requested() {
            let so_far = format!("stopped after {deleted}; run it again for the rest");
            return Err(Refusal::Interrupted(so_far).into());
        }
    }
    drop(progress);
    match arguments.json.is_wanted {
        true => output::json(&json!({ "deleted": deleted }))?,
        false => output::line(format!("deleted: {deleted}"))?,
    }
    Ok(Exit::Done)
}
