//! `tower-keep migrate`

use serde_json::json;

use crate::{
    arguments::Migrate,
    exit::Exit,
    open::{open_unasked, open_without_table},
    output,
};

pub(crate) async fn run(arguments: Migrate) -> anyhow::Result<Exit> {
    if arguments.dry_run {
        let store = open_unasked(&arguments.store.url).await?;
        let schema = store.schema();
        match (arguments.json.is_wanted, schema) {
            (true, schema) => output::json(&json!({ "store": store.kind(), "would_run": schema }))?,
            (false, Some(schema)) => output::line(schema.trim_end())?,
            (false, None) => output::line(without_tables(store.kind()))?,
        }
        return Ok(Exit::Done);
    }
    let store = open_without_table(&arguments.store.url).await?;
    store.migrate().await?;
    let has_tables = store.schema().is_some();
    match (arguments.json.is_wanted, has_tables) {
        (true, _) => output::json(&json!({ "store": store.kind(), "tables": has_tables }))?,
        (false, true) => output::line("the tables are up to date")?,
        (false, false) => output::line(without_tables(store.kind()))?,
    }
    Ok(Exit::Done)
}

fn without_tables(store: &str) -> String {
    format!("{store} has no tables; there is nothing to do")
}
