//! `tower-keep schema`

use crate::{
    arguments::Schema,
    exit::{Exit, Refusal},
    open::open_unasked,
    output,
};

pub(crate) async fn run(arguments: Schema) -> anyhow::Result<Exit> {
    let store = open_unasked(&arguments.store.url).await?;
    match store.schema() {
        Some(schema) => output::line(schema.trim_end())?,
        None => return Err(Refusal::Lacks(format!("{} has no tables", store.kind())).into()),
    }
    Ok(Exit::Done)
}
