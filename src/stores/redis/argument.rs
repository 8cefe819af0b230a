//! Arguments of commands that are written there at once, without a string of their own before.

use std::io::Write;

use redis::{RedisWrite, ToRedisArgs};

use crate::record::Record;

/// A record as [`Record::to_bytes`].
pub(super) struct WholeRecord<'a> {
    pub(super) header: [u8; Record::HEADER_LEN],
    record: &'a Record,
}

impl<'a> WholeRecord<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        let header = record.header();
        Self { header, record }
    }
}

impl ToRedisArgs for WholeRecord<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        write_one(self.record.parts(&self.header), out);
    }
}

/// Writes one argument, of these parts.
pub(super) fn write_one<W: ?Sized + RedisWrite>(parts: [&[u8]; 3], out: &mut W) {
    let mut argument = out.writer_for_next_arg();
    for part in parts {
        // The memory of a command takes all.
        let _ = argument.write_all(part);
    }
}
