//! What only PostgreSQL can be asked.

use sqlx::{Connection, PgConnection};

use tokio::time::timeout;

use super::{clock, finding::Finding};
use crate::open::CONNECT_TIMEOUT;

pub(super) async fn examine(url: &str) -> Vec<Finding> {
    let connected = timeout(CONNECT_TIMEOUT, PgConnection::connect(url)).await;
    let Ok(Ok(mut connection)) = connected else {
        return vec![clock::untold()];
    };
    let time = sqlx::query_scalar(TIME).fetch_one(&mut connection);
    vec![clock::compare::<sqlx::Error>(time).await]
}

const TIME: &str = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT";
