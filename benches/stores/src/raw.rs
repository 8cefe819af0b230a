//! The floor: the statements that have to be, sent by nothing but the driver.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{Pool, Row};

use crate::contender::{Contender, IDLE, PAYLOAD_LEN, USER, id_of, millis_from_now, token_of};

/// One's own few lines of sqlx over a table with the same columns and indexes.
pub struct Raw<Db: sqlx::Database> {
    pool: Pool<Db>,
    insert: &'static str,
    select: &'static str,
    update: &'static str,
    delete: &'static str,
    revisions: Vec<AtomicI64>,
    payload: Vec<u8>,
}

impl<Db: sqlx::Database> Raw<Db> {
    /// `parameter` writes the nth one.
    pub fn new(
        pool: Pool<Db>,
        table: &str,
        sessions: usize,
        parameter: fn(usize) -> String,
    ) -> Self {
        let columns =
            "id, revision, token, user_id, created_at, expires_at, absolute_deadline, payload";
        let text = |text: String| -> &'static str {
            let mut parts = text.split('?');
            let first = parts.next().unwrap_or_default().to_owned();
            let text = parts
                .enumerate()
                .fold(first, |text, (n, part)| text + &parameter(n + 1) + part);
            text.leak()
        };
        Self {
            pool,
            insert: text(format!(
                "INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            )),
            select: text(format!("SELECT {columns} FROM {table} WHERE id = ?")),
            update: text(format!(
                "UPDATE {table} SET revision = ?, token = ?, user_id = ?, created_at = ?, expires_at = ?, \
                 absolute_deadline = ?, payload = ? WHERE id = ? AND revision = ? AND token = ?"
            )),
            delete: text(format!("DELETE FROM {table} WHERE id = ?")),
            revisions: (0..sessions).map(|_| AtomicI64::new(1)).collect(),
            payload: vec![b'x'; PAYLOAD_LEN],
        }
    }
}

/// The drivers' traits can be written once for all of them only with a page of bounds.
macro_rules! contender {
    ($db:ty) => {
        #[async_trait]
        impl Contender for Raw<$db> {
            async fn create(&self, number: usize) {
                let done = sqlx::query(self.insert)
                    .bind(&id_of(number)[..])
                    .bind(1_i64)
                    .bind(&token_of(1)[..])
                    .bind(USER)
                    .bind(millis_from_now(Duration::ZERO))
                    .bind(millis_from_now(IDLE))
                    .bind(millis_from_now(2 * IDLE))
                    .bind(&self.payload)
                    .execute(&self.pool)
                    .await;
                assert_eq!(done.expect("an insert").rows_affected(), 1);
            }

            async fn load(&self, number: usize) {
                let row = sqlx::query(self.select)
                    .bind(&id_of(number)[..])
                    .fetch_optional(&self.pool)
                    .await;
                let payload: Vec<u8> = row.expect("a select").expect("a row").get(7);
                assert_eq!(payload.len(), PAYLOAD_LEN);
            }

            async fn update(&self, number: usize) {
                let seen = self.revisions[number].fetch_add(1, Ordering::Relaxed);
                let done = sqlx::query(self.update)
                    .bind(seen + 1)
                    .bind(&token_of(seen + 1)[..])
                    .bind(USER)
                    .bind(millis_from_now(Duration::ZERO))
                    .bind(millis_from_now(IDLE))
                    .bind(millis_from_now(2 * IDLE))
                    .bind(&self.payload)
                    .bind(&id_of(number)[..])
                    .bind(seen)
                    .bind(&token_of(seen)[..])
                    .execute(&self.pool)
                    .await;
                assert_eq!(done.expect("an update").rows_affected(), 1);
            }

            async fn delete(&self, number: usize) {
                let done = sqlx::query(self.delete)
                    .bind(&id_of(number)[..])
                    .execute(&self.pool)
                    .await;
                assert_eq!(done.expect("a delete").rows_affected(), 1);
            }
        }
    };
}
contender!(sqlx::Postgres);
contender!(sqlx::MySql);
contender!(sqlx::Sqlite);
