//! What only MySQL and MariaDB can be asked.

use sqlx::{Connection, MySqlConnection};

use super::{clock, finding::Finding};

pub(super) async fn examine(url: &str) -> Vec<Finding> {
    let time = async {
        let mut connection = MySqlConnection::connect(url).await?;
        sqlx::query_scalar(TIME).fetch_one(&mut connection).await
    };
    vec![clock::compare::<sqlx::Error>(time).await]
}

const TIME: &str = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000 AS SIGNED)";
