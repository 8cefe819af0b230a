//! What only MySQL and MariaDB can be asked.

use sqlx::{Connection, MySqlConnection};

use tokio::time::timeout;

use super::{clock, finding::Finding};
use crate::open::CONNECT_TIMEOUT;

pub(super) async fn examine(url: &str) -> Vec<Finding> {
    let connected = timeout(CONNECT_TIMEOUT, MySqlConnection::connect(url)).await;
    let Ok(Ok(mut connection)) = connected else {
        return vec![clock::untold()];
    };
    let time = sqlx::query_scalar(TIME).fetch_one(&mut connection);
    vec![clock::compare::<sqlx::Error>(time).await]
}

const TIME: &str = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000 AS SIGNED)";
