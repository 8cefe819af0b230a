//! `tower-keep keygen`

use serde_json::json;
use tower_keep::Keyring;

use crate::{arguments::Keygen, exit::Exit, output};

pub(crate) fn run(arguments: &Keygen) -> anyhow::Result<Exit> {
    let secret = Keyring::generate_secret()?;
    match arguments.json.is_wanted {
        true => output::json(&json!({ "secret": secret }))?,
        false => output::line(secret)?,
    }
    Ok(Exit::Done)
}
