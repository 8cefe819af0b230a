//! `tower-keep show`

use serde_json::{Map, Value, json};
use tower_keep::{Entry, SessionStore, StoredSession, UserId};

use crate::{
    arguments::Show,
    exit::{Exit, Refusal},
    moment,
    open::open,
    output,
};

pub(crate) async fn run(arguments: Show) -> anyhow::Result<Exit> {
    let store = open(&arguments.store.url).await?;
    let Some(record) = store.load(&arguments.id).await? else {
        return Err(Refusal::No("there is no live session of that id".to_owned()).into());
    };
    let session = StoredSession {
        id: arguments.id,
        record,
    };
    let shown = if arguments.values {
        value
    } else {
        type_and_size
    };
    let data = session.entries().map(|entries| {
        let entries = entries.map(|entry| (entry.key().to_owned(), shown(&entry)));
        entries.collect::<Map<_, _>>()
    });
    let is_readable = data.is_ok();
    let document = document(&session, data.as_ref().ok());
    match arguments.json {
        true => output::json(&document)?,
        false => output::line(serde_json::to_string_pretty(&document)?)?,
    }
    if !is_readable {
        let unreadable =
            "its data can not be read: it is encrypted, damaged, or of a newer version";
        return Err(Refusal::No(unreadable.to_owned()).into());
    }
    Ok(Exit::Done)
}

fn document(session: &StoredSession, data: Option<&Map<String, Value>>) -> Value {
    let record = &session.record;
    json!({
        "id": session.id.to_hex(),
        "user": record.user.as_ref().map(UserId::as_str),
        "created_at": moment::rfc3339(record.created_at),
        "expires_at": moment::rfc3339(record.expires_at),
        "absolute_deadline": moment::rfc3339(record.absolute_deadline),
        "revision": record.version.revision,
        "payload_bytes": record.payload.len(),
        "data": data,
    })
}

fn value(entry: &Entry) -> Value {
    serde_json::from_str(entry.json()).unwrap_or_default()
}

/// The size is that of the JSON text, in bytes.
fn type_and_size(entry: &Entry) -> Value {
    let kind = match value(entry) {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    json!({ "type": kind, "bytes": entry.json().len() })
}
