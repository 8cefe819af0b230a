//! The command line.

use std::num::NonZeroU16;

use clap::{Args, Parser, Subcommand, builder::NonEmptyStringValueParser};
use tower_keep::{Cursor, RecordId, UserId};

/// Looks after the sessions that tower-keep keeps in a store.
///
/// A store is named by its address:
///
///   postgres://USER:PASSWORD@HOST/DATABASE
///   mysql://USER:PASSWORD@HOST/DATABASE        MariaDB too
///   sqlite://PATH                              sqlite:///var/lib/app/sessions.db
///   redis://HOST                               Valkey too
///   redis+sentinel://HOST,HOST/NAME, redis+cluster://HOST,HOST
///   memcached://HOST,HOST
///   file:///FOLDER
///
/// What follows a # is the name of the table, or what the keys of Redis and memcached begin with, where
/// these are not the usual ones: postgres://HOST/DATABASE#auth.sessions
///
/// An address with a password belongs into the environment variable TOWER_KEEP_STORE rather than into the
/// command line, which other users of the machine can see. Passwords are never printed.
///
/// Sessions are named by the 64 hexadecimal digits of their record id. It is a hash of what is in the
/// cookie: nobody can take over a session with it.
#[derive(Debug, Parser)]
#[command(name = "tower-keep", version, after_long_help = EXIT_CODES, verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the tables in a database, or bring them up to date; safe to repeat
    Migrate(Migrate),
    /// Print the SQL statements that `migrate` runs
    Schema(Schema),
    /// Remove sessions that have expired
    ///
    /// They are never served, but take room. Redis and memcached let go of them by themselves. Ctrl-C stops
    /// it behind a batch.
    DeleteExpired(DeleteExpired),
    /// Count the live sessions
    ///
    /// Reads the whole store once, page by page. A session that is written meanwhile may be counted twice
    /// or not at all. Memory grows with the number of different users.
    Stats(Stats),
    /// List live sessions
    ///
    /// For people a table of at most --limit sessions; with --json one JSON object a line, of all sessions
    /// unless --limit says otherwise.
    List(List),
    /// Show one session as JSON; of its values only type and size
    Show(Show),
    /// End sessions: one, those of a user, or all
    ///
    /// It cannot be undone. Caches of applications that run may serve a session that was ended here for as
    /// long as they may be stale; see the documentation of the cache.
    Revoke(Revoke),
    /// Print a new secret for a keyring: 512 random bits as 86 characters of base64url
    Keygen(Keygen),
    /// Copy all live sessions from one store to another, or move them beside running applications
    ///
    /// A copy may be interrupted in any way and started again: what is there already is left as it is,
    /// unless the source has a newer revision of it. After Ctrl-C, or an error, it says how to go on from
    /// there with --after.
    ///
    /// A copy is a snapshot: stop the applications that use the source before it, or else a session that
    /// is ended there after it was copied comes back with the copy, and changes made meanwhile are missing
    /// from it.
    ///
    /// With --move the applications run on, all of them with `MigratingStore::new(to, from)` in the place
    /// of their store: each session is then taken out of the source and put into the destination, by the
    /// same steps as there, and nobody is logged out. Do not copy from a store that sessions are being
    /// moved from or to.
    ///
    /// Memory does not grow with the number of sessions.
    Copy(Copy),
    /// Check that a store is there and fit for sessions
    ///
    /// Makes, changes and ends a session of its own on the way, of the user `tower-keep doctor`. Of PostgreSQL,
    /// MySQL and Redis it reads the clock, of Redis also what it does when its memory is full, and whether it
    /// survives a crash. The exit code is 1 if a check has failed; a warning does not count.
    Doctor(Doctor),
}

#[derive(Args, Debug)]
pub(crate) struct Store {
    /// The address of the store
    #[arg(
        long = "store",
        value_name = "URL",
        env = "TOWER_KEEP_STORE",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) url: String,
}

#[derive(Args, Debug)]
pub(crate) struct Json {
    /// Print JSON, for programs
    #[arg(long = "json")]
    pub(crate) is_wanted: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Migrate {
    #[command(flatten)]
    pub(crate) store: Store,
    /// Print the statements instead of running them
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Schema {
    #[command(flatten)]
    pub(crate) store: Store,
}

#[derive(Args, Debug)]
pub(crate) struct DeleteExpired {
    #[command(flatten)]
    pub(crate) store: Store,
    /// Sessions to remove with one statement
    #[arg(long, value_name = "SESSIONS", default_value = "1000")]
    pub(crate) batch: NonZeroU16,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Stats {
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) store: Store,
    /// Only the sessions of this user
    #[arg(long, value_parser = user)]
    pub(crate) user: Option<UserId>,
    /// Sessions to list at most [default: 1000, with --json no limit]
    #[arg(long, value_name = "SESSIONS")]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The session: 64 hexadecimal digits, as `list` prints them
    #[arg(value_name = "ID")]
    pub(crate) id: RecordId,
    #[command(flatten)]
    pub(crate) store: Store,
    /// Show the values too; they may be private
    #[arg(long)]
    pub(crate) values: bool,
    /// Print the JSON on one line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Revoke {
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) which: Which,
    /// With --user: the session to keep, one of that user
    #[arg(long, value_name = "ID", conflicts_with_all = ["id", "all"])]
    pub(crate) keep: Option<RecordId>,
    /// Count what would be ended, and end nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask; needed for --user and --all where standard input is no terminal
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// End one session, by the 64 hexadecimal digits of its record id
    #[arg(long)]
    pub(crate) id: Option<RecordId>,
    /// End the sessions of a user
    #[arg(long, value_parser = user)]
    pub(crate) user: Option<UserId>,
    /// End every session
    ///
    /// The store is read again until no session is found that began before the command. A session that
    /// begins meanwhile may be ended or not.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Keygen {
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Copy {
    /// The store to read from
    #[arg(
        long,
        value_name = "URL",
        env = "TOWER_KEEP_FROM",
        hide_env_values = true
    )]
    pub(crate) from: String,
    /// The store to write to; run `migrate` on a database before
    #[arg(
        long,
        value_name = "URL",
        env = "TOWER_KEEP_TO",
        hide_env_values = true
    )]
    pub(crate) to: String,
    /// Go on behind this place in the source, as an interrupted run has printed it
    #[arg(long, value_name = "PLACE", value_parser = cursor)]
    pub(crate) after: Option<Cursor>,
    /// Sessions to read at a time
    #[arg(long, value_name = "SESSIONS", default_value = "1000")]
    pub(crate) page: NonZeroU16,
    /// Read each session back from the destination and compare all of it
    #[arg(long, conflicts_with = "moving")]
    pub(crate) verify: bool,
    /// Compare the stores, and write nothing
    #[arg(long, conflicts_with_all = ["verify", "moving"])]
    pub(crate) dry_run: bool,
    /// Move the sessions, beside applications that use `MigratingStore`
    #[arg(long = "move")]
    pub(crate) moving: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) json: Json,
}

fn user(written: &str) -> Result<UserId, String> {
    UserId::parse(written)
        .ok_or_else(|| "a user has 1 to 255 bytes and no control characters".to_owned())
}

fn cursor(written: &str) -> Result<Cursor, String> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(written.as_bytes());
    let bytes = bytes.map_err(|_| "a place is hexadecimal digits, two a byte".to_owned())?;
    Ok(Cursor::from_bytes(bytes))
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the answer is no: no such session, a check has failed, sessions were left out; or the output
       could not be written
  2    the command line is wrong, an address in it, or a confirmation is missing
  3    the store can not be reached, or can not do it now: it is down, or its disk is full
  4    the store refuses: a missing table, a missing right, or it can not do such a thing
  130  stopped by Ctrl-C; once lets work come to a good place, twice stops at once";
