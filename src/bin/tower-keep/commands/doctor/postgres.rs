//! What only PostgreSQL can be asked.

use sqlx::{Connection, PgConnection};

use super::{clock, finding::Finding};

pub(super) async fn examine(url: &str) -> Vec<Finding> {
    let time = async {
        let mut connection = PgConnection::connect(url).await?;
        sqlx::query_scalar(TIME).fetch_one(&mut connection).await
    };
    vec![clock::compare::<sqlx::Error>(time).await]
}

const TIME: &str = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT";
