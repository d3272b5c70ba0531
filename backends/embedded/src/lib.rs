//! Stores of guests' data that need no server: in a SQLite file, and in memory.
//!
//! Both are a [`KeyValue`](runtime_pool::KeyValue). They know nothing of owners, of grants or of HTTP, and
//! read no clock: the time comes from the [`Clock`] that they are given. This is the only crate that uses
//! rusqlite. `rules` decides what both have to decide alike. Start reading at [`Sqlite`].

#![forbid(unsafe_code)]

mod memory;
mod rules;
mod sqlite;

pub use crate::{
    memory::Memory,
    rules::Clock,
    sqlite::{FILE_NAME, OpenError, Sqlite, SqliteState},
};
