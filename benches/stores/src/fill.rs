//! Fills tables with sessions, by SQL alone.

use std::time::Duration;

use sqlx::{AssertSqlSafe, MySqlPool, PgPool, SqlitePool};

use crate::contender::{IDLE, PAYLOAD_LEN, USER, millis_from_now};

/// So many sessions, one in `share` of them alive; the others have expired within the last day. Alive and dead lie
/// next to each other, as in a table that has been used for long.
pub async fn postgres(pool: &PgPool, table: &str, sessions: usize, share: usize) {
    let [now, later] = times();
    let statement = format!(
        "INSERT INTO {table} SELECT sha256(int8send(n)), 1, substr(sha256(int8send(-n)), 1, 16), '{USER}' || n, {now}, \
         CASE WHEN n % {share} = 0 THEN {later} ELSE {now} - 1 - (random() * 86400000)::bigint END, {later}, \
         convert_to(repeat('x', {PAYLOAD_LEN}), 'UTF8') FROM generate_series(1, {sessions}) n"
    );
    sqlx::query(AssertSqlSafe(statement))
        .execute(pool)
        .await
        .expect("sessions");
    let analyze = format!("VACUUM ANALYZE {table}");
    sqlx::raw_sql(AssertSqlSafe(analyze))
        .execute(pool)
        .await
        .expect("statistics");
}

/// So many live sessions.
pub async fn mariadb(pool: &MySqlPool, table: &str, sessions: usize) {
    let [now, later] = times();
    let statement = format!(
        "INSERT INTO {table} SELECT UNHEX(SHA2(seq, 256)), 1, LEFT(UNHEX(SHA2(-seq, 256)), 16), \
         CONCAT('{USER}', seq), {now}, {later}, {later}, REPEAT('x', {PAYLOAD_LEN}) FROM seq_1_to_{sessions}"
    );
    sqlx::query(AssertSqlSafe(statement))
        .execute(pool)
        .await
        .expect("sessions");
    let analyze = format!("ANALYZE TABLE {table}");
    sqlx::raw_sql(AssertSqlSafe(analyze))
        .execute(pool)
        .await
        .expect("statistics");
}

/// So many live sessions.
pub async fn sqlite(pool: &SqlitePool, table: &str, sessions: usize) {
    let [now, later] = times();
    let statement = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {sessions}) \
         INSERT INTO {table} SELECT randomblob(32), 1, randomblob(16), '{USER}' || n, {now}, {later}, {later}, \
         CAST(replace(hex(zeroblob({PAYLOAD_LEN})), '00', 'x') AS BLOB) FROM numbers"
    );
    sqlx::query(AssertSqlSafe(statement))
        .execute(pool)
        .await
        .expect("sessions");
    sqlx::raw_sql("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(pool)
        .await
        .expect("statistics");
}

/// Now and when sessions end.
fn times() -> [i64; 2] {
    [Duration::ZERO, IDLE].map(millis_from_now)
}
