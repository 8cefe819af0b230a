//! The stores that come with the crate.

#[cfg(all(feature = "file", unix))]
mod file;
#[cfg(feature = "memory")]
mod memory;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;

#[cfg(all(feature = "file", unix))]
pub use file::FileStore;
#[cfg(feature = "memory")]
pub use memory::MemoryStore;
#[cfg(feature = "mysql")]
pub use sql::MySqlStore;
#[cfg(feature = "postgres")]
pub use sql::PostgresStore;
#[cfg(feature = "sqlite")]
pub use sql::SqliteStore;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use sql::{SqlStore, TableName, TableNameError};
